//! End of a line in a shell: its exit code and output, or why there is none.

use alloc::boxed::Box;
use core::fmt;

use crate::error::{CommandError, WaitError};
use crate::outcome::{Outcome, write_block};
use crate::procedure::ProcedureError;
use crate::text::UntrustedText;

/// End of a line that a shell has executed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShellEnd {
    /// The exit code of the line, the value of `$?`: 0 for success, 128 and the number of a signal for a program
    /// that it ended (POSIX, Shell Command Language, Exit Status for Commands).
    pub code: u8,
    /// Output of the line, on stdout and stderr, as far as both are the console: without the echo, without escape
    /// sequences, NUL and BEL, without the messages that the kernel printed meanwhile, and with line feeds as line ends.
    /// Several carriage returns become one, and invalid UTF-8 is replaced. Lines that begin with a time later than that of
    /// the latest kernel message, as `dmesg` may print them, are among the messages.
    pub output: UntrustedText,
    /// The messages that the kernel printed on the console meanwhile, each on a line, without their time stamps: the latest
    /// 64 KiB.
    pub messages: UntrustedText,
    /// Number of bytes at the beginning of the output that were left out: beyond
    /// [`Shell::output_limit`](super::Shell::output_limit), or evicted from the console before they were read
    /// ([`Limits::console`](crate::Limits::console)). Evicted bytes may be missing in the middle as well, and they are
    /// counted with the echo and the messages among them.
    pub left_out: u64,
}

impl ShellEnd {
    /// Returns whether the exit code is 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == 0
    }
}

/// Why a line in a shell has no exit code. Every variant except [`Procedure`](Self::Procedure) contains the last console
/// output, without escape sequences and without time stamps: at most 60 lines, in at most 8 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShellError {
    /// The kernel panicked (`Kernel panic - not syncing`).
    Panicked {
        /// The reason, as the kernel gives it.
        reason: UntrustedText,
        /// The end of the console, with the backtrace if it was printed within two seconds.
        console: UntrustedText,
    },
    /// The kernel reported an oops or a bug (`BUG: …`, `Oops: …` and the like), and did not panic. The line may have ended
    /// all the same.
    Oops {
        /// The first line of the report.
        reason: UntrustedText,
        /// The end of the console, with the backtrace if it was printed within two seconds.
        console: UntrustedText,
    },
    /// The deadline passed. The line may still run: `console_write` with `\x03` (Ctrl-C) interrupts it.
    TimedOut {
        /// How far the shell came.
        progress: ShellProgress,
        /// The end of the console.
        console: UntrustedText,
    },
    /// The guest was reset.
    Reset {
        /// The end of the console.
        console: UntrustedText,
    },
    /// No shell reads the console: it asks a user to log in. Log in with [`Typing`](crate::procedure::Typing) and waits for
    /// text, or boot the guest with a shell on the console.
    NoShell {
        /// Text on the console: `host login: `.
        prompt: UntrustedText,
        /// The end of the console.
        console: UntrustedText,
    },
    /// The shell ended, without a marker: another shell reads the console, or a user must log in.
    Exited {
        /// The end of the console.
        console: UntrustedText,
    },
    /// The machine ended.
    Ended {
        /// How the machine ended.
        outcome: Box<Outcome>,
        /// The end of the console.
        console: UntrustedText,
    },
    /// A step failed: there is no such console, its input is full, or the call was cancelled.
    Procedure(ProcedureError),
}

/// How far a shell came with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShellProgress {
    /// There was no prompt, so nothing was typed.
    NoPrompt,
    /// The line was typed, and the shell has not begun to execute it.
    Typed,
    /// The shell has begun to execute the line.
    Begun,
}

impl ShellError {
    /// Returns what the console printed last. `None` means that a step failed.
    #[must_use]
    pub fn console(&self) -> Option<&UntrustedText> {
        match self {
            Self::Panicked { console, .. }
            | Self::Oops { console, .. }
            | Self::TimedOut { console, .. }
            | Self::Reset { console }
            | Self::NoShell { console, .. }
            | Self::Exited { console }
            | Self::Ended { console, .. } => Some(console),
            Self::Procedure(_) => None,
        }
    }
}

/// Writes the reason on one line, and the last lines of the console below it.
impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { reason, .. } => write!(f, "the kernel panicked: {reason}"),
            Self::Oops { reason, .. } => write!(f, "the kernel reported: {reason}"),
            Self::TimedOut { progress, .. } => write!(f, "the deadline passed, {progress}"),
            Self::Reset { .. } => f.write_str("the guest was reset"),
            Self::NoShell { prompt, .. } => write!(f, "no shell reads the console: it shows `{prompt}`"),
            Self::Exited { .. } => f.write_str("the shell ended: another one reads the console, or a login"),
            Self::Ended { outcome, .. } => write!(f, "the machine ended: {}", outcome.cause),
            Self::Procedure(error) => write!(f, "{error}"),
        }?;
        self.console().map_or(Ok(()), |console| write_block(f, "the console printed", console))
    }
}

impl fmt::Display for ShellProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPrompt => {
                "and the console shows no prompt of a shell (`Shell::prompts` names others than `# ` and `$ `)"
            }
            Self::Typed => "and the shell has not begun to execute the line",
            Self::Begun => "and the line has not ended",
        })
    }
}

impl core::error::Error for ShellError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Procedure(error) = self { Some(error) } else { None }
    }
}

impl From<CommandError> for ShellError {
    fn from(error: CommandError) -> Self {
        Self::Procedure(error.into())
    }
}

impl From<WaitError> for ShellError {
    fn from(error: WaitError) -> Self {
        Self::Procedure(error.into())
    }
}

//! Decides what can go wrong, sorted by whose fault it is.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::command::Payload;
use crate::command_line::CommandLine;
use crate::lifecycle::Phase;
use crate::outcome::Outcome;

/// The caller's fault: the call made no sense, and nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A machine is launched once in each life.
    #[error("the machine is launched already")]
    AlreadyLaunched,
    /// The process of the last life survived SIGKILL, and its end was not reported yet.
    #[error("the process of the last life is still there")]
    NotReaped,
    /// The call needs a machine that was launched.
    #[error("the machine was not launched")]
    NotLaunched,
    /// The call needs a machine that still lives.
    #[error("the machine has ended")]
    Ended,
    /// The machine was configured without a monitor.
    #[error("the machine has no monitor")]
    NoMonitor,
    /// QMP wants an object (or nothing) as arguments; something else was given, or it could not be written as JSON.
    #[error("arguments of `{command}`: {problem}")]
    Arguments {
        /// The command.
        command: String,
        /// What is wrong with its arguments.
        problem: String,
    },
    /// A raw command must be one JSON object without an `id` of its own.
    #[error("raw command: {0}")]
    Raw(String),
    /// The command wants to go out of band, and that was not negotiated.
    #[error("`{0}` is to go out of band, which the monitor did not offer")]
    NoOutOfBand(String),
    /// As many commands as [`Limits::commands`](crate::Limits::commands) are waiting for their end.
    #[error("more than {0} commands at once")]
    TooManyCommands(usize),
    /// There is no console of that name.
    #[error("no console is named `{0}`")]
    UnknownConsole(String),
    /// More was written to a console than QEMU takes, and [`Limits::console_input`](crate::Limits::console_input)
    /// is full.
    #[error("more than {0} bytes are waiting to be typed on the console")]
    ConsoleInputFull(usize),
    /// A wait for nothing, or for an empty text.
    #[error("waiting for nothing would never end")]
    EmptyWait,
    /// The configuration cannot become a command line.
    #[error("configuration: {0}")]
    Config(String),
}

/// QEMU's answer to a command that it did not carry out, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {description}")]
pub struct Refusal {
    /// The class of the error; the set is open (`GenericError`, `CommandNotFound`, `DeviceNotFound`, …).
    pub class: String,
    /// The description, for people. QEMU changes its wording between versions.
    pub description: String,
}

/// The peer's fault: it said what QMP does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message was not a JSON object.
    #[error("not a QMP message ({reason}): {excerpt}")]
    Malformed {
        /// What the parser says.
        reason: String,
        /// The first bytes of it.
        excerpt: String,
    },
    /// A message is longer than [`Limits::message`](crate::Limits::message).
    #[error("a message is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A reply came where the greeting was due.
    #[error("expected the greeting, got: {excerpt}")]
    NoGreeting {
        /// The first bytes of what came.
        excerpt: String,
    },
}

/// The host's fault: an operation of the operating system failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation}: {reason}")]
pub struct HostFault {
    /// What was tried, to be read after "cannot".
    pub operation: String,
    /// The error number of the operating system; 0 where there is none.
    pub errno: i32,
    /// What the operating system says about it.
    pub reason: String,
}

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The caller's fault; nothing was sent.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// QEMU refused the command.
    #[error(transparent)]
    Refused(Refusal),
    /// The reply broke the protocol; what the command did is unknown.
    #[error(transparent)]
    Broken(ProtocolError),
    /// The reply is valid QMP, but not of the type that the command names.
    #[error("unexpected reply: {reason}")]
    Unexpected {
        /// Where it differs.
        reason: String,
        /// The reply as it came.
        reply: Payload,
    },
    /// The monitor was closed before the reply came.
    #[error("the monitor was closed {0}")]
    Disconnected(Progress),
    /// The deadline passed before the reply came.
    #[error("no reply within the deadline, {0}")]
    TimedOut(Progress),
}

/// How far a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// QEMU was not told: the command had no effect.
    Unsent,
    /// It was sent, or handed over for sending: what it did is unknown.
    Sent,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent => "before the command was sent",
            Self::Sent => "after the command was sent",
        })
    }
}

/// What kept a machine from becoming ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchFailure {
    /// The host could not make what is needed, start the program or open the monitor.
    #[error(transparent)]
    Host(HostFault),
    /// The process ended by itself.
    #[error("QEMU ended {0}")]
    Exited(Phase),
    /// The monitor was closed, and the process did not end within the grace that it was given.
    #[error("QEMU closed its monitor {0}, but did not end")]
    Hung(Phase),
    /// The deadline of the launch passed.
    #[error("the deadline passed {0}")]
    TimedOut(Phase),
    /// The peer on the monitor does not speak QMP.
    #[error("the monitor broke the protocol: {0}")]
    Broken(ProtocolError),
    /// QEMU refused the negotiation.
    #[error("capabilities negotiation was refused: {0}")]
    Refused(Refusal),
    /// The caller ended the machine before it was ready.
    #[error("ended by the caller {0}")]
    Cancelled(Phase),
}

/// Why a launch failed, with everything that is known about the life that ended there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// The caller's fault; nothing was started.
    Misuse(Misuse),
    /// The machine did not become ready. Everything is cleaned up.
    Failed {
        /// What kept it.
        failure: LaunchFailure,
        /// How that life ended: exit status, last words, command line.
        outcome: Box<Outcome>,
    },
}

impl LaunchError {
    /// The error of a launch that did not come as far as a process: the host lacks something.
    #[must_use]
    pub fn not_started(fault: HostFault, command_line: &CommandLine) -> Self {
        let outcome = Box::new(Outcome::not_started(command_line.clone()));
        Self::Failed { failure: LaunchFailure::Host(fault), outcome }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(misuse) => write!(f, "launch: {misuse}"),
            Self::Failed { failure, outcome } => {
                writeln!(f, "launch failed: {failure}")?;
                outcome.write_details(f)
            }
        }
    }
}

impl core::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Misuse(misuse) => Some(misuse),
            Self::Failed { failure, .. } => Some(failure),
        }
    }
}

impl From<Misuse> for LaunchError {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Why a wait did not find what it waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The caller's fault.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The deadline passed first.
    #[error("nothing that was waited for came within the deadline")]
    TimedOut,
    /// The machine ended first; nothing more can come.
    #[error("the machine ended first: {0}")]
    Ended(Box<Outcome>),
    /// The monitor was closed, and only events were waited for.
    #[error("the monitor was closed: no event can come any more")]
    Disconnected,
}

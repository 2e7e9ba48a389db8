//! End of a companion, as the outcome of a run and a wait report it.

use alloc::string::String;

use crate::command_line::CommandLine;
use crate::input::ExitStatus;
use crate::text::UntrustedText;

/// End of a [companion](crate::Config::companion).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompanionEnd {
    /// The name of the companion.
    pub name: String,
    /// How it ended. `None` means that it could not be started, or survived SIGKILL.
    pub exit: Option<ExitStatus>,
    /// Whether it ended by itself while QEMU was running, or before QEMU was started. One that exits with status 0 less than
    /// a second before QEMU has followed QEMU, which closes its connections before it ends.
    pub is_early: bool,
    /// The end of what it printed, up to [`Limits::last_words`](crate::Limits::last_words) bytes. Invalid UTF-8 is replaced.
    /// Empty when it was not read within two seconds.
    pub log: UntrustedText,
    /// The command line that was executed. The number of a descriptor in it is of no use in a shell.
    pub command_line: CommandLine,
}

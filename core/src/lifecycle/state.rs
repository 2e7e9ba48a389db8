//! State of a machine as the caller sees it, and the purpose of its next deadline.

use super::{Phase, Rung};

/// Where a machine is between its launch and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not launched.
    Idle,
    /// Launched, not ready yet.
    Launching(Phase),
    /// Ready for commands.
    Running,
    /// Being ended and cleaned up.
    Ending,
    /// Ended, and cleaned up.
    Ended,
}

/// The purpose of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The launch must be complete.
    Launch(Phase),
    /// The monitor is dialled again: its backlog was full, or no process listened.
    Redial,
    /// The process must end after it closed its monitor; then its events end.
    HangUp,
    /// This rung of the shutdown ladder must have worked.
    Rung(Rung),
    /// The power button is pressed again.
    PressAgain,
    /// The kernel must end the process after SIGKILL.
    Reap,
    /// The channels of a dead process must have been read to their end.
    Drain,
    /// The host must have read the log, or removed the files.
    Clean,
    /// A companion must be ready, is looked at again, or must end.
    Companion,
    /// A heartbeat is sent: half of a command's time is over.
    Heartbeat,
    /// A command must have its reply.
    Command,
    /// A wait must be over.
    Wait,
}

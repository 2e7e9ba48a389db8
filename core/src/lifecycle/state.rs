//! State of a machine as its users see it, and the purpose of its next deadline.

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
    /// On its way to the end.
    Ending,
    /// Over, and cleaned up.
    Ended,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The launch must be complete.
    Launch(Phase),
    /// The process must end after it closed its monitor; until then events may still come from it.
    HangUp,
    /// This rung of the shutdown ladder must have worked.
    Rung(Rung),
    /// The power button is to be pressed again.
    PressAgain,
    /// The kernel must end the process after SIGKILL.
    Reap,
    /// The channels of a dead process must have been read to their end.
    Drain,
    /// QEMU is to be asked for a heartbeat: half of a command's time is over.
    Heartbeat,
    /// A command must have its reply.
    Command,
    /// A wait must be over.
    Wait,
}

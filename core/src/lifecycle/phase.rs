//! Phases of a launch.

use core::fmt;

/// How far a machine came: what was due when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The start of the process.
    Starting,
    /// The connection of the monitor.
    Connecting,
    /// The greeting.
    Greeting,
    /// The reply to `qmp_capabilities`.
    Negotiating,
    /// The answer of a guest agent to the first question.
    Syncing,
    /// Nothing: it was ready.
    Running,
}

/// Reads behind what happened: "QEMU ended *before it greeted*".
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "before it was started",
            Self::Connecting => "before its monitor was connected",
            Self::Greeting => "before its monitor greeted",
            Self::Negotiating => "before its monitor answered the capabilities negotiation",
            Self::Syncing => "before the guest agent answered",
            Self::Running => "while it was running",
        })
    }
}

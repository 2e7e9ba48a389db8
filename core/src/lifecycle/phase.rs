//! Phase of a launch: the step that is due next.

use core::fmt;

/// The step of a launch that is due, or was due when the launch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The start of the process.
    Starting,
    /// The connection of the monitor.
    Connecting,
    /// The greeting (`docs/interop/qmp-spec.rst`, Server Greeting).
    Greeting,
    /// The reply to `qmp_capabilities` (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
    Negotiating,
    /// The reply to `query-status`, which tells whether to continue the guest.
    Querying,
    /// The first reply of a guest agent to `guest-sync-delimited`, or to `guest-sync` if it refuses that
    /// (`docs/interop/qmp-spec.rst`, QGA Synchronization).
    Syncing,
    /// No step: the machine was ready.
    Running,
}

/// Writes a clause that follows what happened: "QEMU ended *before its monitor greeted*".
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "before it was started",
            Self::Connecting => "before its monitor was connected",
            Self::Greeting => "before its monitor greeted",
            Self::Negotiating => "before its monitor answered the capabilities negotiation",
            Self::Querying => "before QEMU reported the state of the guest",
            Self::Syncing => "before the guest agent answered",
            Self::Running => "while it was running",
        })
    }
}

//! Decides what is known of the monitor.

use core::fmt;

use crate::fault::HostFault;
use crate::lifecycle::LaunchFailure;

/// The monitor, from before its connection to after its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// The machine has none.
    Absent,
    /// Not connected.
    #[default]
    Down,
    /// Being connected.
    Opening,
    /// Connected; the greeting is due.
    Greeting,
    /// Greeted; the reply to `qmp_capabilities` is due.
    Negotiating,
    /// Commands are answered. That reply, not the connection and not the greeting, is what "ready" means.
    Ready,
    /// It ended in this phase.
    Gone(Phase),
}

/// What is told of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkNews {
    /// It is connected.
    Opened,
    /// It cannot be connected.
    OpenFailed(HostFault),
    /// The greeting came.
    Greeted,
    /// The negotiation succeeded.
    Negotiated,
    /// The handshake failed.
    HandshakeFailed(LaunchFailure),
    /// The connection is at its end.
    HungUp,
}

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
            Self::Running => "while it was running",
        })
    }
}

impl Link {
    pub(super) fn step(self, news: &LinkNews) -> Self {
        match (self, news) {
            (Self::Opening, LinkNews::Opened) => Self::Greeting,
            (Self::Greeting, LinkNews::Greeted) => Self::Negotiating,
            (Self::Negotiating, LinkNews::Negotiated) => Self::Ready,
            (Self::Opening, LinkNews::OpenFailed(_))
            | (
                Self::Opening | Self::Greeting | Self::Negotiating | Self::Ready,
                LinkNews::HandshakeFailed(_) | LinkNews::HungUp,
            ) => Self::Gone(self.phase()),
            // News that do not fit change nothing.
            (
                state,
                LinkNews::Opened
                | LinkNews::OpenFailed(_)
                | LinkNews::Greeted
                | LinkNews::Negotiated
                | LinkNews::HandshakeFailed(_)
                | LinkNews::HungUp,
            ) => state,
        }
    }

    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Down | Self::Opening => Phase::Connecting,
            Self::Greeting => Phase::Greeting,
            Self::Negotiating => Phase::Negotiating,
            Self::Ready | Self::Absent => Phase::Running,
            Self::Gone(phase) => phase,
        }
    }
}

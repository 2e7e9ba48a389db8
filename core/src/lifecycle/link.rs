//! Decides what is known of the monitor.

use core::fmt;

use crate::lifecycle::LaunchFailure;

/// How the monitor and the process hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wiring {
    /// There is no monitor.
    Absent,
    /// The process has its end from its run_start.
    #[default]
    Inherited,
    /// The process dials us.
    Dialled,
    /// The process is not ours.
    Foreign,
}

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
    /// Connected to a guest agent; what it still says to others is in the way.
    Syncing,
    /// Commands are answered. That reply, not the connection and not the greeting, is what "ready" means.
    Ready,
    /// It ended in this phase.
    Gone(Phase),
}

/// What is told of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// It is connected.
    Opened,
    /// It cannot be connected, for this reason.
    OpenFailed(LaunchFailure),
    /// The greeting came.
    Greeted,
    /// There will be no greeting: it is a guest agent, or qtest.
    Syncing,
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

impl Link {
    pub(super) fn step(self, news: &LinkEvent) -> Self {
        match (self, news) {
            (Self::Opening, LinkEvent::Opened) => Self::Greeting,
            (Self::Greeting, LinkEvent::Greeted) => Self::Negotiating,
            (Self::Greeting, LinkEvent::Syncing) => Self::Syncing,
            (Self::Negotiating | Self::Syncing, LinkEvent::Negotiated) => Self::Ready,
            (Self::Opening, LinkEvent::OpenFailed(_))
            | (
                Self::Opening | Self::Greeting | Self::Negotiating | Self::Syncing | Self::Ready,
                LinkEvent::HandshakeFailed(_) | LinkEvent::HungUp,
            ) => Self::Gone(self.phase()),
            // lifecycle::Input that do not fit change nothing.
            (
                state,
                LinkEvent::Opened
                | LinkEvent::OpenFailed(_)
                | LinkEvent::Greeted
                | LinkEvent::Syncing
                | LinkEvent::Negotiated
                | LinkEvent::HandshakeFailed(_)
                | LinkEvent::HungUp,
            ) => state,
        }
    }

    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Down | Self::Opening => Phase::Connecting,
            Self::Greeting => Phase::Greeting,
            Self::Negotiating => Phase::Negotiating,
            Self::Syncing => Phase::Syncing,
            Self::Ready | Self::Absent => Phase::Running,
            Self::Gone(phase) => phase,
        }
    }
}

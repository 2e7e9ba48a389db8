//! Monitor of a lifecycle: its connection, and whether events can still come from it.

use core::time::Duration;

use super::{LaunchFailure, Phase};
use crate::time::Moment;

/// How long a process may live on after it closed its monitor, before the monitor counts as the end of its events and,
/// during a launch, as its failure. Under load the end of the connection is seen some milliseconds before the end of the
/// process, which explains it.
pub(crate) const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// How the monitor and the process are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wiring {
    /// There is no monitor.
    Absent,
    /// The process inherits its end.
    #[default]
    Inherited,
    /// The process dials us.
    Dialled,
    /// Another program launched the process.
    Foreign,
    /// An earlier program launched the process to be resumed, and its directory is ours to remove.
    Resumed,
}

impl Wiring {
    /// Whether the process is not a child of ours.
    pub(super) fn is_foreign(self) -> bool {
        matches!(self, Self::Foreign | Self::Resumed)
    }
}

/// Whether events can still come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Events {
    /// They can.
    #[default]
    Open,
    /// The monitor closed, and the process lives on: they cannot from this moment on, unless the process ends before,
    /// which says more.
    Closing(Moment),
    /// They cannot.
    Closed,
}

impl Events {
    pub(super) fn hung_up(self, now: Moment) -> Self {
        match self {
            Self::Open => Self::Closing(now.after(HANG_UP_GRACE)),
            Self::Closing(_) | Self::Closed => self,
        }
    }

    pub(super) fn closing_at(self) -> Option<Moment> {
        match self {
            Self::Closing(at) => Some(at),
            Self::Open | Self::Closed => None,
        }
    }

    /// Whether no event can come any more.
    #[must_use]
    pub fn are_closed(self, now: Moment) -> bool {
        match self {
            Self::Open => false,
            Self::Closing(at) => at <= now,
            Self::Closed => true,
        }
    }
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

/// An event of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Another client is connected to it.
    PeerBusy,
    /// It is connected.
    Opened,
    /// It cannot be connected, for this reason.
    OpenFailed(LaunchFailure),
    /// The greeting came.
    Greeted,
    /// There will be no greeting: the peer is a guest agent or qtest.
    Syncing,
    /// The negotiation succeeded.
    Negotiated,
    /// The handshake failed.
    HandshakeFailed(LaunchFailure),
    /// The connection is at its end.
    HungUp,
}

impl Link {
    pub(super) fn step(self, event: &LinkEvent) -> Self {
        match (self, event) {
            (Self::Opening, LinkEvent::Opened) => Self::Greeting,
            (Self::Greeting, LinkEvent::Greeted) => Self::Negotiating,
            (Self::Greeting, LinkEvent::Syncing) => Self::Syncing,
            (Self::Negotiating | Self::Syncing, LinkEvent::Negotiated) => Self::Ready,
            (Self::Opening, LinkEvent::OpenFailed(_))
            | (
                Self::Opening | Self::Greeting | Self::Negotiating | Self::Syncing | Self::Ready,
                LinkEvent::HandshakeFailed(_) | LinkEvent::HungUp,
            ) => Self::Gone(self.phase()),
            // Events that do not fit change nothing.
            (
                state,
                LinkEvent::PeerBusy
                | LinkEvent::Opened
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

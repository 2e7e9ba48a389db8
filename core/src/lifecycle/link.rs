//! Monitor of a lifecycle: its connection, and whether events can still arrive on it.

use core::time::Duration;

use super::{LaunchFailure, Phase};
use crate::time::Moment;

/// How long a process may run on after it closed its monitor. Then its events end, and a launch fails. The end of the
/// connection is seen some milliseconds before the end of the process (measured with QEMU 7.2.22), whose exit status
/// explains it; without the grace a failed launch would lack that status.
pub(crate) const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// How the monitor and the process are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wiring {
    /// There is no monitor.
    Absent,
    /// The process inherits its end of a socket.
    #[default]
    Inherited,
    /// The process connects to a socket of ours.
    Dialled,
    /// Another program launched the process.
    Foreign,
    /// An earlier program launched the process to outlive it. It is ours once the launch is complete, and its files are
    /// ours to remove.
    Resumed,
}

impl Wiring {
    /// Returns whether the process is not started here.
    pub(super) fn is_foreign(self) -> bool {
        matches!(self, Self::Foreign | Self::Resumed)
    }
}

/// Whether events can still arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Events {
    /// Events can arrive.
    #[default]
    Open,
    /// The monitor closed, and the process runs on: no event can arrive from this moment on, unless the process ends
    /// before, which then reports the end of the run.
    Closing(Moment),
    /// No event can arrive.
    Closed,
}

impl Events {
    /// Returns the state after the monitor closed.
    pub(super) fn hung_up(self, now: Moment) -> Self {
        match self {
            Self::Open => Self::Closing(now.after(HANG_UP_GRACE)),
            Self::Closing(_) | Self::Closed => self,
        }
    }

    /// Returns when events end. `None` means that no end is planned.
    pub(super) fn closing_at(self) -> Option<Moment> {
        match self {
            Self::Closing(at) => Some(at),
            Self::Open | Self::Closed => None,
        }
    }

    /// Returns whether no event can arrive any more.
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
    /// The machine has no monitor.
    Absent,
    /// Not connected.
    #[default]
    Down,
    /// Being connected.
    Opening,
    /// The host could not connect, and dials again at this time.
    Retrying {
        /// When it dials again.
        at: Moment,
    },
    /// The peer is not QEMU. When its connection is closed, the host listens for the next one.
    Refusing,
    /// Connected; the greeting is due (`docs/interop/qmp-spec.rst`, Server Greeting).
    Greeting,
    /// Greeted; the reply to `qmp_capabilities` is due (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
    Negotiating,
    /// Negotiated; the reply to `query-status` is due, which tells whether to continue the guest.
    Querying,
    /// Connected to a guest agent; the reply to `guest-sync-delimited` or `guest-sync` is due, and earlier lines are
    /// dropped (QEMU, `qga/qapi-schema.json`, `guest-sync-delimited`).
    Syncing,
    /// Commands are answered. A monitor is ready with the reply to `qmp_capabilities` (and to `query-status`, if QEMU
    /// holds the guest), not with its connection or greeting: until then QEMU refuses all other commands
    /// (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
    Ready,
    /// The connection ended in this phase.
    Gone(Phase),
}

/// An event of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Another client is connected to the monitor.
    PeerBusy,
    /// The monitor is connected.
    Opened,
    /// The host could not connect to the monitor.
    OpenFailed(LaunchFailure),
    /// The greeting arrived.
    Greeted,
    /// The handshake succeeded, and the state of the guest is asked for.
    Querying,
    /// No greeting comes: the peer is a guest agent or qtest.
    Syncing,
    /// The handshake succeeded.
    Negotiated,
    /// The handshake failed.
    HandshakeFailed(LaunchFailure),
    /// The connection ended.
    HungUp,
}

impl Link {
    pub(super) fn step(self, event: &LinkEvent) -> Self {
        match (self, event) {
            (Self::Opening, LinkEvent::Opened) => Self::Greeting,
            (Self::Greeting, LinkEvent::Greeted) => Self::Negotiating,
            (Self::Greeting, LinkEvent::Syncing) => Self::Syncing,
            (Self::Negotiating, LinkEvent::Querying) => Self::Querying,
            (Self::Negotiating | Self::Querying | Self::Syncing, LinkEvent::Negotiated) => Self::Ready,
            (Self::Opening, LinkEvent::OpenFailed(_))
            | (
                Self::Opening
                | Self::Refusing
                | Self::Greeting
                | Self::Negotiating
                | Self::Querying
                | Self::Syncing
                | Self::Ready,
                LinkEvent::HandshakeFailed(_) | LinkEvent::HungUp,
            ) => Self::Gone(self.phase()),
            // Events that do not apply to the state change nothing.
            (
                state,
                LinkEvent::PeerBusy
                | LinkEvent::Opened
                | LinkEvent::OpenFailed(_)
                | LinkEvent::Greeted
                | LinkEvent::Querying
                | LinkEvent::Syncing
                | LinkEvent::Negotiated
                | LinkEvent::HandshakeFailed(_)
                | LinkEvent::HungUp,
            ) => state,
        }
    }

    /// Returns when the host dials again. `None` means that it does not.
    pub(super) fn reopens_at(self) -> Option<Moment> {
        match self {
            Self::Retrying { at } => Some(at),
            Self::Absent
            | Self::Down
            | Self::Opening
            | Self::Refusing
            | Self::Greeting
            | Self::Negotiating
            | Self::Querying
            | Self::Syncing
            | Self::Ready
            | Self::Gone(_) => None,
        }
    }

    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Down | Self::Opening | Self::Retrying { .. } => Phase::Connecting,
            Self::Greeting | Self::Refusing => Phase::Greeting,
            Self::Negotiating => Phase::Negotiating,
            Self::Querying => Phase::Querying,
            Self::Syncing => Phase::Syncing,
            Self::Ready | Self::Absent => Phase::Running,
            Self::Gone(phase) => phase,
        }
    }
}

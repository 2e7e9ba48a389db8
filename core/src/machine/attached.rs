//! Decides what keeps us from a machine that somebody else launched, and how we leave one.

use super::Machine;
use crate::fault::{HostFault, Misuse};
use crate::lifecycle::{LaunchFailure, Phase, Request, State};
use crate::time::Moment;
use crate::transport::{Address, Peer};

impl Machine {
    /// Lets go of a machine that somebody else launched: the connection is closed, and it runs on.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::Ours`] for one that we launched: that is ended, not left.
    pub fn disconnect(&mut self, now: Moment) -> Result<(), Misuse> {
        if !self.is_attached() {
            return Err(Misuse::Ours);
        }
        self.end(now, Request::Kill)
    }

    /// Leaves this machine in the hardest way there is: kills the process if it is ours, and lets go if it is not. For
    /// drivers that go away; does nothing to a machine that was never launched.
    pub fn abandon(&mut self, now: Moment) {
        if self.state() != State::Idle {
            self.advance_clock(now);
            self.ask(Request::Kill);
        }
    }

    /// Whether somebody else launched it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.config.peer.is_some()
    }

    /// Why the monitor cannot be connected. The numbers are Linux's.
    pub(super) fn why_not_open(&self, fault: HostFault) -> LaunchFailure {
        const ENOENT: i32 = 2;
        const EAGAIN: i32 = 11;
        const ECONNREFUSED: i32 = 111;
        match (&self.config.peer, fault.errno) {
            // The backlog of the listening socket is full: QEMU's holds one, behind the one that it serves.
            (Some(Peer::Dial(_)), EAGAIN) => LaunchFailure::Busy,
            (Some(Peer::Dial(Address::Unix(_))), ECONNREFUSED) => LaunchFailure::Dead(fault),
            (Some(Peer::Dial(_)), ENOENT | ECONNREFUSED) => LaunchFailure::NotListening(fault),
            _ => LaunchFailure::Host(fault),
        }
    }

    /// A monitor that says nothing to us because it speaks with somebody else is not slow, but busy.
    pub(super) fn explain(&self, failure: LaunchFailure) -> LaunchFailure {
        match failure {
            LaunchFailure::TimedOut(Phase::Greeting | Phase::Syncing) if self.record.crowded => LaunchFailure::Busy,
            other => other,
        }
    }
}

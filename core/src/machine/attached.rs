//! Machines of others: connecting to one that was launched by another program, and leaving one without ending it.

use super::{Machine, request};
use crate::fault::{HostFault, Misuse};
use crate::lifecycle::{LaunchFailure, Phase, Request};
use crate::outcome::Cause;
use crate::time::Moment;
use crate::transport::{Address, Peer};

impl Machine {
    /// Lets go of a machine that somebody else launched: the connection is closed, and it runs on.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::Ours`] for one that we launched: that is ended, not left.
    pub fn disconnect(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Disconnect)
    }

    /// Leaves a machine that was launched to be [kept](crate::Config::outlive_parent), as it is: the connection is closed,
    /// it runs on, and all that was made for it stays. Take its identity before. Does nothing when that is done already.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] for a machine that ends with us; [`Misuse::NotRunning`] before it runs, and when its end has
    /// begun.
    pub fn detach(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Detach)
    }

    pub(super) fn leave(&mut self, now: Moment) -> Result<(), Misuse> {
        let is_done = self.outcome.as_ref().is_some_and(|outcome| outcome.cause == Cause::Disconnected);
        if self.config.outlives_parent && (self.evidence.let_go || is_done) {
            return Ok(());
        }
        self.check_detachable()?;
        self.end(now, Request::Detach)
    }

    /// Whether it is one that can be left as it is, now.
    ///
    /// # Errors
    ///
    /// As [`detach`](Self::detach).
    pub fn check_detachable(&self) -> Result<(), Misuse> {
        if !self.config.outlives_parent {
            return Err(Misuse::NotDetachable);
        }
        if self.lifecycle.can_be_detached() { Ok(()) } else { Err(Misuse::NotRunning) }
    }

    /// Leaves this machine in the hardest way there is: kills the process if it is ours, and lets go if it is not. For
    /// drivers that go away; does nothing to a machine that was never launched.
    pub fn abandon(&mut self, now: Moment) {
        self.request(now, request::Abandon)
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
            LaunchFailure::TimedOut(Phase::Greeting | Phase::Syncing) if self.evidence.peer_busy => LaunchFailure::Busy,
            other => other,
        }
    }
}

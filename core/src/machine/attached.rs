//! Machines of others: connecting to one that was launched by another program, and leaving one without ending it.

use super::{Machine, request};
use crate::fault::Misuse;
use crate::lifecycle;
use crate::time::Moment;

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

    pub(super) fn detach_now(&mut self, now: Moment) -> Result<(), Misuse> {
        if self.config.outlives_parent && self.lifecycle.was_disconnected() {
            return Ok(());
        }
        self.check_detachable()?;
        self.end(now, lifecycle::Input::Detach)
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

    /// Kills the process if it is ours, and disconnects if it is not. For drivers that go away. Does nothing to a machine that
    /// was never launched.
    pub fn kill_or_disconnect(&mut self, now: Moment) {
        self.request(now, request::KillOrDisconnect)
    }

    /// Whether somebody else launched it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.config.peer.is_some()
    }
}

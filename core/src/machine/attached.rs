//! Machines of other programs, and machines that outlive their parent: leaving one without ending it.

use super::{Machine, request};
use crate::fault::Misuse;
use crate::lifecycle;
use crate::time::Moment;

impl Machine {
    /// Disconnects from a machine that another program launched: the monitor is closed, and the machine runs on. QEMU
    /// then accepts its next client (QEMU, `chardev/char-socket.c`, `tcp_chr_disconnect_locked`). For a machine that was
    /// resumed this is [`detach`](Self::detach).
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::Ours`] for a machine that this program launched, which it shuts down or
    /// kills; [`Misuse::NotRunning`] for a resumed one whose end has begun.
    pub fn disconnect(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Disconnect)
    }

    /// Detaches from a machine that was launched to [outlive its parent](crate::Config::outlive_parent), or resumed: the
    /// monitor is closed, the machine runs on, and its files stay. Get its [`Identity`](crate::Identity) first, since only
    /// that resumes it. Does nothing when the machine is detached already.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] for a machine that ends with its parent; [`Misuse::NotRunning`] before the launch is
    /// complete, and when the end has begun.
    pub fn detach(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Detach)
    }

    pub(super) fn detach_now(&mut self, now: Moment) -> Result<(), Misuse> {
        if self.config.is_detachable() && self.lifecycle.was_disconnected() {
            return Ok(());
        }
        self.check_detachable()?;
        self.end(now, lifecycle::Input::Detach)
    }

    /// Checks whether [`detach`](Self::detach) would succeed now.
    ///
    /// # Errors
    ///
    /// As [`detach`](Self::detach).
    pub fn check_detachable(&self) -> Result<(), Misuse> {
        if self.is_forked {
            return Err(Misuse::Forked);
        }
        if !self.config.is_detachable() {
            return Err(Misuse::NotDetachable);
        }
        if self.lifecycle.can_be_detached() { Ok(()) } else { Err(Misuse::NotRunning) }
    }

    /// Kills a process that this program launched or resumed, and disconnects from any other. For drivers that go away.
    /// Does nothing to a machine that was never launched.
    pub fn kill_or_disconnect(&mut self, now: Moment) {
        self.request(now, request::KillOrDisconnect)
    }

    /// Returns whether another program launched the machine, or an earlier one that this one resumes it from.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.config.peer.is_some()
    }
}

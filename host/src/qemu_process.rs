//! Process of QEMU where it is not the process that was started: behind a wrapper that stays, or that has forked.

use std::io;

use qemu_machine_core::Signal;

use crate::sys::{GuardProcess as _, Os, OtherProcess as _, System};

/// A process of QEMU that must end with the process that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct QemuProcess {
    process: <Os as System>::Other,
    /// Whether dropping this leaves the process as it is.
    is_detached: bool,
}

impl QemuProcess {
    /// Returns the process with this id. `None` means that it has ended. The caller verifies afterwards that the id was not
    /// reused before.
    pub(crate) fn new(pid: u32) -> Option<Self> {
        Some(Self { process: Os::other(pid).ok()?, is_detached: false })
    }

    /// Sends a signal that was sent to this process group as well. A process that has ended ignores it.
    pub(crate) fn signal(&self, signal: Signal, group: u32) {
        if signal == Signal::Kill || self.process.group() != Some(group) {
            let _ = self.process.signal(signal);
        }
    }

    /// Adds the process to those that a guard kills.
    pub(crate) fn add_to(&self, guard: &<Os as System>::Guard) -> io::Result<()> {
        guard.add(self.process.descriptor())
    }

    /// Returns the process if it is the one that is meant, and otherwise leaves it as it is.
    pub(crate) fn verified(self, is_meant: bool) -> Option<Self> {
        if is_meant {
            return Some(self);
        }
        self.detach();
        None
    }

    /// Leaves the process as it is when this is dropped, until [`own`](Self::own).
    pub(crate) fn not_owned(mut self) -> Self {
        self.is_detached = true;
        self
    }

    /// Makes this the owner of the process: dropping this kills it.
    pub(crate) fn own(&mut self) {
        self.is_detached = false;
    }

    /// Leaves the process as it is.
    pub(crate) fn detach(mut self) {
        self.is_detached = true;
    }
}

impl Drop for QemuProcess {
    fn drop(&mut self) {
        if !self.is_detached {
            let _ = self.process.signal(Signal::Kill);
        }
    }
}

//! Log of QEMU at the beginning and at the end of a job, and the lines between.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::FollowJob;
use crate::text::lossy;

/// Log of QEMU, as the caller reads it.
pub(super) struct Log {
    read: Box<dyn FnMut() -> Vec<u8> + Send>,
    /// The last bytes when the procedure began.
    before: Vec<u8>,
}

impl Log {
    pub(super) fn new(read: impl FnMut() -> Vec<u8> + Send + 'static) -> Self {
        Self { read: Box::new(read), before: Vec::new() }
    }

    pub(super) fn begin(&mut self) {
        self.before = (self.read)();
    }

    /// Returns what was printed since the beginning, as far as the reader returns it. Both readings are ends of one log
    /// that only grows, so what the later one has in common with the end of the earlier one is old.
    pub(super) fn printed(&mut self) -> String {
        let now = (self.read)();
        let old = (0..=now.len()).rev().find(|old| self.before.ends_with(&now[..*old]));
        lossy(&now[old.unwrap_or_default()..])
    }
}

impl FollowJob {
    /// Reads QEMU's log with `read` when the procedure begins, and when the job has failed; what was printed between is
    /// [`JobFailure::log`](super::JobFailure::log). QEMU often prints there what its error lacks: a snapshot of another
    /// machine fails with `Error -22 while loading VM state`, and the log names the device (measured with QEMU 7.2.22).
    /// `read` returns the last bytes of the log: their number is the most that the error holds. It may block the thread
    /// that runs the procedure, which in a task is a thread of the executor. No lock is held meanwhile. By default the log
    /// is not read.
    ///
    /// ```
    /// # use qemu_machine_core::procedure::FollowJob;
    /// # use qemu_machine_core::json;
    /// # let reader = || Ok::<Vec<u8>, ()>(Vec::new());
    /// // let log = vm.log_reader();
    /// # let read = move |_| reader();
    /// let load = ("snapshot-load", json!({"job-id": "load", "tag": "t", "vmstate": "disk", "devices": ["disk"]}));
    /// let load = FollowJob::of(&load, "load").log(move || read(4096).unwrap_or_default()); // log.read(4096)
    /// ```
    pub fn log(self, read: impl FnMut() -> Vec<u8> + Send + 'static) -> Self {
        Self { log: Some(Log::new(read)), ..self }
    }
}

//! Log of QEMU at the beginning and at the end of a job, and the lines between.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

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

//! Decides what a position is in everything that a machine says.

use alloc::vec::Vec;

/// A position in everything that a machine says: nothing behind it is missed by a wait that begins there.
///
/// Take one before you act, and wait from it afterwards. The default is the very beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub(crate) event: u64,
    pub(crate) consoles: Vec<u64>,
}

impl Mark {
    /// The later of two positions, everywhere.
    pub(crate) fn not_before(&self, other: &Self) -> Self {
        let consoles = self.consoles.len().max(other.consoles.len());
        Self {
            event: self.event.max(other.event),
            consoles: (0..consoles).map(|index| self.position(index).max(other.position(index))).collect(),
        }
    }

    /// The same, but on one console.
    pub(crate) fn stand_at(&mut self, console: usize, position: u64) {
        self.consoles.resize(self.consoles.len().max(console + 1), 0);
        self.consoles[console] = position;
    }

    /// Where it stands on the console with this index.
    pub(crate) fn position(&self, console: usize) -> u64 {
        self.consoles.get(console).copied().unwrap_or_default()
    }
}

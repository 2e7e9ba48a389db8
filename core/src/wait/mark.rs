//! Mark: a position in the events and console output of a machine.

use alloc::vec::Vec;

/// Position in the stream of events and in the output of every console.
///
/// A wait or a subscription that begins at a mark finds everything that arrived after it and is still retained, so
/// nothing is lost between an action and the wait for its effect. Get a mark ([`Machine::mark`](crate::Machine::mark)),
/// act, then wait from it. A wait from a mark that is taken after the action may miss an event that was faster.
///
/// A mark is plain data: it keeps nothing in memory, and does not move. The bounded history may evict what it points
/// to; [`Hit::missed`](crate::Hit::missed) counts that. A mark of a previous run counts as the beginning of the present
/// one. [`Mark::default`] is the beginning of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub(crate) event: u64,
    pub(crate) consoles: Vec<u64>,
}

impl Mark {
    /// Returns the later of two positions, for events and for each console by itself.
    pub(crate) fn not_before(&self, other: &Self) -> Self {
        let consoles = self.consoles.len().max(other.consoles.len());
        Self {
            event: self.event.max(other.event),
            consoles: (0..consoles).map(|index| self.position(index).max(other.position(index))).collect(),
        }
    }

    /// Moves the position on one console.
    pub(crate) fn stand_at(&mut self, console: usize, position: u64) {
        self.consoles.resize(self.consoles.len().max(console + 1), 0);
        self.consoles[console] = position;
    }

    /// Returns the position on the console with this index.
    pub(crate) fn position(&self, console: usize) -> u64 {
        self.consoles.get(console).copied().unwrap_or_default()
    }
}

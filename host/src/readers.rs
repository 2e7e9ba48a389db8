//! State of the readers of consoles: a cursor for each.

use qemu_machine_core::{Channel, Machine};

use crate::console_cursor::ConsoleCursor;

/// Reader of a console of one machine, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

/// The readers of one machine.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    cursors: Vec<(ReaderId, ConsoleCursor)>,
    next: u64,
    /// Number of the run.
    pub(crate) run: u64,
}

impl Readers {
    /// Returns whether the guest is to wait for a reader of this console.
    pub(crate) fn holds(&self, channel: Channel, machine: &Machine) -> bool {
        self.cursors.iter().any(|(_, cursor)| cursor.holds(self.run, channel, machine))
    }

    /// Adds a reader that begins at this cursor, and returns its number.
    pub(crate) fn add(&mut self, cursor: ConsoleCursor) -> ReaderId {
        self.next += 1;
        self.cursors.push((ReaderId(self.next), cursor));
        ReaderId(self.next)
    }

    pub(crate) fn remove(&mut self, id: ReaderId) {
        self.cursors.retain(|(other, _)| *other != id);
    }

    /// Returns the cursor of a reader, and the number of the run. `None` means that it was closed.
    pub(crate) fn find(&mut self, id: ReaderId) -> Option<(u64, &mut ConsoleCursor)> {
        let run = self.run;
        self.cursors.iter_mut().find(|(other, _)| *other == id).map(|(_, cursor)| (run, cursor))
    }

    /// Begins to read the next run.
    pub(crate) fn begin_run(&mut self) {
        self.run += 1;
    }
}

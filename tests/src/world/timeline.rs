//! Decides what happens next: the earliest thing, and of several at one moment the one that the seed chose.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use qemu_machine_core::{Channel, Moment};

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The caller does something.
    Act,
    /// The host is done with the order of this index.
    Done(usize),
    /// What QEMU wrote reaches us.
    Deliver(Channel),
    /// QEMU reads what we sent.
    Read(Channel),
    /// The end of the process is told.
    Exited,
    /// Something in QEMU.
    Qemu(Tick),
}

/// Something that happens in QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tick {
    /// The monitor says who it is.
    Greet,
    /// Something is worth an event.
    Event,
    /// The guest prints.
    Print(usize),
    /// The command that is executing is done.
    Finish,
    /// The turn of this run.
    Turn,
    /// The guest obeys the power button.
    PowerOff,
    /// The main loop runs again.
    Unstick,
    /// A SIGKILL takes effect at last.
    Killed,
    /// QEMU closes its end.
    Close(Channel),
    /// The process ends.
    Exit,
}

/// The moment, the choice of the seed, the order of planning, the run, and what it is.
type Expectation = (Moment, u64, u64, u32, What);

/// Everything that is still to happen.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    heap: BinaryHeap<Reverse<Expectation>>,
    planned: u64,
}

impl Timeline {
    pub(super) fn plan(&mut self, at: Moment, choice: u64, run: u32, what: What) {
        self.planned += 1;
        self.heap.push(Reverse((at, choice, self.planned, run, what)));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next thing, and the run that it belongs to.
    pub(super) fn pop(&mut self) -> Option<(u32, What)> {
        self.heap.pop().map(|Reverse((.., run, what))| (run, what))
    }
}

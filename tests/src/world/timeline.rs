//! Queue of pending events: ordered by time, and at the same time by a random choice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use qemu_machine_core::{Channel, Moment};

/// An event of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The caller acts.
    Act,
    /// The host completes the effect with this index.
    Done(usize),
    /// Output of QEMU arrives at the driver.
    Deliver(Channel),
    /// QEMU reads its input.
    Read(Channel),
    /// The exit of the process is reported.
    Exited,
    /// An event inside QEMU.
    Qemu(Tick),
}

/// An event inside QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tick {
    /// The monitor sends its greeting.
    Greet,
    /// A spontaneous QMP event.
    Event,
    /// The guest prints.
    Print(usize),
    /// The executing command finishes.
    Finish,
    /// The incident of this run.
    Turn,
    /// The guest obeys the power button.
    PowerOff,
    /// The main loop runs again.
    Unstick,
    /// A delayed SIGKILL takes effect.
    Killed,
    /// QEMU closes its end.
    Close(Channel),
    /// The process ends.
    Exit,
}

/// The time, a random number, the sequence number, the run, and the event.
type Expectation = (Moment, u64, u64, u32, What);

/// The pending events.
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

    /// Removes the next event, and returns it with its run.
    pub(super) fn pop(&mut self) -> Option<(u32, What)> {
        self.heap.pop().map(|Reverse((.., run, what))| (run, what))
    }
}

//! Decides which facts the core tells whoever drives it.

use crate::command::CommandId;
use crate::event::SubscriptionId;
use crate::wait::WaitId;

/// A fact that somebody may be waiting for. What it is about is read from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The monitor answers commands: the launch is complete.
    Ready,
    /// A command has its answer: [`Machine::claim`](crate::Machine::claim) gives it.
    Answered(CommandId),
    /// An event came: [`Machine::event`](crate::Machine::event) gives it while the history holds it.
    Event(u64),
    /// A subscription whose queue was empty has an event: [`Machine::next_event`](crate::Machine::next_event) gives it, and
    /// those that come before the queue is empty again.
    Queued(SubscriptionId),
    /// The console with this index printed something.
    Printed(usize),
    /// A wait is over: [`Machine::claim_wait`](crate::Machine::claim_wait) says how.
    Waited(WaitId),
    /// The machine was launched before, and is ready for us now: events may have been missed in between, so what is to be
    /// known of it is to be asked.
    Gap,
    /// The run is over and cleaned up: [`Machine::outcome`](crate::Machine::outcome) says how.
    Ended,
}

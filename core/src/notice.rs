//! Notices: facts that the core reports to its driver.

use crate::command::CommandId;
use crate::event::SubscriptionId;
use crate::wait::WaitId;

/// Fact that a caller may be waiting for. The notice carries only an id or index: the fact itself is read from the
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The monitor answers commands: the launch is complete.
    Ready,
    /// A command was answered, by a reply or an error: [`Machine::claim`](crate::Machine::claim) returns it.
    Answered(CommandId),
    /// The event with this number arrived: [`Machine::event`](crate::Machine::event) returns it while the history holds
    /// it.
    Event(u64),
    /// A subscription whose queue was empty has an event. Call [`Machine::next_event`](crate::Machine::next_event)
    /// until it returns `None`: there is no further notice before the queue is empty.
    Queued(SubscriptionId),
    /// The console with this index printed something, or was closed.
    Printed(usize),
    /// The companion with this index has ended: [`Machine::companion_end`](crate::Machine::companion_end) returns how.
    CompanionEnded(usize),
    /// A wait is over: [`Machine::claim_wait`](crate::Machine::claim_wait) returns the result.
    Waited(WaitId),
    /// A resumed machine is ready. Events may have been missed since the previous session: see [`Gap`](crate::Gap).
    Gap,
    /// The run is over and cleaned up: [`Machine::outcome`](crate::Machine::outcome) returns the outcome.
    Ended,
}

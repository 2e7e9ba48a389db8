//! History of events: the latest ones, bounded in bytes, and numbered.

use alloc::collections::VecDeque;

use super::Event;
use super::queue::Queue;

/// The latest events, as many as fit a bound in bytes, each with a number.
///
/// Numbers begin at 0 and never repeat, not even in a later run of the machine. So the number of evicted events is
/// known exactly. An event that is too large to be kept has a number as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Queue,
    /// The number of the oldest event that is kept.
    first: u64,
    /// The numbers of the events since then that were too large to be kept.
    omitted: VecDeque<u64>,
    /// The largest event that is kept, in bytes.
    largest: usize,
}

impl History {
    /// Returns an empty history of at most `limit` bytes, which keeps no event of more than `largest` bytes. The latest
    /// event is kept even when it is larger than `limit`. Both count an event with its [`OVERHEAD`](Event::OVERHEAD).
    #[must_use]
    pub fn new(limit: usize, largest: usize) -> Self {
        Self { events: Queue::new(limit), first: 0, omitted: VecDeque::new(), largest }
    }

    /// Returns whether an event is small enough to be kept.
    pub(crate) fn keeps(&self, event: &Event) -> bool {
        event.size() <= self.largest
    }

    /// Adds an event, evicts the oldest ones beyond the limit, and returns the number of the new one.
    pub fn push(&mut self, event: Event) -> u64 {
        let event = if self.keeps(&event) {
            event.retained()
        } else {
            self.omitted.push_back(self.end());
            Event::placeholder()
        };
        self.first += self.events.push(event);
        while self.omitted.front().is_some_and(|number| *number < self.first) {
            self.omitted.pop_front();
        }
        self.end() - 1
    }

    /// Removes all events. The numbers go on.
    pub fn clear(&mut self) {
        self.first = self.end();
        self.events.clear();
        self.omitted.clear();
    }

    /// Returns the number of the oldest event that is kept, or of the next event if there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that the next event will have.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Returns the event with this number. `None` means that it was evicted, was too large to be kept, or has not
    /// arrived yet.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Event> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.events.get(index).filter(|event| !event.is_placeholder())
    }

    /// Returns how many events from this number on are not kept any more.
    pub(crate) fn missing_from(&self, number: u64) -> u64 {
        let omitted = self.omitted.len() - self.omitted.partition_point(|other| *other < number);
        self.first.saturating_sub(number) + omitted as u64
    }
}

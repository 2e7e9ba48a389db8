//! History of events: the latest ones, bounded in bytes, and numbered.

use super::Event;
use super::queue::Queue;

/// The latest events, as many as fit a bound in bytes, each with a number.
///
/// Numbers begin at 0 and never repeat, not even in a later run of the machine. So the number of evicted events is
/// known exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Queue,
    /// The number of the oldest event that is kept.
    first: u64,
}

impl History {
    /// Returns an empty history of at most `limit` bytes. The latest event is kept even when it is larger.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { events: Queue::new(limit), first: 0 }
    }

    /// Adds an event, evicts the oldest ones beyond the limit, and returns the number of the new one.
    pub fn push(&mut self, event: Event) -> u64 {
        self.first += self.events.push(event.retained());
        self.end() - 1
    }

    /// Removes all events. The numbers go on.
    pub fn clear(&mut self) {
        self.first = self.end();
        self.events.clear();
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

    /// Returns the event with this number. `None` means that it was evicted, or has not arrived yet.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Event> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.events.get(index)
    }
}

//! Decides which past events are still known.

use super::Event;
use super::queue::Queue;

/// The latest events, as many as fit a bound in bytes, each with its number.
///
/// Numbers begin at 0 and never repeat, also across the runs of a machine, so that the number of events that fell
/// out is known exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Queue,
    /// The number of the oldest event that is kept.
    first: u64,
}

impl History {
    /// A history of at most `limit` bytes. The latest event is kept even when it is larger.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { events: Queue::new(limit), first: 0 }
    }

    /// Keeps an event; returns its number.
    pub fn push(&mut self, event: Event) -> u64 {
        self.first += self.events.push(event.retained());
        self.end() - 1
    }

    /// Forgets everything; the numbers go on.
    pub fn clear(&mut self) {
        self.first = self.end();
        self.events.clear();
    }

    /// The number of the oldest event that is kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next event will have.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The event with this number, while it is kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Event> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.events.get(index)
    }
}

//! Decides which past events are still known.

use alloc::collections::VecDeque;

use super::Event;

/// The latest events, as many as fit a bound in bytes, each with its number.
///
/// Numbers begin at 0 and never repeat, also across the lives of a machine, so that the number of events that fell
/// out is known exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: VecDeque<Event>,
    /// The number of the oldest event that is kept.
    first: u64,
    bytes: usize,
    limit: usize,
}

impl History {
    /// A history of at most `limit` bytes. The latest event is kept even when it is larger.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Keeps an event; returns its number.
    pub fn push(&mut self, event: Event) -> u64 {
        let event = event.kept();
        self.bytes += event.size();
        self.events.push_back(event);
        while self.bytes > self.limit && self.events.len() > 1 {
            self.bytes -= self.events.pop_front().map_or(0, |event| event.size());
            self.first += 1;
        }
        self.end() - 1
    }

    /// Forgets everything; the numbers go on.
    pub fn clear(&mut self) {
        self.first = self.end();
        self.events.clear();
        self.bytes = 0;
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

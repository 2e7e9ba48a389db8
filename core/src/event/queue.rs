//! Queue of events, bounded in bytes. It drops the oldest.

use alloc::collections::VecDeque;

use super::{Event, QUEUE_GROWTH};

/// The latest events in their order, as many as fit a bound in bytes of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    limit: usize,
}

impl Queue {
    /// Returns an empty queue of at most `limit` bytes. The latest event is kept even when it is larger.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds the latest event. Returns how many of the oldest were dropped.
    pub(crate) fn push(&mut self, event: Event) -> u64 {
        self.bytes += event.size();
        let mut fell_out = 0;
        while self.bytes > self.limit && self.pop().is_some() {
            fell_out += 1;
        }
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(1 + self.events.len() / QUEUE_GROWTH);
        }
        self.events.push_back(event);
        fell_out
    }

    /// Removes the oldest event, and returns it.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Event> {
        self.events.get(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

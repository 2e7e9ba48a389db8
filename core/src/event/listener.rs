//! Decides what each of several consumers of events gets, and what it missed.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::queue::Queue;
use super::{Event, History};

/// Names a listener for ever: take its events with it, and end it with [`Machine::unlisten`].
///
/// [`Machine::unlisten`]: crate::Machine::unlisten
#[must_use = "a listener that is not ended keeps its queue"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerId(pub(crate) u64);

/// Everybody who listens. There are few of them, so they are looked through.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Listeners {
    next: u64,
    all: Vec<Listener>,
}

/// One consumer of events, with what waits for it.
#[derive(Clone, Debug, PartialEq)]
struct Listener {
    id: ListenerId,
    filter: Vec<Filter>,
    queue: Queue,
    /// Events that it wanted, and that fell out of its queue.
    missed: u64,
    /// Events that the history had forgotten when the listener began: nobody knows whether it wanted them.
    forgotten: u64,
}

impl Listener {
    /// Whether this is the first event in an empty queue.
    fn offer(&mut self, event: &Event) -> bool {
        if !self.filter.iter().any(|filter| filter.wants(event)) {
            return false;
        }
        let was_empty = self.queue.len() == 0;
        self.missed += self.queue.push(event.clone());
        was_empty
    }
}

impl Listeners {
    /// Begins to listen behind the event with the number `from`: what the history holds of it is queued at once.
    pub(crate) fn begin(&mut self, filter: Vec<Filter>, limit: usize, from: u64, history: &History) -> ListenerId {
        let id = ListenerId(self.next);
        self.next += 1;
        let forgotten = history.first().saturating_sub(from);
        let mut listener = Listener { id, filter, queue: Queue::new(limit), missed: 0, forgotten };
        for event in (from.max(history.first())..history.end()).filter_map(|number| history.get(number)) {
            listener.offer(event);
        }
        self.all.push(listener);
        id
    }

    /// An event came. Says for whom it is the first in an empty queue.
    pub(crate) fn event(&mut self, event: &Event) -> impl Iterator<Item = ListenerId> {
        self.all.iter_mut().filter_map(|listener| listener.offer(event).then_some(listener.id))
    }

    /// A new life begins: all go on listening, and have heard nothing.
    pub(crate) fn restart(&mut self) {
        for listener in &mut self.all {
            listener.queue.clear();
            (listener.missed, listener.forgotten) = (0, 0);
        }
    }

    pub(crate) fn end(&mut self, id: ListenerId) {
        self.all.retain(|listener| listener.id != id);
    }

    pub(crate) fn pop(&mut self, id: ListenerId) -> Option<Event> {
        self.all.iter_mut().find(|listener| listener.id == id)?.queue.pop()
    }

    pub(crate) fn knows(&self, id: ListenerId) -> bool {
        self.find(id).is_some()
    }

    /// Whether an event waits for this listener.
    pub(crate) fn has_heard(&self, id: ListenerId) -> bool {
        self.find(id).is_some_and(|listener| listener.queue.len() > 0)
    }

    pub(crate) fn missed(&self, id: ListenerId) -> u64 {
        self.find(id).map_or(0, |listener| listener.missed)
    }

    pub(crate) fn forgotten(&self, id: ListenerId) -> u64 {
        self.find(id).map_or(0, |listener| listener.forgotten)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    fn find(&self, id: ListenerId) -> Option<&Listener> {
        self.all.iter().find(|listener| listener.id == id)
    }
}

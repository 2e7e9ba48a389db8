//! Decides what each of several subscriptions of events gets, and what it missed.

use alloc::vec::Vec;

use super::filter::Filter;
use super::queue::Queue;
use super::{Event, History};

/// Names a subscription for ever: take its events with it, and end it with [`Machine::unsubscribe`].
///
/// [`Machine::unsubscribe`]: crate::Machine::unsubscribe
#[must_use = "a subscription that is not ended keeps its queue"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

/// Everybody who listens. There are few of them, so they are looked through.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Subscriptions {
    next: u64,
    all: Vec<Subscription>,
}

/// One subscription of events, with what waits for it.
#[derive(Clone, Debug, PartialEq)]
struct Subscription {
    id: SubscriptionId,
    filter: Vec<Filter>,
    queue: Queue,
    /// Events that it wanted, and that fell out of its queue.
    missed: u64,
    /// Events that the history had forgotten when the subscription began: nobody knows whether it wanted them.
    forgotten: u64,
}

impl Subscription {
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

impl Subscriptions {
    /// Begins to listen behind the event with the number `from`: what the history holds of it is queued at once.
    pub(crate) fn begin(&mut self, filter: Vec<Filter>, limit: usize, from: u64, history: &History) -> SubscriptionId {
        let id = SubscriptionId(self.next);
        self.next += 1;
        let forgotten = history.first().saturating_sub(from);
        let mut subscription = Subscription { id, filter, queue: Queue::new(limit), missed: 0, forgotten };
        for event in (from.max(history.first())..history.end()).filter_map(|number| history.get(number)) {
            subscription.offer(event);
        }
        self.all.push(subscription);
        id
    }

    /// An event came. Says for whom it is the first in an empty queue.
    pub(crate) fn event(&mut self, event: &Event) -> impl Iterator<Item = SubscriptionId> {
        self.all.iter_mut().filter_map(|subscription| subscription.offer(event).then_some(subscription.id))
    }

    /// Begins a new run: all subscriptions stay, with empty queues.
    pub(crate) fn restart(&mut self) {
        for subscription in &mut self.all {
            subscription.queue.clear();
            (subscription.missed, subscription.forgotten) = (0, 0);
        }
    }

    pub(crate) fn end(&mut self, id: SubscriptionId) {
        self.all.retain(|subscription| subscription.id != id);
    }

    pub(crate) fn pop(&mut self, id: SubscriptionId) -> Option<Event> {
        self.all.iter_mut().find(|subscription| subscription.id == id)?.queue.pop()
    }

    pub(crate) fn knows(&self, id: SubscriptionId) -> bool {
        self.find(id).is_some()
    }

    /// Whether an event waits for this subscription.
    pub(crate) fn has_queued(&self, id: SubscriptionId) -> bool {
        self.find(id).is_some_and(|subscription| subscription.queue.len() > 0)
    }

    pub(crate) fn missed(&self, id: SubscriptionId) -> u64 {
        self.find(id).map_or(0, |subscription| subscription.missed)
    }

    pub(crate) fn forgotten(&self, id: SubscriptionId) -> u64 {
        self.find(id).map_or(0, |subscription| subscription.forgotten)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    fn find(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.all.iter().find(|subscription| subscription.id == id)
    }
}

//! Subscriptions of events, each with a filter, a queue and a count of what it missed.

use alloc::vec::Vec;

use serde_json::Value;

use super::filter::Filter;
use super::queue::Queue;
use super::{Event, History};

/// Id of a subscription, never used twice. [`Machine::next_event`] receives its events; [`Machine::unsubscribe`] ends
/// it.
///
/// [`Machine::next_event`]: crate::Machine::next_event
/// [`Machine::unsubscribe`]: crate::Machine::unsubscribe
#[must_use = "a subscription that is not ended keeps its queue"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

/// All subscriptions. There are few, so a linear search is enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Subscriptions {
    next: u64,
    all: Vec<Subscription>,
}

/// One subscription of events, with the events that it has queued.
#[derive(Clone, Debug, PartialEq)]
struct Subscription {
    id: SubscriptionId,
    filter: Vec<Filter>,
    queue: Queue,
    /// Number of matching events that were dropped from the full queue.
    missed: u64,
    /// Number of events that the history had evicted when the subscription began. Whether they match is unknown.
    forgotten: u64,
    /// Whether the event that has just arrived matches.
    matches: bool,
}

impl Subscription {
    /// Queues an event that matches. Returns whether it is the first one in an empty queue.
    fn queue(&mut self, event: &Event) -> bool {
        let was_empty = self.queue.len() == 0;
        self.missed += self.queue.push(event.clone().retained());
        was_empty
    }
}

impl Subscriptions {
    /// Begins a subscription at the event with the number `from`. Matching events in the history are queued at once.
    pub(crate) fn begin(&mut self, filter: Vec<Filter>, limit: usize, from: u64, history: &History) -> SubscriptionId {
        let id = SubscriptionId(self.next);
        self.next += 1;
        let forgotten = history.missing_from(from);
        let queue = Queue::new(limit);
        let mut subscription = Subscription { id, filter, queue, missed: 0, forgotten, matches: false };
        for event in (from.max(history.first())..history.end()).filter_map(|number| history.get(number)) {
            if subscription.filter.iter().any(|filter| filter.wants(event)) {
                subscription.queue(event);
            }
        }
        self.all.push(subscription);
        id
    }

    /// Returns the patterns that the data of an event is to be matched against, each with the place of its subscription.
    pub(crate) fn patterns<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (usize, &'a Value)> {
        self.all.iter().enumerate().flat_map(move |(place, subscription)| {
            let filters = subscription.filter.iter().filter(|filter| !filter.pattern.is_null() && filter.names(event));
            filters.map(move |filter| (place, &filter.pattern))
        })
    }

    /// Notes which subscriptions an event matches: those of its name without a pattern, and those whose pattern was
    /// found to match. Returns whether there is one.
    pub(crate) fn note_matches(&mut self, event: &Event, found: impl Iterator<Item = usize>) -> bool {
        for subscription in &mut self.all {
            let mut filters = subscription.filter.iter();
            subscription.matches = filters.any(|filter| filter.pattern.is_null() && filter.names(event));
        }
        for place in found {
            if let Some(subscription) = self.all.get_mut(place) {
                subscription.matches = true;
            }
        }
        self.all.iter().any(|subscription| subscription.matches)
    }

    /// Queues an event for the subscriptions that it was noted to match. Yields those for which it is the first in an
    /// empty queue.
    pub(crate) fn queue(&mut self, event: &Event) -> impl Iterator<Item = SubscriptionId> {
        let matching = self.all.iter_mut().filter(|subscription| subscription.matches);
        matching.filter_map(|subscription| subscription.queue(event).then_some(subscription.id))
    }

    /// Begins a new run: all subscriptions stay, with empty queues and counts.
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

    /// Returns whether an event is queued for this subscription.
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

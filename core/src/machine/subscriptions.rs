//! Subscriptions of a machine: the requests for them, and the events that they queue.

use alloc::vec::Vec;

use serde_json::Value;

use super::request::Things;
use super::{Machine, request};
use crate::error::WaitError;
use crate::event::{Event, Patterns, SubscriptionId};
use crate::fault::Misuse;
use crate::notice::Notice;
use crate::time::{Deadline, Moment};
use crate::wait::{Found, Mark, Wait, WaitId};

impl Machine {
    /// Subscribes to events: from a position on, queues every event that matches one of these filters: [`Wait::event`]
    /// and [`Wait::any_event`], with their [patterns](Wait::with).
    ///
    /// Past events that the history still holds are queued at once, so a subscription from a mark misses no event
    /// between the mark and the call. That matters, since events that a command causes mostly arrive before its reply
    /// (measured with QEMU 7.2.22). Each subscription has its own queue, of at most
    /// [`Limits::subscription`](crate::Limits::subscription) bytes; beyond that the oldest events are dropped and
    /// [counted](Self::missed_events). A subscription lasts until [`unsubscribe`](Self::unsubscribe), across runs; a
    /// new run begins with empty queues and counts.
    ///
    /// # Errors
    ///
    /// [`Misuse::EmptyFilter`] without a filter, [`Misuse::NotAnEvent`] for a filter that is not of an event, and
    /// [`Misuse::TooManySubscriptions`] beyond [`Limits::subscriptions`](crate::Limits::subscriptions).
    ///
    /// ```
    /// use qemu_machine_core::{Config, Machine, Wait, json};
    ///
    /// let mut machine = Machine::new(Config::new("qemu-system-x86_64"))?;
    /// let disk = Wait::event("BLOCK_JOB_COMPLETED").with(json!({"device": "disk0"}));
    /// let jobs = machine.subscribe(&machine.mark(), [disk, Wait::event("BLOCK_JOB_ERROR")])?;
    /// assert_eq!((machine.next_event(jobs), machine.missed_events(jobs)), (None, 0));
    /// machine.unsubscribe(jobs);
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    pub fn subscribe(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<SubscriptionId, Misuse> {
        let mut events = filter.into_iter();
        self.request(self.now, request::Subscribe { from, events: Things::new(&mut events) })
    }

    pub(super) fn begin_subscription(
        &mut self,
        from: &Mark,
        events: impl Iterator<Item = Wait>,
    ) -> Result<SubscriptionId, Misuse> {
        let filter = events.map(Wait::into_filter).collect::<Result<Vec<_>, _>>()?;
        if filter.is_empty() {
            return Err(Misuse::EmptyFilter);
        }
        let limits = &self.config.limits;
        if self.subscriptions.len() >= limits.subscriptions {
            return Err(Misuse::TooManySubscriptions(limits.subscriptions));
        }
        let from = from.not_before(&self.run_start);
        let id = self.subscriptions.begin(filter, limits.subscription, from.event, &self.history);
        if self.subscriptions.has_queued(id) {
            self.notices.push_back(Notice::Queued(id));
        }
        Ok(id)
    }

    /// Begins the subscriptions of [`Config::subscribe`](crate::Config::subscribe) at the first launch; they last.
    pub(super) fn subscribe_at_launch(&mut self) -> Result<(), Misuse> {
        if self.launch_subscriptions.is_none() {
            let filters = self.config.subscriptions.clone();
            let ids = filters.into_iter().map(|filter| self.begin_subscription(&Mark::default(), filter.into_iter()));
            self.launch_subscriptions = Some(ids.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// Returns the next subscription of [`Config::subscribe`](crate::Config::subscribe), each once, in the order of the
    /// calls. `None` means that there is none left, or that the machine was not launched.
    pub fn take_launch_subscription(&mut self) -> Option<SubscriptionId> {
        self.launch_subscriptions.as_mut()?.pop_front()
    }

    /// Returns the oldest event in the queue of a subscription, once. `None` means that the queue is empty, or that the
    /// subscription was ended.
    pub fn next_event(&mut self, id: SubscriptionId) -> Option<Event> {
        self.request(self.now, request::NextEvent(id))
    }

    /// Returns how many matching events a subscription dropped in this run, because its queue was full.
    ///
    /// Events that the history had [evicted](Self::evicted_events) before the subscription began are not counted.
    #[must_use]
    pub fn missed_events(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.missed(id)
    }

    /// Returns how many events after its mark the history had evicted before a subscription began. Whether they matched
    /// is unknown. Zero unless the mark was old.
    #[must_use]
    pub fn evicted_events(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.forgotten(id)
    }

    /// Ends a subscription. Its queue is dropped, and a wait that waits for nothing else ends with
    /// [`WaitError::Unsubscribed`].
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        self.request(self.now, request::Unsubscribe(id))
    }

    pub(super) fn end_subscription(&mut self, id: SubscriptionId) {
        self.subscriptions.end(id);
        self.waits.unsubscribed(&self.subscriptions);
        self.announce_waits();
    }

    /// Begins to wait until a subscription has an event; [`claim_event`](Self::claim_event) returns it. Queued events
    /// are found before any error is.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownSubscription`], and as [`wait`](Self::wait).
    pub fn wait_for_event(&mut self, now: Moment, id: SubscriptionId, deadline: Deadline) -> Result<WaitId, Misuse> {
        self.wait(now, &Mark::default(), [Wait::queued(id)], deadline)
    }

    /// Returns the result of [`wait_for_event`](Self::wait_for_event), once. `None` means that the wait is not over, or
    /// was claimed. An event that is not claimed stays in its queue.
    ///
    /// # Errors
    ///
    /// [`WaitError::Taken`] when another caller took the event first, [`WaitError::FoundOther`] for a wait for
    /// something else, and the errors of [`claim_wait`](Self::claim_wait).
    pub fn claim_event(&mut self, wait: WaitId) -> Option<Result<Event, WaitError>> {
        let over = self.claim_wait(wait)?;
        Some(over.and_then(|hit| match hit.found {
            Found::Queued(id) => self.next_event(id).ok_or(WaitError::Taken),
            _ => Err(WaitError::FoundOther),
        }))
    }

    /// Matches an event against all waits and subscriptions, in one pass over its data. Returns the waits that it
    /// completes, each with the index of the item, and whether it matches a subscription.
    pub(super) fn find_interested(&mut self, event: &Event) -> (Vec<(WaitId, usize)>, bool) {
        let mut waits = Vec::new();
        let mut subscriptions = Vec::new();
        let mut patterns = Patterns::new();
        for (id, item, pattern) in self.waits.items_for(event) {
            match pattern {
                Value::Null => waits.push((id, item)),
                pattern => patterns.add(Interest::Wait(id, item), pattern),
            }
        }
        for (place, pattern) in self.subscriptions.patterns(event) {
            patterns.add(Interest::Subscription(place), pattern);
        }
        for interest in patterns.matching(event.data_or_null()) {
            match interest {
                Interest::Wait(id, item) => waits.push((id, item)),
                Interest::Subscription(place) => subscriptions.push(place),
            }
        }
        let has_subscription = self.subscriptions.note_matches(event, subscriptions.into_iter());
        (waits, has_subscription)
    }

    /// Queues an event for the subscriptions that it was found to match.
    pub(super) fn queue_for_subscriptions(&mut self, event: &Event) {
        let Self { subscriptions, waits, notices, .. } = self;
        for id in subscriptions.queue(event) {
            waits.queued(id);
            notices.push_back(Notice::Queued(id));
        }
    }
}

/// The thing that has a pattern.
enum Interest {
    /// A wait, and the index of its item.
    Wait(WaitId, usize),
    /// A subscription, by its place.
    Subscription(usize),
}

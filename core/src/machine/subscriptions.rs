//! Subscriptions of a machine: the requests for them, and the events that they queue.

use alloc::vec::Vec;

use super::request::Things;
use super::{Machine, request};
use crate::error::WaitError;
use crate::event::{Event, SubscriptionId};
use crate::fault::Misuse;
use crate::notice::Notice;
use crate::time::{Deadline, Moment};
use crate::wait::{Found, Mark, Wait, WaitId};

impl Machine {
    /// Begins to queue, from a position on, every event that is one of these: [`Wait::event`] and [`Wait::any_event`],
    /// with the [patterns](Wait::with) that they have.
    ///
    /// Past events that the history still holds are queued at once: nothing is missed between acting and subscribing.
    /// Each subscription has a queue of its own, of at most [`Limits::subscription`](crate::Limits::subscription) bytes. Beyond it
    /// the oldest are dropped and [counted](Self::missed_events). A subscription stays, also from one run to the next,
    /// until [`unsubscribe`](Self::unsubscribe); a new run begins with empty queues and counts.
    ///
    /// # Errors
    ///
    /// [`Misuse::EmptyFilter`] without one, [`Misuse::NotAnEvent`] for other things to wait for, and
    /// [`Misuse::TooManySubscriptions`].
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

    /// The oldest event in the queue of a subscription. It is given once.
    pub fn next_event(&mut self, id: SubscriptionId) -> Option<Event> {
        self.request(self.now, request::NextEvent(id))
    }

    /// How many events a subscription wanted and lost in this run, because its queue was full.
    ///
    /// Those that the history had [forgotten](Self::evicted_events) when it began are not among them.
    #[must_use]
    pub fn missed_events(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.missed(id)
    }

    /// How many events the history had forgotten already when a subscription began: whether it wanted them cannot be
    /// known. Zero unless it began at an old mark.
    #[must_use]
    pub fn evicted_events(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.forgotten(id)
    }

    /// Ends a subscription. Its queue is dropped, and a wait for nothing else is over.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        self.request(self.now, request::Unsubscribe(id))
    }

    pub(super) fn end_subscription(&mut self, id: SubscriptionId) {
        self.subscriptions.end(id);
        self.waits.unsubscribed(&self.subscriptions);
        self.announce_waits();
    }

    /// Begins to wait until a subscription has an event. What is queued comes before any error. To be claimed with
    /// [`claim_event`](Self::claim_event).
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownSubscription`], and those of [`wait`](Self::wait).
    pub fn wait_for_event(&mut self, now: Moment, id: SubscriptionId, deadline: Deadline) -> Result<WaitId, Misuse> {
        self.wait(now, &Mark::default(), [Wait::queued(id)], deadline)
    }

    /// The event that was waited for with [`wait_for_event`](Self::wait_for_event), or why there is none, once that is
    /// known. It is given once; an event that nobody claims stays in its queue.
    ///
    /// It is [`WaitError::Taken`] when another caller took the event meanwhile, and [`WaitError::FoundOther`] for a wait that
    /// was for something else.
    pub fn claim_event(&mut self, wait: WaitId) -> Option<Result<Event, WaitError>> {
        let over = self.claim_wait(wait)?;
        Some(over.and_then(|hit| match hit.found {
            Found::Queued(id) => self.next_event(id).ok_or(WaitError::Taken),
            _ => Err(WaitError::FoundOther),
        }))
    }

    /// An event came, and is kept in the history under this number.
    pub(super) fn tell_subscriptions(&mut self, number: u64) {
        let Self { history, subscriptions, waits, notices, .. } = self;
        let Some(event) = history.get(number) else { return };
        for id in subscriptions.event(event) {
            waits.queued(id);
            notices.push_back(Notice::Queued(id));
        }
    }
}

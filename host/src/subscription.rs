//! Subscription to events of a machine that several callers share: the methods that return at once, for every runtime.

use std::fmt;

use qemu_machine_core::{Event, Machine, Mark, Misuse, SubscriptionId, Wait};

use crate::handle::{Handle, Shared};

/// Queue of the events that match one filter. A runtime's `Events` dereferences to it and adds how to wait for the next.
///
/// It keeps the machine alive, as a clone of the handle does. Dropping it unsubscribes, and affects no other subscription.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription<S: Shared> {
    handle: Handle<S>,
    id: SubscriptionId,
}

impl<S: Shared> Handle<S>
where
    S::Events: From<Subscription<S>>,
{
    /// Subscribes to the events of these names and [patterns](Wait::with) from now on. Each subscription has its own queue.
    ///
    /// Subscriptions do not affect each other. A full queue drops its oldest events and [counts](Subscription::missed) them;
    /// it holds at most [`Limits::subscription`](qemu_machine_core::Limits::subscription) bytes.
    ///
    /// # Errors
    ///
    /// [`Misuse`] for an empty filter, for a wait that is not one for events, and for more subscriptions at once than
    /// [`Limits::subscriptions`](qemu_machine_core::Limits::subscriptions).
    pub fn events(&self, filter: impl IntoIterator<Item = Wait>) -> Result<S::Events, Misuse> {
        self.events_from(&self.mark(), filter)
    }

    /// As [`events`](Self::events), from a mark on: retained events after the mark are queued at once. Take a mark, act, and
    /// subscribe from the mark: no event in between is missed.
    ///
    /// # Errors
    ///
    /// As [`events`](Self::events).
    pub fn events_from(&self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<S::Events, Misuse> {
        let filter: Vec<_> = filter.into_iter().collect();
        let id = self.shared().ask(|machine, _| machine.subscribe(from, filter))?;
        Ok(Subscription { handle: self.clone(), id }.into())
    }
}

impl<S: Shared> Subscription<S> {
    /// Returns the handle of the machine.
    #[must_use]
    pub fn handle(&self) -> &Handle<S> {
        &self.handle
    }

    /// Returns the id by which the machine knows the subscription, for the runtime.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Takes all queued events, the oldest first, without waiting. (QEMU's Python class returns new events before those
    /// that it had kept.)
    pub fn queued(&mut self) -> Vec<Event> {
        self.with_machine(|machine, id| std::iter::from_fn(|| machine.next_event(id)).collect())
    }

    /// Takes the oldest queued event. `None` means that the queue is empty.
    pub fn try_next(&mut self) -> Option<Event> {
        self.with_machine(|machine, id| machine.next_event(id))
    }

    /// Returns how many matching events were dropped so far because the queue was full.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.with_machine(|machine, id| machine.missed_events(id))
    }

    /// Returns how many events had been evicted from the history before the subscription began, so that it is unknown
    /// whether they match. Zero unless it began at a mark in the past.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.with_machine(|machine, id| machine.evicted_events(id))
    }

    fn with_machine<T>(&self, act: impl FnOnce(&mut Machine, SubscriptionId) -> T) -> T {
        self.handle.shared().with_machine(|machine| act(machine, self.id))
    }
}

impl<S: Shared> fmt::Debug for Subscription<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).field("handle", &self.handle).finish()
    }
}

impl<S: Shared> Drop for Subscription<S> {
    fn drop(&mut self) {
        self.handle.shared().ask(|machine, _| machine.unsubscribe(self.id));
    }
}

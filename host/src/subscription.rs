//! Subscription to events of a machine that several callers share, with the methods that return at once.

use std::fmt;

use qemu_machine_core::{Event, Machine, Mark, Misuse, SubscriptionId, Wait};

use crate::handle::{Handle, Shared};

/// Subscription to the events that match one filter, with a queue of its own. A runtime's `Events` dereferences to it
/// and adds a way to wait for the next event.
///
/// It keeps the machine alive, as a clone of the handle does. Dropping it unsubscribes, and affects no other
/// subscription.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription<S: Shared> {
    handle: Handle<S>,
    id: SubscriptionId,
}

impl<S: Shared> Handle<S>
where
    S::Events: From<Subscription<S>>,
{
    /// Subscribes to the events of these names and [patterns](Wait::with) from now on: every event that matches is
    /// queued.
    ///
    /// Each subscription has its own queue and does not affect others. A queue holds at most
    /// [`Limits::subscription`](qemu_machine_core::Limits::subscription) bytes, 1 MiB by default. A full queue drops
    /// its oldest events and [counts](Subscription::missed) them.
    ///
    /// # Errors
    ///
    /// [`Misuse::EmptyFilter`]; [`Misuse::NotAnEvent`] when the filter contains a wait for anything but events;
    /// [`Misuse::TooManySubscriptions`] for more subscriptions at once than
    /// [`Limits::subscriptions`](qemu_machine_core::Limits::subscriptions), 64 by default.
    pub fn events(&self, filter: impl IntoIterator<Item = Wait>) -> Result<S::Events, Misuse> {
        self.events_from(&self.mark(), filter)
    }

    /// As [`events`](Self::events), from a mark on: retained events after the mark are queued at once. Take a mark,
    /// act, and subscribe from the mark: no event in between is missed.
    ///
    /// # Errors
    ///
    /// As [`events`](Self::events).
    pub fn events_from(&self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<S::Events, Misuse> {
        let filter: Vec<_> = filter.into_iter().collect();
        // If the call panics after this, as in an observer of the wire, the value is dropped, which unsubscribes.
        let mut begun = None;
        let subscription = |id| Subscription { handle: self.clone(), id };
        let id = self
            .shared()
            .ask(|machine, _| machine.subscribe(from, filter).inspect(|id| begun = Some(subscription(*id))))?;
        Ok(begun.unwrap_or_else(|| subscription(id)).into())
    }
}

impl<S: Shared> Handle<S>
where
    S::Events: From<Subscription<S>>,
{
    /// Returns the next subscription of [`Config::subscribe`](qemu_machine_core::Config::subscribe), each once, in the
    /// order of the calls. `None` means that there is none left. Its queue has the events since the beginning of the
    /// launch.
    #[must_use]
    pub fn launch_events(&self) -> Option<S::Events> {
        let id = self.shared().with_machine(|machine| machine.take_launch_subscription())?;
        Some(Subscription { handle: self.clone(), id }.into())
    }
}

impl<S: Shared> Subscription<S> {
    /// Returns the handle of the machine.
    #[must_use]
    pub fn handle(&self) -> &Handle<S> {
        &self.handle
    }

    /// Returns the id of the subscription on the machine, for the runtime.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Pops all queued events, the oldest first, without waiting. (QEMU's Python class returns new events before older
    /// ones that it had kept.)
    pub fn queued(&mut self) -> Vec<Event> {
        self.with_machine(|machine, id| std::iter::from_fn(|| machine.next_event(id)).collect())
    }

    /// Pops the oldest queued event. `None` means that the queue is empty.
    pub fn try_next(&mut self) -> Option<Event> {
        self.with_machine(|machine, id| machine.next_event(id))
    }

    /// Returns how many matching events were dropped in this run because the queue was full.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.with_machine(|machine, id| machine.missed_events(id))
    }

    /// Returns how many events after its mark were already evicted when the subscription began. Whether they matched is
    /// unknown. Zero unless the mark was in the past.
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

//! Subscriptions to events, in the mio loop of the caller.

use qemu_machine_core::{Event, Mark, Misuse, SubscriptionId, Wait};

use super::Vm;

impl Vm {
    /// Returns the next subscription of [`Config::subscribe`](crate::Config::subscribe), each once, in the order of the
    /// calls. `None` means that there is none left. Its queue has the events since the beginning of the launch.
    pub fn take_launch_subscription(&mut self) -> Option<SubscriptionId> {
        self.machine.take_launch_subscription()
    }

    /// Subscribes to events, from a mark on: every event that matches the filter is queued. Each subscription has its
    /// own queue. [`Notice::Queued`](crate::Notice::Queued) means that an empty queue received an event;
    /// [`Wait::queued`] waits for that together with other things, or until a deadline.
    ///
    /// A queue holds at most [`Limits::subscription`](crate::Limits::subscription) bytes, 1 MiB by default. A full
    /// queue drops its oldest events and [counts](Self::missed_events) them.
    ///
    /// # Errors
    ///
    /// [`Misuse::EmptyFilter`]; [`Misuse::NotAnEvent`] when the filter contains a wait for anything but events;
    /// [`Misuse::TooManySubscriptions`] for more subscriptions at once than
    /// [`Limits::subscriptions`](crate::Limits::subscriptions), 64 by default.
    ///
    /// ```no_run
    /// # use qemu_machine_mio::{Config, EventLoop, Notice, Vm, Wait};
    /// # let mut event_loop = EventLoop::new()?;
    /// # let (registry, tokens) = event_loop.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
    /// let resets = vm.subscribe(&vm.mark(), [Wait::event("RESET")])?;
    /// while let Some(notice) = vm.turn(registry) {
    ///     if notice == Notice::Queued(resets) {
    ///         while let Some(event) = vm.next_event(resets) {
    ///             println!("{event}");
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<SubscriptionId, Misuse> {
        self.ask(|machine, _| machine.subscribe(from, filter))
    }

    /// Pops the oldest event from the queue of a subscription. `None` means that the queue is empty.
    pub fn next_event(&mut self, subscription: SubscriptionId) -> Option<Event> {
        self.machine.next_event(subscription)
    }

    /// Returns how many events of a subscription were dropped in this run because its queue was full.
    #[must_use]
    pub fn missed_events(&self, subscription: SubscriptionId) -> u64 {
        self.machine.missed_events(subscription)
    }

    /// Ends a subscription. Its queue is dropped, and a wait for its events alone ends with
    /// [`WaitError::Unsubscribed`](crate::WaitError::Unsubscribed).
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        self.ask(|machine, _| machine.unsubscribe(subscription));
    }
}

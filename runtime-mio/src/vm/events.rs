//! Decides what a subscription of events looks like to a loop.

use qemu_machine_core::{Event, Mark, Misuse, SubscriptionId, Wait};

use super::Vm;

impl Vm {
    /// Begins to queue, from a position on, every event that is one of these: a subscription of its own.
    /// [`Notice::Queued`](crate::Notice::Queued) says that its queue, which was empty, has something; [`Wait::queued`] waits for that together
    /// with other things, or until a deadline.
    ///
    /// When the loop is slow, the oldest are dropped beyond [`Limits::subscription`](crate::Limits::subscription) bytes, and
    /// [counted](Self::missed_events).
    ///
    /// # Errors
    ///
    /// For what is no event, for an empty filter, and for more subscriptions at once than
    /// [`Limits::subscriptions`](crate::Limits::subscriptions).
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

    /// The oldest event in the queue of a subscription. It is given once.
    pub fn next_event(&mut self, subscription: SubscriptionId) -> Option<Event> {
        self.machine.next_event(subscription)
    }

    /// How many events a subscription wanted and lost, because its queue was full.
    #[must_use]
    pub fn missed_events(&self, subscription: SubscriptionId) -> u64 {
        self.machine.missed_events(subscription)
    }

    /// Ends a subscription. Its queue is dropped, and a wait for nothing else is over.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        self.ask(|machine, _| machine.unsubscribe(subscription));
    }
}

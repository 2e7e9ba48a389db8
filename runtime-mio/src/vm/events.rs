//! Decides what a consumer of events looks like to a loop.

use qemu_machine_core::{Event, ListenerId, Mark, Misuse, Wait};

use super::Vm;

impl Vm {
    /// Begins to queue, from a position on, every event that is one of these: a consumer of its own.
    /// [`Notice::Heard`](crate::Notice::Heard) says that its queue, which was empty, has something; [`Wait::heard`] waits for that together
    /// with other things, or until a deadline.
    ///
    /// When the loop is slow, the oldest are dropped beyond [`Limits::listener`](crate::Limits::listener) bytes, and
    /// [counted](Self::missed_events).
    ///
    /// # Errors
    ///
    /// For what is no event, for an empty filter, and for more listeners at once than
    /// [`Limits::listeners`](crate::Limits::listeners).
    ///
    /// ```no_run
    /// # use qemu_machine_mio::{Config, Desk, Notice, Vm, Wait};
    /// # let mut desk = Desk::new()?;
    /// # let (registry, tokens) = desk.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
    /// let resets = vm.listen(&vm.mark(), [Wait::event("RESET")])?;
    /// while let Some(notice) = vm.turn(registry) {
    ///     if notice == Notice::Heard(resets) {
    ///         while let Some(event) = vm.next_event(resets) {
    ///             println!("{event}");
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<ListenerId, Misuse> {
        self.ask(|machine, _| machine.listen(from, filter))
    }

    /// The oldest event in the queue of a listener. It is given once.
    pub fn next_event(&mut self, listener: ListenerId) -> Option<Event> {
        self.machine.next_event(listener)
    }

    /// How many events a listener wanted and lost, because its queue was full.
    #[must_use]
    pub fn missed_events(&self, listener: ListenerId) -> u64 {
        self.machine.missed_events(listener)
    }

    /// Ends a listener. Its queue is dropped, and a wait for nothing else is over.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.ask(|machine, _| machine.unlisten(listener));
    }
}

//! Subscription to events, for threads that may block.

use std::ops::{Deref, DerefMut};

use qemu_machine_core::{Deadline, Event, FOREVER, WaitError};
use qemu_machine_host::Subscription;

use crate::driver::SharedMachine;
use crate::vm::cancel_wait;

/// Subscription to the events that match one filter, as [`Vm::events`](crate::Handle::events) returns it: each event
/// once, in order.
///
/// It keeps the machine alive, as a clone of the handle does. Dropping it unsubscribes, and affects no other
/// subscription. The methods that return at once are those of [`Subscription`].
///
/// As an iterator it waits for each event without a deadline. It ends when no event can come any more, because the
/// machine has ended or its monitor is closed: [`next`](Self::next) returns which.
///
/// ```no_run
/// # use std::time::Duration;
/// # use qemu_machine_blocking::{Config, Vm, Wait};
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
/// let mut resets = vm.events([Wait::event("RESET")])?;
/// let log = vm.events([Wait::any_event()])?;
/// std::thread::spawn(move || log.for_each(|event| println!("{event}")));
/// vm.execute("system_reset")?;
/// println!("{}", resets.next(Duration::from_secs(10))?);
/// assert_eq!((resets.queued().len(), resets.missed()), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a subscription unsubscribes"]
pub struct Events(Subscription<SharedMachine>);

impl Events {
    /// Returns the next event, within a deadline: the oldest that is queued, or else the first that is received.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when no event is received within the deadline; [`WaitError::Ended`], with the outcome,
    /// when the machine has ended; [`WaitError::Disconnected`] when its monitor is closed. Queued events are returned
    /// before any error.
    pub fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Event, WaitError> {
        if let Some(event) = self.0.try_next() {
            return Ok(event);
        }
        let (id, deadline) = (self.0.id(), deadline.into());
        self.0.handle().shared().call(
            |machine, now| machine.wait_for_event(now, id, deadline),
            |machine, wait| machine.claim_event(*wait),
            cancel_wait,
        )?
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Self::next(self, FOREVER).ok()
    }
}

impl From<Subscription<SharedMachine>> for Events {
    fn from(subscription: Subscription<SharedMachine>) -> Self {
        Self(subscription)
    }
}

impl Deref for Events {
    type Target = Subscription<SharedMachine>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Events {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

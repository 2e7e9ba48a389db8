//! Decides what a subscription of events looks like to a caller that may block.

use qemu_machine_core::{Deadline, Event, FOREVER, SubscriptionId, WaitError};

use crate::vm::Vm;

/// Events as they come, each once and in order: what [`Vm::events`] gives.
///
/// It keeps the machine alive, as a clone of the handle does. Dropped, it ends its queue and costs nobody else anything.
///
/// As an iterator it waits for each event as long as it takes. It is over when no event can come any more, because the
/// machine has ended or its monitor is gone: [`next`](Self::next) says which.
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
#[must_use = "a subscription hears events until it is dropped"]
pub struct Events {
    vm: Vm,
    subscription: SubscriptionId,
}

impl Events {
    fn new(vm: Vm, subscription: SubscriptionId) -> Self {
        Self { vm, subscription }
    }

    /// The next event: the oldest that is there, or else the first that comes.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when none comes within the deadline; [`WaitError::Ended`], with the outcome, and
    /// [`WaitError::Disconnected`] when none can come any more. What is there comes before any error.
    pub fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Event, WaitError> {
        let (subscription, deadline) = (self.subscription, deadline.into());
        if let Some(event) = self.vm.driver().take(|machine| machine.next_event(subscription)) {
            return Ok(event);
        }
        self.vm.driver().call(
            |machine, now| machine.wait_for_event(now, subscription, deadline),
            |machine, wait| machine.claim_event(*wait),
        )?
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Self::next(self, FOREVER).ok()
    }
}

qemu_machine_host::subscriptions_that_wait_for_nothing!(Vm, Events);

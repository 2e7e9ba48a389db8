//! Decides what a subscription of events looks like to a task.

use std::pin::Pin;
use std::task::{Context, Poll};

use qemu_machine_core::{Deadline, Event, FOREVER, Machine, Notice, SubscriptionId, WaitError};
use smol::stream::Stream;

use crate::vm::{Forget, Vm};

/// Events as they come, each once and in order: what [`Vm::events`] gives.
///
/// It keeps the machine alive, as a clone of the handle does. Dropped, it ends its queue and costs nobody else anything.
///
/// As a stream it waits for each event as long as it takes. It is over when no event can come any more, because the
/// machine has ended or its monitor is gone: [`next`](Self::next) says which.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_smol::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use qemu_machine_smol::Wait;
/// use smol::stream::StreamExt;
///
/// let mut resets = vm.events([Wait::event("RESET")])?;
/// let log = vm.events([Wait::any_event()])?;
/// smol::spawn(log.for_each(|event| println!("{event}"))).detach();
/// vm.execute("system_reset").await?;
/// println!("{}", resets.next(Duration::from_secs(10)).await?);
/// assert_eq!((resets.queued().len(), resets.missed()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a subscription hears events until it is dropped"]
pub struct Events {
    /// What the stream waits for. It goes before the machine does.
    waiting: Option<Forget>,
    vm: Vm,
    subscription: SubscriptionId,
}

impl Events {
    fn new(vm: Vm, subscription: SubscriptionId) -> Self {
        Self { waiting: None, vm, subscription }
    }

    /// The next event: the oldest that is there, or else the first that comes. A future that is dropped loses none.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when none comes within the deadline; [`WaitError::Ended`], with the outcome, and
    /// [`WaitError::Disconnected`] when none can come any more. What is there comes before any error.
    pub async fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Event, WaitError> {
        let deadline = deadline.into();
        if let Some(event) = self.vm.shared().take(|machine| machine.next_event(self.subscription)) {
            return Ok(event);
        }
        let wait = self.vm.ask(|machine, now| machine.wait_for_event(now, self.subscription, deadline))?;
        self.vm.over(wait, Machine::claim_event).await
    }
}

impl Stream for Events {
    type Item = Event;

    /// Begins to wait anew each time: what the last poll was woken for may have been taken by another call.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.waiting = None;
        if let Some(event) = self.vm.shared().take(|machine| machine.next_event(self.subscription)) {
            return Poll::Ready(Some(event));
        }
        let begun = self.vm.ask(|machine, now| machine.wait_for_event(now, self.subscription, FOREVER));
        let Ok(wait) = begun else { return Poll::Ready(None) };
        self.waiting = Some(self.vm.forget_later(wait));
        let shared = self.vm.shared();
        shared.poll(context, &[Notice::Waited(wait)], |machine| machine.claim_event(wait)).map(Result::ok)
    }
}

qemu_machine_host::subscriptions_that_wait_for_nothing!(Vm, Events);

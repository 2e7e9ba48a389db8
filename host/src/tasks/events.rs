//! Subscription to events, for tasks of any executor.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use qemu_machine_core::{Deadline, Event, FOREVER, Machine, Notice, WaitError};

use super::driver::SharedMachine;
use super::reactor::Reactor;
use super::waiting::{Waiting, wait_for};
use crate::subscription::Subscription;

/// Subscription to the events that match one filter, as [`Vm::events`](crate::Handle::events) returns it: each event
/// once, in order.
///
/// It keeps the machine alive, as a clone of the handle does. Dropping it unsubscribes, and affects no other
/// subscription. The methods that return at once are those of [`Subscription`].
///
/// This type has a method `next` with a deadline, so call that of the stream by its path: `StreamExt::next(&mut events)`.
/// As a stream it waits for each event without a deadline. It ends when no event can come any more, because the machine
/// has ended or its monitor is closed: [`next`](Self::next) returns which.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use qemu_machine_tokio::Wait;
/// use tokio_stream::StreamExt;
///
/// let mut resets = vm.events([Wait::event("RESET")])?;
/// let mut log = vm.events([Wait::any_event()])?;
/// tokio::spawn(async move {
///     while let Some(event) = StreamExt::next(&mut log).await {
///         println!("{event}");
///     }
/// });
/// vm.execute("system_reset").await?;
/// println!("{}", resets.next(Duration::from_secs(10)).await?);
/// assert_eq!((resets.queued().len(), resets.missed()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a subscription unsubscribes"]
pub struct Events<R: Reactor> {
    /// The wait of the stream. As the first member it is dropped before the handle of the machine.
    waiting: Option<Waiting<R>>,
    subscription: Subscription<SharedMachine<R>>,
}

impl<R: Reactor> Events<R> {
    /// Returns the next event, within a deadline: the oldest that is queued, or else the first that is received.
    /// Dropping the future loses no event.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when no event is received within the deadline; [`WaitError::Ended`], with the outcome,
    /// when the machine has ended; [`WaitError::Disconnected`] when its monitor is closed. Queued events are returned
    /// before any error.
    pub async fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Event, WaitError> {
        let deadline = deadline.into();
        if let Some(event) = self.subscription.try_next() {
            return Ok(event);
        }
        let (shared, id) = (self.subscription.handle().shared(), self.subscription.id());
        let begun = Waiting::begin(shared, |machine, now| machine.wait_for_event(now, id, deadline))?;
        wait_for(begun, Machine::claim_event).await
    }
}

impl<R: Reactor> Stream for Events<R> {
    type Item = Event;

    /// Begins a new wait at each poll: another call may have popped the event that woke the task.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.waiting = None;
        if let Some(event) = self.subscription.try_next() {
            return Poll::Ready(Some(event));
        }
        let (shared, id) = (self.subscription.handle().shared(), self.subscription.id());
        let begun = Waiting::begin(shared, |machine, now| machine.wait_for_event(now, id, FOREVER));
        let Ok((waiting, wait)) = begun else { return Poll::Ready(None) };
        let event = shared.poll(context, &[Notice::Waited(wait)], |machine| machine.claim_event(wait)).map(Result::ok);
        if event.is_ready() {
            waiting.claimed();
        } else {
            self.waiting = Some(waiting);
        }
        event
    }
}

impl<R: Reactor> From<Subscription<SharedMachine<R>>> for Events<R> {
    fn from(subscription: Subscription<SharedMachine<R>>) -> Self {
        Self { waiting: None, subscription }
    }
}

impl<R: Reactor> Deref for Events<R> {
    type Target = Subscription<SharedMachine<R>>;

    fn deref(&self) -> &Self::Target {
        &self.subscription
    }
}

impl<R: Reactor> DerefMut for Events<R> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.subscription
    }
}

impl<R: Reactor> fmt::Debug for Events<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.subscription).finish()
    }
}

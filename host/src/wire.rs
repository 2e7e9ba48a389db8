//! Observers of the monitor's bytes, for a log of the wire.

use std::fmt;

use qemu_machine_core::{Channel, Input};

use crate::panic::{CaughtPanic, store, store_panic};

/// A function that is called with bytes of the monitor.
type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// The observers of the bytes that are sent and received. Boxed, since a machine mostly has none.
#[derive(Default)]
pub(crate) struct Wire(Option<Box<Observers>>);

struct Observers {
    sent: Observer,
    received: Observer,
    /// The first panic of an observer that was not resumed yet.
    panic: Option<CaughtPanic>,
}

impl Wire {
    pub(crate) fn observed(
        sent: impl FnMut(&[u8]) + Send + 'static,
        received: impl FnMut(&[u8]) + Send + 'static,
    ) -> Self {
        Self(Some(Box::new(Observers { sent: Box::new(sent), received: Box::new(received), panic: None })))
    }

    /// Passes on bytes that were sent.
    pub(crate) fn sent(&mut self, channel: Channel, bytes: &[u8]) {
        if let (Some(Observers { sent, panic, .. }), Channel::Monitor) = (self.0.as_deref_mut(), channel) {
            store_panic(panic, || sent(bytes));
        }
    }

    /// Passes on the bytes of an input, if it has any, before the machine handles them.
    pub(crate) fn input(&mut self, input: &Input<'_>) {
        let Some(Observers { received, panic, .. }) = self.0.as_deref_mut() else { return };
        if let Input::Received(Channel::Monitor, bytes) = input {
            store_panic(panic, || received(bytes));
        }
    }

    /// Returns the first panic of an observer that was not resumed yet.
    pub(crate) fn take_panic(&mut self) -> Option<CaughtPanic> {
        self.0.as_mut()?.panic.take()
    }

    /// Moves such a panic to the observers that replace these.
    pub(crate) fn move_panic_to(mut self, other: &mut Self) -> Self {
        if let (Some(panic), Some(observers)) = (self.take_panic(), other.0.as_deref_mut()) {
            store(&mut observers.panic, panic);
        }
        self
    }

    /// Returns whether there is such a panic.
    pub(crate) fn has_panicked(&self) -> bool {
        self.0.as_ref().is_some_and(|observers| observers.panic.is_some())
    }
}

/// Prints whether there are observers: functions have no text.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "observed" } else { "not observed" })
    }
}

//! Observers of the monitor's bytes, for a log of the wire.

use std::fmt;

use qemu_machine_core::{Channel, Input};

/// A function that is called with bytes of the monitor.
type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// The observers of the bytes that are sent and received. Boxed, since a machine mostly has none.
#[derive(Default)]
pub(crate) struct Wire(Option<Box<(Observer, Observer)>>);

impl Wire {
    pub(crate) fn observed(
        sent: impl FnMut(&[u8]) + Send + 'static,
        received: impl FnMut(&[u8]) + Send + 'static,
    ) -> Self {
        Self(Some(Box::new((Box::new(sent), Box::new(received)))))
    }

    /// Passes on bytes that were sent.
    pub(crate) fn sent(&mut self, channel: Channel, bytes: &[u8]) {
        if let (Some(observers), Channel::Monitor) = (&mut self.0, channel) {
            (observers.0)(bytes);
        }
    }

    /// Passes on the bytes of an input, if it has any, before the machine handles them.
    pub(crate) fn input(&mut self, input: &Input<'_>) {
        if let (Some(observers), Input::Received(Channel::Monitor, bytes)) = (&mut self.0, input) {
            (observers.1)(bytes);
        }
    }
}

/// Prints whether there are observers: functions have no text.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "observed" } else { "not observed" })
    }
}

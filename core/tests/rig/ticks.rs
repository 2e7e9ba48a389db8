//! Events of one size for the rig, and its subscriptions.

use std::time::Duration;

use qemu_machine_core::{Event, Limits, Mark, Notice, SubscriptionId, Wait, WaitError};

use super::Rig;

/// The size of an event as [`tick`] writes it.
const ONE: usize = tick('A', 0).len() + Event::OVERHEAD;

/// Returns an event with a name of one letter and a number of one digit. All have the same size.
pub(crate) const fn tick(name: char, number: u8) -> [u8; 32] {
    let mut text = *br#"{"event": "_", "data": {"n": _}}"#;
    (text[11], text[29]) = (name as u8, b'0' + number);
    text
}

/// Returns limits of the history and of each queue, counted in such events.
pub(crate) fn limits(events: usize, subscription: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.events, limits.subscription) = (events * ONE, subscription * ONE);
    limits
}

impl Rig {
    pub(crate) fn tick(&mut self, name: char, number: u8) {
        self.says(std::str::from_utf8(&tick(name, number)).unwrap());
    }

    pub(crate) fn ticks(&mut self, names: &str) {
        names.chars().zip((0..10).cycle()).for_each(|(name, number)| self.tick(name, number));
    }

    pub(crate) fn subscribe(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> SubscriptionId {
        let id = self.vm.subscribe(from, filter).expect("a filter that makes sense");
        self.serve();
        id
    }

    /// Returns the names of all queued events.
    pub(crate) fn queued(&mut self, id: SubscriptionId) -> String {
        std::iter::from_fn(|| self.vm.next_event(id)).map(|event| event.name().to_string()).collect()
    }

    /// Waits for an event, and returns the result if the wait is over at once.
    pub(crate) fn next(&mut self, id: SubscriptionId, within: Duration) -> Option<Result<String, WaitError>> {
        let wait = self.vm.wait_for_event(self.now, id, within.into()).expect("a known subscription");
        self.vm.claim_event(wait).map(|event| event.map(|event| event.name().into()))
    }

    /// Returns the number of notices that the queue of a subscription has events.
    pub(crate) fn times_queued(&self, id: SubscriptionId) -> usize {
        self.notices.iter().filter(|notice| **notice == Notice::Queued(id)).count()
    }
}

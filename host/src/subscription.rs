//! Decides what a subscription of events can be asked without waiting: it is the same on every runtime whose machines are
//! shared handles.

/// Gives a handle its subscriptions, and them what waits for nothing. The subscription has a field `vm`, a handle with a
/// method `ask(&self, FnOnce(&mut Machine, Moment) -> T) -> T`, a field `subscription`, and `new` of the two.
#[doc(hidden)]
#[macro_export]
macro_rules! subscriptions_that_wait_for_nothing {
    ($handle:ty, $events:ty) => {
        impl $handle {
            /// The events of these names and [patterns]($crate::core::Wait::with) from now on, in a queue of their own.
            ///
            /// Subscriptions do not notice each other. When one is slow, its oldest events are dropped beyond
            /// [`Limits::subscription`]($crate::core::Limits::subscription) bytes, and counted.
            ///
            /// # Errors
            ///
            /// A [`Misuse`]($crate::core::Misuse) for what is no event, for an empty filter, and for more subscriptions at once
            /// than [`Limits::subscriptions`]($crate::core::Limits::subscriptions).
            pub fn events(
                &self,
                filter: impl IntoIterator<Item = $crate::core::Wait>,
            ) -> Result<$events, $crate::core::Misuse> {
                self.events_from(&self.mark(), filter)
            }

            /// As [`events`](Self::events), from a position on: past events that are remembered are queued at once.
            /// Take a mark, act, and consume from it: nothing is missed between.
            ///
            /// # Errors
            ///
            /// As [`events`](Self::events).
            pub fn events_from(
                &self,
                from: &$crate::core::Mark,
                filter: impl IntoIterator<Item = $crate::core::Wait>,
            ) -> Result<$events, $crate::core::Misuse> {
                let filter: Vec<_> = filter.into_iter().collect();
                let subscription = self.ask(|machine, _| machine.subscribe(from, filter))?;
                Ok(<$events>::new(self.clone(), subscription))
            }
        }

        impl $events {
            /// All events that are there, the oldest first, without waiting. (QEMU's Python class gives new ones before
            /// those that it had kept.)
            pub fn queued(&mut self) -> Vec<$crate::core::Event> {
                self.vm.ask(|machine, _| ::std::iter::from_fn(|| machine.next_event(self.subscription)).collect())
            }

            /// How many events were dropped so far, because the queue was full.
            #[must_use]
            pub fn missed(&self) -> u64 {
                self.vm.ask(|machine, _| machine.missed_events(self.subscription))
            }

            /// How many events were forgotten already when this began, so that nobody knows whether they were wanted.
            /// Zero unless it began at an old mark.
            #[must_use]
            pub fn forgotten(&self) -> u64 {
                self.vm.ask(|machine, _| machine.evicted_events(self.subscription))
            }
        }

        impl Drop for $events {
            fn drop(&mut self) {
                self.vm.ask(|machine, _| machine.unsubscribe(self.subscription));
            }
        }
    };
}

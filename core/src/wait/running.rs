//! Waits of a machine: the pending ones, and the results that are not claimed yet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::pending::Pending;
use super::{Found, Hit, Item, Mark, Missed, WaitId};
use crate::console::Console;
use crate::error::WaitError;
use crate::event::{Event, History, SubscriptionId, Subscriptions};
use crate::outcome::Outcome;
use crate::time::Moment;

/// The pending waits, and the results that are not claimed yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waits {
    next: u64,
    pending: Vec<Pending>,
    over: Vec<(WaitId, Result<Hit, WaitError>)>,
    /// The waits that are over and have no notice yet.
    unannounced: Vec<WaitId>,
}

impl Waits {
    /// Begins a wait: searches the past, and leaves the wait pending when nothing is found there.
    pub(crate) fn begin(
        &mut self,
        items: Vec<Item>,
        mark: Mark,
        until: Option<Moment>,
        history: &History,
        consoles: &[Console],
        subscriptions: &Subscriptions,
    ) -> WaitId {
        let id = WaitId(self.next);
        self.next += 1;
        let mut wait = Pending { id, items, mark, missed: Missed::default(), until };
        wait.missed = wait.count_missed(history, consoles);
        let hit = wait.look_back(history, consoles).or_else(|| wait.queued(|id| subscriptions.has_queued(id)));
        self.pending.push(wait);
        if let Some(hit) = hit {
            self.complete(|wait| (wait.id == id).then(|| Ok(hit.clone())));
        }
        id
    }

    /// Matches an event against the pending waits.
    pub(crate) fn event(&mut self, number: u64, event: &Event) {
        self.complete(|wait| wait.event(number, event).map(Ok));
    }

    /// Completes the waits for this subscription, whose queue has got an event.
    pub(crate) fn queued(&mut self, id: SubscriptionId) {
        self.complete(|wait| wait.queued(|other| other == id).map(Ok));
    }

    /// Fails the waits that are only for subscriptions that were ended: they could find nothing any more.
    pub(crate) fn unsubscribed(&mut self, subscriptions: &Subscriptions) {
        self.complete(|wait| {
            let is_gone = |item: &Item| matches!(item, Item::Queued(id) if !subscriptions.knows(*id));
            wait.items.iter().all(is_gone).then(|| Err(WaitError::Unsubscribed))
        });
    }

    /// Matches the new output of a console against the pending waits.
    pub(crate) fn printed(&mut self, index: usize, console: &Console) {
        self.complete(|wait| wait.printed(index, console).map(Ok));
    }

    /// Completes all waits, since the machine ended.
    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        self.complete(|wait| {
            let outcome = Box::new(outcome.clone());
            let index = wait.items.iter().position(|item| *item == Item::End);
            Some(match index {
                Some(index) => Ok(wait.hit(index, Found::End(outcome), wait.mark.clone())),
                None => Err(WaitError::Ended(outcome)),
            })
        });
    }

    /// Fails the results that found a queued event and were not claimed: a new run has emptied the queues.
    pub(crate) fn lost(&mut self, outcome: &Outcome) {
        let queued = |hit: &Hit| matches!(hit.found, Found::Queued(_));
        for (_, result) in self.over.iter_mut().filter(|(_, result)| result.as_ref().is_ok_and(queued)) {
            *result = Err(WaitError::Ended(Box::new(outcome.clone())));
        }
    }

    /// Fails the waits that are only for events, since no event can arrive any more.
    pub(crate) fn disconnected(&mut self) {
        self.complete(|wait| {
            let only_events = wait.items.iter().all(|item| matches!(item, Item::Event(_) | Item::Queued(_)));
            only_events.then_some(Err(WaitError::Disconnected))
        });
    }

    /// Fails the waits whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.complete(|wait| wait.until.is_some_and(|until| until <= now).then_some(Err(WaitError::TimedOut)));
    }

    fn complete(&mut self, mut end: impl FnMut(&mut Pending) -> Option<Result<Hit, WaitError>>) {
        let Self { over, unannounced, .. } = self;
        self.pending.retain_mut(|wait| match end(wait) {
            Some(result) => {
                over.push((wait.id, result));
                unannounced.push(wait.id);
                false
            }
            None => true,
        });
    }

    pub(crate) fn claim(&mut self, id: WaitId) -> Option<Result<Hit, WaitError>> {
        let index = self.over.iter().position(|(other, _)| *other == id)?;
        Some(self.over.swap_remove(index).1)
    }

    /// Returns whether the result of a wait can be claimed.
    #[cfg(feature = "record")]
    pub(crate) fn is_over(&self, id: WaitId) -> bool {
        self.over.iter().any(|(other, _)| *other == id)
    }

    /// Returns the outcomes in the results that are not claimed.
    #[cfg(feature = "record")]
    pub(crate) fn outcomes_mut(&mut self) -> impl Iterator<Item = &mut Outcome> {
        self.over.iter_mut().filter_map(|(_, result)| match result {
            Ok(Hit { found: Found::End(outcome), .. }) | Err(WaitError::Ended(outcome)) => Some(&mut **outcome),
            _ => None,
        })
    }

    pub(crate) fn disown_wait(&mut self, id: WaitId) {
        self.pending.retain(|wait| wait.id != id);
        self.over.retain(|(other, _)| *other != id);
    }

    /// Returns the waits that are over since the last call.
    pub(crate) fn take_ended(&mut self) -> impl Iterator<Item = WaitId> + '_ {
        self.unannounced.drain(..)
    }

    /// Returns how many waits are pending, or over and not claimed.
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.over.len()
    }

    /// Returns how many waits are pending.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.pending.iter().filter_map(|wait| wait.until).min()
    }
}

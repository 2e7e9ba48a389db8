//! Waits of a machine: the pending ones, and the results that are not claimed yet.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde_json::Value;

use super::index::Index;
use super::pending::Pending;
use super::{Found, Hit, Item, Mark, Missed, WaitId};
use crate::console::Console;
use crate::deadlines::Deadlines;
use crate::error::WaitError;
use crate::event::{Event, History, SubscriptionId, Subscriptions};
use crate::outcome::{CompanionEnd, Outcome};
use crate::time::Moment;
use crate::work;

/// The pending waits, and the results that are not claimed yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waits {
    next: u64,
    pending: BTreeMap<WaitId, Pending>,
    index: Index,
    /// The deadlines of the pending waits that have one.
    deadlines: Deadlines,
    over: BTreeMap<WaitId, Result<Hit, WaitError>>,
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
        match hit {
            Some(hit) => self.end(id, Ok(hit)),
            None => self.add(wait),
        }
        id
    }

    fn add(&mut self, wait: Pending) {
        self.index.add(wait.id, &wait.items);
        if let Some(until) = wait.until {
            self.deadlines.add(until, wait.id.0);
        }
        self.pending.insert(wait.id, wait);
    }

    fn remove(&mut self, id: WaitId) -> Option<Pending> {
        let wait = self.pending.remove(&id)?;
        self.index.remove(id, &wait.items);
        if let Some(until) = wait.until {
            self.deadlines.remove(until, id.0);
        }
        Some(wait)
    }

    /// Records the result of a wait that is not pending any more.
    fn end(&mut self, id: WaitId, result: Result<Hit, WaitError>) {
        self.over.insert(id, result);
        self.unannounced.push(id);
    }

    /// Ends those of these waits that `end` has a result for.
    fn complete(&mut self, ids: Vec<WaitId>, mut end: impl FnMut(&mut Pending) -> Option<Result<Hit, WaitError>>) {
        work::count(ids.len());
        for id in ids {
            if let Some(result) = self.pending.get_mut(&id).and_then(&mut end) {
                self.remove(id);
                self.end(id, result);
            }
        }
    }

    fn complete_any(&mut self, end: impl FnMut(&mut Pending) -> Option<Result<Hit, WaitError>>) {
        self.complete(self.pending.keys().copied().collect(), end);
    }

    /// Returns the items that wait for an event of this name: the id of the wait, the index of the item, and its pattern,
    /// which the data of the event is to be matched against. A pattern of `null` needs no match.
    pub(crate) fn items_for<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (WaitId, usize, &'a Value)> {
        let waits = self.index.for_event(event.name()).into_iter().filter_map(|id| self.pending.get(&id));
        waits.flat_map(move |wait| {
            wait.items.iter().enumerate().filter_map(move |(index, item)| match item {
                Item::Event(filter) if filter.names(event) => Some((wait.id, index, &filter.pattern)),
                _ => None,
            })
        })
    }

    /// Completes waits with an event. Each comes with the index of an item that the event matches; of several, the first
    /// counts.
    pub(crate) fn event(&mut self, number: u64, event: &Event, found: Vec<(WaitId, usize)>) {
        let mut found = found;
        found.sort_unstable();
        found.dedup_by_key(|(id, _)| *id);
        for (id, index) in found {
            if let Some(wait) = self.remove(id) {
                self.end(id, Ok(wait.found_event(index, number, event)));
            }
        }
    }

    /// Completes the waits for this subscription, whose queue has got an event.
    pub(crate) fn queued(&mut self, id: SubscriptionId) {
        self.complete(self.index.for_queue(id), |wait| wait.queued(|other| other == id).map(Ok));
    }

    /// Fails the waits that are only for subscriptions that were ended: they could find nothing any more.
    pub(crate) fn unsubscribed(&mut self, subscriptions: &Subscriptions) {
        self.complete_any(|wait| {
            let is_gone = |item: &Item| matches!(item, Item::Queued(id) if !subscriptions.knows(*id));
            wait.items.iter().all(is_gone).then(|| Err(WaitError::Unsubscribed))
        });
    }

    /// Matches the new output of a console against the pending waits.
    pub(crate) fn printed(&mut self, index: usize, console: &Console) {
        self.complete(self.index.for_console(index), |wait| wait.printed(index, console).map(Ok));
    }

    /// Completes the waits for the companion with this index, which has ended.
    pub(crate) fn companion_ended(&mut self, index: usize, end: &CompanionEnd) {
        self.complete_any(|wait| {
            let item = wait.items.iter().position(|item| *item == Item::Companion(index))?;
            Some(Ok(wait.hit(item, Found::Companion(Box::new(end.clone())), wait.mark.clone())))
        });
    }

    /// Completes all waits, since the machine ended.
    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        self.complete_any(|wait| {
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
        for result in self.over.values_mut().filter(|result| result.as_ref().is_ok_and(queued)) {
            *result = Err(WaitError::Ended(Box::new(outcome.clone())));
        }
    }

    /// Fails the waits that are only for events, since no event can arrive any more.
    pub(crate) fn disconnected(&mut self) {
        self.complete_any(|wait| {
            let only_events = wait.items.iter().all(|item| matches!(item, Item::Event(_) | Item::Queued(_)));
            only_events.then_some(Err(WaitError::Disconnected))
        });
    }

    /// Fails the waits whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Moment) {
        while let Some(number) = self.deadlines.pop_passed(now) {
            let id = WaitId(number);
            if self.remove(id).is_some() {
                self.end(id, Err(WaitError::TimedOut));
            }
        }
    }

    pub(crate) fn claim(&mut self, id: WaitId) -> Option<Result<Hit, WaitError>> {
        self.over.remove(&id)
    }

    /// Returns whether the result of a wait can be claimed.
    #[cfg(feature = "record")]
    pub(crate) fn is_over(&self, id: WaitId) -> bool {
        self.over.contains_key(&id)
    }

    /// Returns whether a result was not claimed.
    pub(crate) fn has_unclaimed(&self) -> bool {
        !self.over.is_empty()
    }

    /// Returns the outcomes in the results that are not claimed.
    #[cfg(feature = "record")]
    pub(crate) fn outcomes_mut(&mut self) -> impl Iterator<Item = &mut Outcome> {
        self.over.values_mut().filter_map(|result| match result {
            Ok(Hit { found: Found::End(outcome), .. }) | Err(WaitError::Ended(outcome)) => Some(&mut **outcome),
            _ => None,
        })
    }

    pub(crate) fn disown_wait(&mut self, id: WaitId) {
        self.remove(id);
        self.over.remove(&id);
    }

    /// Returns whether [`take_ended`](Self::take_ended) returns any.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        !self.unannounced.is_empty()
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

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.deadlines.first()
    }
}

//! Waits of a machine: those that are pending, and the results that nobody has claimed yet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::pending::Pending;
use super::{Found, Hit, Item, Mark, Missed, WaitId};
use crate::console::Console;
use crate::error::WaitError;
use crate::event::{Event, History, SubscriptionId, Subscriptions};
use crate::outcome::Outcome;
use crate::time::Moment;

/// The waits that are not over, and the ends of those that are and were not claimed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waits {
    next: u64,
    pending: Vec<Pending>,
    over: Vec<(WaitId, Result<Hit, WaitError>)>,
    /// Those that are over and were not announced.
    unannounced: Vec<WaitId>,
}

impl Waits {
    /// Begins a wait: looks at what is there, and stays if that is not it.
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

    /// An event came.
    pub(crate) fn event(&mut self, number: u64, event: &Event) {
        self.complete(|wait| wait.event(number, event).map(Ok));
    }

    /// This subscription has an event.
    pub(crate) fn queued(&mut self, id: SubscriptionId) {
        self.complete(|wait| wait.queued(|other| other == id).map(Ok));
    }

    /// A subscription is gone: who waits only for such waits in vain.
    pub(crate) fn unsubscribed(&mut self, subscriptions: &Subscriptions) {
        self.complete(|wait| {
            let is_gone = |item: &Item| matches!(item, Item::Queued(id) if !subscriptions.knows(*id));
            wait.items.iter().all(is_gone).then(|| Err(WaitError::Unsubscribed))
        });
    }

    /// A console printed.
    pub(crate) fn printed(&mut self, index: usize, console: &Console) {
        self.complete(|wait| wait.printed(index, console).map(Ok));
    }

    /// The machine ended.
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

    /// The queues of all subscriptions were emptied: what was found in one and not taken is lost with the run it was of.
    pub(crate) fn lost(&mut self, outcome: &Outcome) {
        let queued = |hit: &Hit| matches!(hit.found, Found::Queued(_));
        for (_, result) in self.over.iter_mut().filter(|(_, result)| result.as_ref().is_ok_and(queued)) {
            *result = Err(WaitError::Ended(Box::new(outcome.clone())));
        }
    }

    /// No event can come any more.
    pub(crate) fn disconnected(&mut self) {
        self.complete(|wait| {
            let only_events = wait.items.iter().all(|item| matches!(item, Item::Event(_) | Item::Queued(_)));
            only_events.then_some(Err(WaitError::Disconnected))
        });
    }

    /// Time passed.
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

    /// Whether it can be claimed.
    #[cfg(feature = "record")]
    pub(crate) fn is_over(&self, id: WaitId) -> bool {
        self.over.iter().any(|(other, _)| *other == id)
    }

    /// The outcomes in what was found and not claimed.
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

    /// The waits that ended since this was last asked.
    pub(crate) fn take_ended(&mut self) -> impl Iterator<Item = WaitId> + '_ {
        self.unannounced.drain(..)
    }

    /// How many are pending, or over and not claimed.
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.over.len()
    }

    /// How many are not over.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.pending.iter().filter_map(|wait| wait.until).min()
    }
}

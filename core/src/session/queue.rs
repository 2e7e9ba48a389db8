//! Queue of the commands that are not on the wire yet.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::pending::PendingCommand;
use crate::command::Band;
use crate::descriptor::Descriptor;
use crate::work;

/// A command that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) entry: PendingCommand,
    pub(super) body: Vec<u8>,
    pub(super) descriptor: Option<Descriptor>,
}

/// The queued commands, apart for each band, so that the next one is found without a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    in_band: VecDeque<Queued>,
    out_of_band: VecDeque<Queued>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.in_band.len() + self.out_of_band.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.in_band.is_empty() && self.out_of_band.is_empty()
    }

    /// Returns whether an in-band command is queued.
    pub(super) fn has_in_band(&self) -> bool {
        !self.in_band.is_empty()
    }

    pub(super) fn push(&mut self, command: Queued) {
        match command.entry.band {
            Band::InBand => self.in_band.push_back(command),
            Band::OutOfBand => self.out_of_band.push_back(command),
        }
    }

    /// Removes the command that was queued first of those that may be sent. In-band commands keep their order, so only
    /// the first of them may be; an out-of-band one that waits for a descriptor delays no other.
    pub(super) fn next(&mut self, room: bool, is_barred: impl Fn(&PendingCommand) -> bool) -> Option<Queued> {
        let in_band = self.in_band.front().filter(|first| room && !is_barred(&first.entry));
        let place = self.out_of_band.iter().position(|command| {
            work::count(1);
            !is_barred(&command.entry)
        });
        let out_of_band = place.and_then(|place| Some((place, self.out_of_band.get(place)?.entry.number)));
        match (in_band.map(|first| first.entry.number), out_of_band) {
            (Some(number), Some((place, other))) if other < number => self.out_of_band.remove(place),
            (None, Some((place, _))) => self.out_of_band.remove(place),
            (Some(_), _) => self.in_band.pop_front(),
            (None, None) => None,
        }
    }

    /// Returns the commands that `is_over` chooses, in the order of queueing, and removes them.
    pub(super) fn extract(&mut self, is_over: impl Fn(&PendingCommand) -> bool) -> Vec<Queued> {
        work::count(self.len());
        let Self { in_band, out_of_band } = self;
        let mut over = Vec::new();
        for queue in [in_band, out_of_band] {
            if queue.iter().any(|command| is_over(&command.entry)) {
                let (gone, rest) = core::mem::take(queue).into_iter().partition(|command| is_over(&command.entry));
                *queue = rest;
                over.extend::<VecDeque<_>>(gone);
            }
        }
        over.sort_by_key(|command| command.entry.number);
        over
    }

    /// Returns all commands, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingCommand> {
        work::count(self.len());
        self.in_band.iter().chain(&self.out_of_band).map(|command| &command.entry)
    }
}

//! Decides which commands are on the wire, under which id, and which must wait their turn.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Session, finish};
use crate::command::{Band, CommandId, Kind};
use crate::error::Progress;
use crate::fault::Misuse;
use crate::time::Moment;

/// The commands that have no reply yet: those on the wire, and those that wait to go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// By the id on the wire.
    slots: Vec<Option<Entry>>,
    /// The ids that are free, the one that was given back longest ago first.
    free: VecDeque<u16>,
    /// The ids on the wire, in the order of sending.
    order: VecDeque<u16>,
    in_band: usize,
    waiting: VecDeque<Waiting>,
}

/// What is known of a command on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    pub(super) band: Band,
    pub(super) kind: Kind,
    pub(super) deadline: Option<Moment>,
}

/// Who wants the reply of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The session itself.
    Handshake {
        /// Whether it asked for out-of-band execution.
        out_of_band: bool,
    },
    /// The shutdown ladder.
    Ladder,
    /// The caller that holds the ticket.
    Caller(CommandId),
    /// The caller gave up; the id stays taken until the reply comes.
    Nobody,
    /// The reply was unreadable; the id stays taken until a later in-band reply proves that it is over.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    entry: Entry,
    body: Vec<u8>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { owner: Owner::Nobody, band: Band::InBand, kind: Kind::default(), deadline: None }
    }
}

impl Entry {
    /// Whether it is one of the in-band commands that QEMU may hold.
    fn takes_a_place(&self) -> bool {
        self.band == Band::InBand && self.owner != Owner::Lost
    }
}

impl Default for Flight {
    /// The ids begin with the ten of one digit: an id that was just given back rests while nine others are used, so
    /// that a doubled reply finds nobody, and requests stay short.
    fn default() -> Self {
        const ONE_DIGIT: u16 = 10;
        Self {
            slots: (0..ONE_DIGIT).map(|_| None).collect(),
            free: (0..ONE_DIGIT).collect(),
            order: VecDeque::new(),
            in_band: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl Flight {
    /// How many commands wait for their end.
    pub(super) fn len(&self) -> usize {
        self.order.len() + self.waiting.len()
    }

    /// How many of them are on the wire.
    pub(super) fn on_the_wire(&self) -> usize {
        self.order.len()
    }

    /// Whether a command may go to the wire now. In-band commands keep their order; out-of-band ones wait for
    /// nobody.
    pub(super) fn may_send(&self, band: Band, out_of_band: bool) -> bool {
        let turn = match band {
            Band::OutOfBand => true,
            Band::InBand => self.waiting.is_empty() && self.has_room(out_of_band),
        };
        turn && self.has_id()
    }

    /// Whether one more in-band command may be on the wire.
    fn has_room(&self, out_of_band: bool) -> bool {
        !out_of_band || self.in_band < Session::IN_BAND_DEPTH
    }

    fn has_id(&self) -> bool {
        !self.free.is_empty() || u16::try_from(self.slots.len()).is_ok()
    }

    /// Puts a command on the wire. It may go, and so there is an id for it.
    pub(super) fn send(&mut self, entry: Entry, body: &[u8], out: &mut Vec<u8>) {
        let id = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u16
        });
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = Some(entry);
        }
        self.order.push_back(id);
        self.in_band += usize::from(entry.band == Band::InBand);
        finish(body, id, out);
    }

    /// Lets a command wait for its turn.
    pub(super) fn queue(&mut self, entry: Entry, body: &[u8]) {
        self.waiting.push_back(Waiting { entry, body: body.to_vec() });
    }

    /// Puts the next waiting command on the wire, if it may go.
    pub(super) fn send_next(&mut self, out_of_band: bool, out: &mut Vec<u8>) -> bool {
        let room = self.has_room(out_of_band);
        let may_go = |waiting: &Waiting| room || waiting.entry.band == Band::OutOfBand;
        let next = self.waiting.iter().position(may_go).filter(|_| self.has_id());
        let Some(next) = next.and_then(|next| self.waiting.remove(next)) else { return false };
        self.send(next.entry, &next.body, out);
        true
    }

    /// The reply with this id came: its command is over.
    pub(super) fn land(&mut self, id: u16) -> Option<Entry> {
        let entry = self.slots.get_mut(usize::from(id))?.take()?;
        self.give_back(id, &entry);
        if entry.band == Band::InBand {
            self.give_back_lost_before(id);
        }
        self.leave_order(id);
        Some(entry)
    }

    /// Replies come mostly in order, so it is mostly the first.
    fn leave_order(&mut self, id: u16) {
        if self.order.front() == Some(&id) {
            self.order.pop_front();
        } else {
            self.order.retain(|other| *other != id);
        }
    }

    fn give_back(&mut self, id: u16, entry: &Entry) {
        self.free.push_back(id);
        self.in_band -= usize::from(entry.takes_a_place());
    }

    /// In-band replies keep the order of their commands, so what was lost before this one is over as well.
    fn give_back_lost_before(&mut self, id: u16) {
        let is_lost = |id: &u16| self.entry(*id).is_some_and(|entry| entry.owner == Owner::Lost);
        let before = self.order.iter().copied().take_while(|other| *other != id);
        let lost: Vec<u16> = before.filter(is_lost).collect();
        for id in lost {
            if let Some(entry) = self.slots.get_mut(usize::from(id)).and_then(Option::take) {
                self.give_back(id, &entry);
                self.leave_order(id);
            }
        }
    }

    fn entry(&self, id: u16) -> Option<&Entry> {
        self.slots.get(usize::from(id))?.as_ref()
    }

    fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }

    /// The oldest in-band command failed by an unreadable reply.
    pub(super) fn lose_oldest(&mut self) -> Option<CommandId> {
        self.lose(|entry| entry.band == Band::InBand)
    }

    /// The oldest raw command failed by an error without an id.
    pub(super) fn lose_oldest_raw(&mut self) -> Option<CommandId> {
        self.lose(|entry| entry.kind.raw)
    }

    fn lose(&mut self, which: impl Fn(&Entry) -> bool) -> Option<CommandId> {
        let matching = |id: &&u16| self.entry(**id).is_some_and(|entry| entry.owner != Owner::Lost && which(entry));
        let id = *self.order.iter().find(matching)?;
        let entry = self.slots.get_mut(usize::from(id))?.as_mut()?;
        // QEMU is done with it, only the id is not free: its place is, and it has nothing to wait for.
        self.in_band -= usize::from(entry.takes_a_place());
        entry.deadline = None;
        match core::mem::replace(&mut entry.owner, Owner::Lost) {
            Owner::Caller(id) => Some(id),
            Owner::Handshake { .. } | Owner::Ladder | Owner::Nobody | Owner::Lost => None,
        }
    }

    /// Nobody wants the reply any more. A command that was not sent yet is forgotten.
    pub(super) fn disown(&mut self, owner: Owner) {
        self.waiting.retain(|waiting| waiting.entry.owner != owner);
        for entry in self.entries_mut().filter(|entry| entry.owner == owner) {
            entry.owner = Owner::Nobody;
            entry.deadline = None;
        }
    }

    /// Answers what has run out of time.
    pub(super) fn expire(&mut self, now: Moment, mut answer: impl FnMut(CommandId, Progress)) {
        let passed = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        for entry in self.entries_mut().filter(|entry| passed(entry)) {
            entry.deadline = None;
            if let Owner::Caller(id) = core::mem::replace(&mut entry.owner, Owner::Nobody) {
                answer(id, Progress::Sent);
            }
        }
        self.waiting.retain(|waiting| {
            let expired = passed(&waiting.entry);
            if let (true, Owner::Caller(id)) = (expired, waiting.entry.owner) {
                answer(id, Progress::Unsent);
            }
            !expired
        });
    }

    /// When the next command runs out of time.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let on_the_wire = self.slots.iter().flatten();
        let waiting = self.waiting.iter().map(|waiting| &waiting.entry);
        on_the_wire.chain(waiting).filter_map(|entry| entry.deadline).min()
    }

    /// Out-of-band execution was not offered: answers the commands that wait for it.
    pub(super) fn reject_out_of_band(&mut self, offered: bool, mut answer: impl FnMut(CommandId, Misuse)) {
        self.waiting.retain(|waiting| {
            let rejected = !offered && waiting.entry.band == Band::OutOfBand;
            if let (true, Owner::Caller(id)) = (rejected, waiting.entry.owner) {
                answer(id, Misuse::NoOutOfBand(crate::text::lossy(&waiting.body)));
            }
            !rejected
        });
    }

    /// The connection is over: answers everything, in the order of asking.
    pub(super) fn crash(&mut self, mut answer: impl FnMut(CommandId, Progress)) {
        let Self { slots, order, waiting, .. } = core::mem::take(self);
        let sent = order.iter().filter_map(|id| slots.get(usize::from(*id)).copied().flatten());
        let unsent = waiting.iter().map(|waiting| waiting.entry);
        let all = sent.map(|entry| (entry, Progress::Sent)).chain(unsent.map(|entry| (entry, Progress::Unsent)));
        for (entry, progress) in all {
            if let Owner::Caller(id) = entry.owner {
                answer(id, progress);
            }
        }
    }
}

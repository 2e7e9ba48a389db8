//! Commands on the wire, found by the id that their replies carry.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use super::pending::{Owner, PendingCommand};
use crate::command_name::CommandName;
use crate::work;

/// A command on the wire.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sent {
    id: u16,
    pub(super) entry: PendingCommand,
    /// Kept for its reply, which names it; the body is not kept.
    pub(super) name: CommandName,
    /// The place in the order of sending.
    pub(super) place: u64,
}

/// The commands on the wire, and the ids. The work for one command does not depend on how many there are.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct OnWire {
    /// The commands, in no order.
    commands: Vec<Sent>,
    /// For each id that exists, the index of its command. `None` means that the id is free.
    indexes: Vec<Option<u16>>,
    /// The free ids, the one that was freed longest ago first.
    free: VecDeque<u16>,
    next_place: u64,
    /// How many in-band commands QEMU may hold.
    in_band: usize,
    /// How many commands may still need the descriptor that goes with them.
    descriptors: usize,
    /// How many commands have an unreadable reply.
    unmatched: usize,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, entry, name, place: _ } = self;
        f.debug_struct("Sent").field("id", id).field("entry", entry).field("name", name).finish()
    }
}

/// Lists the commands in the order of sending.
impl fmt::Debug for OnWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sent: Vec<_> = self.commands.iter().collect();
        sent.sort_by_key(|sent| sent.place);
        let mut wire = f.debug_struct("OnWire");
        wire.field("sent", &sent).field("free", &self.free).field("ids", &self.indexes.len()).finish_non_exhaustive()
    }
}

impl Default for OnWire {
    /// Starts with the ten ids of one digit, which keep requests short. A freed id is used again only after the other
    /// nine, so that a doubled reply finds no command.
    fn default() -> Self {
        const ONE_DIGIT: u16 = 10;
        Self {
            // Most callers have one command in flight.
            commands: Vec::with_capacity(1),
            indexes: (0..ONE_DIGIT).map(|_| None).collect(),
            free: (0..ONE_DIGIT).collect(),
            next_place: 0,
            in_band: 0,
            descriptors: 0,
            unmatched: 0,
        }
    }
}

impl OnWire {
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Returns how many in-band commands QEMU may hold.
    pub(super) fn in_band(&self) -> usize {
        self.in_band
    }

    /// Returns whether a command may still need the descriptor that goes with it.
    pub(super) fn has_descriptor(&self) -> bool {
        self.descriptors > 0
    }

    /// Returns whether an id is free, or can be made.
    pub(super) fn has_id(&self) -> bool {
        !self.free.is_empty() || u16::try_from(self.indexes.len()).is_ok()
    }

    /// Adds a command, and returns its id. [`has_id`](Self::has_id) must hold.
    #[inline]
    pub(super) fn add(&mut self, entry: &PendingCommand, name: CommandName) -> u16 {
        let id = self.free.pop_front().unwrap_or_else(|| {
            self.indexes.push(None);
            (self.indexes.len() - 1) as u16
        });
        let place = self.next_place;
        self.next_place += 1;
        self.count_in(entry);
        self.point(id, Some(self.commands.len() as u16));
        self.commands.push(Sent { entry: *entry, name, id, place });
        id
    }

    /// Removes the command with this id. `None` means that no command has it.
    #[inline]
    pub(super) fn remove(&mut self, id: u16) -> Option<Sent> {
        let index = self.index(id)?;
        let entry = self.commands.get(index)?.entry;
        self.count_out(&entry);
        if let Some(last) = self.commands.last() {
            self.point(last.id, Some(index as u16));
        }
        self.point(id, None);
        self.free.push_back(id);
        // At the end, so that the command moves directly to the caller.
        Some(self.commands.swap_remove(index))
    }

    pub(super) fn get(&self, id: u16) -> Option<&Sent> {
        self.commands.get(self.index(id)?)
    }

    fn index(&self, id: u16) -> Option<usize> {
        self.indexes.get(usize::from(id)).copied().flatten().map(usize::from)
    }

    fn point(&mut self, id: u16, to: Option<u16>) {
        if let Some(index) = self.indexes.get_mut(usize::from(id)) {
            *index = to;
        }
    }

    /// Changes the owner of a command, which has no deadline any more. Returns the command as it was.
    pub(super) fn change_owner(&mut self, id: u16, owner: Owner) -> Option<PendingCommand> {
        let index = self.index(id)?;
        let Sent { entry, .. } = self.commands.get_mut(index)?;
        let before = *entry;
        (entry.owner, entry.deadline, entry.half) = (owner, None, None);
        let after = *entry;
        self.count_out(&before);
        self.count_in(&after);
        Some(before)
    }

    /// Returns the ids of the commands that `which` chooses, in the order of sending.
    pub(super) fn find_all(&self, which: impl Fn(&PendingCommand) -> bool) -> Vec<u16> {
        work::count(self.commands.len());
        let mut found: Vec<_> = self.commands.iter().filter(|sent| which(&sent.entry)).collect();
        found.sort_by_key(|sent| sent.place);
        found.into_iter().map(|sent| sent.id).collect()
    }

    /// Returns the id of the command that was sent first of those that `which` chooses, commands with an unreadable
    /// reply excepted.
    pub(super) fn find_oldest(&self, which: impl Fn(&PendingCommand) -> bool) -> Option<u16> {
        if self.commands.len() == self.unmatched {
            // A peer that sends nothing but unreadable lines costs no search.
            return None;
        }
        work::count(self.commands.len());
        let found = self.commands.iter().filter(|sent| sent.entry.owner != Owner::Unmatched && which(&sent.entry));
        found.min_by_key(|sent| sent.place).map(|sent| sent.id)
    }

    /// Removes the commands with an unreadable reply that were sent before this place, whose command has its reply. In-band
    /// replies come in issue order (`docs/interop/qmp-spec.rst`, Out-of-band execution), so those are over as well.
    pub(super) fn remove_unmatched_before(&mut self, place: u64) {
        if self.unmatched == 0 {
            return;
        }
        let unmatched = self.find_all(|entry| entry.owner == Owner::Unmatched);
        let is_before = |id: &u16| self.get(*id).is_some_and(|other| other.place < place);
        let before: Vec<_> = unmatched.into_iter().filter(is_before).collect();
        before.into_iter().for_each(|id| drop(self.remove(id)));
    }

    /// Returns all commands, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingCommand> {
        work::count(self.commands.len());
        self.commands.iter().map(|sent| &sent.entry)
    }

    fn count_in(&mut self, entry: &PendingCommand) {
        self.in_band += usize::from(entry.takes_a_place());
        self.descriptors += usize::from(entry.needs_descriptor());
        self.unmatched += usize::from(entry.owner == Owner::Unmatched);
    }

    fn count_out(&mut self, entry: &PendingCommand) {
        self.in_band -= usize::from(entry.takes_a_place());
        self.descriptors -= usize::from(entry.needs_descriptor());
        self.unmatched -= usize::from(entry.owner == Owner::Unmatched);
    }
}

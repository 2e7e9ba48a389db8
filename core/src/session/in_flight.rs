//! Decides which commands are on the wire, under which id, and which must wait their turn.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Band, CommandId, CommandTraits};
use crate::config::Dialect;
use crate::descriptor::Descriptor;
use crate::error::Progress;
use crate::fault::Misuse;
use crate::outbox::Outbox;
use crate::time::Moment;
use crate::wire::{CommandName, encode, name_of};

/// The commands that have no reply yet: those on the wire, and those that wait to go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    /// Those on the wire, in the order of sending. Replies come mostly in order, so it is mostly the first that is
    /// looked for.
    sent: VecDeque<Sent>,
    /// The ids that are free, the one that was given back longest ago first.
    free: VecDeque<u16>,
    /// How many ids there are, free or not.
    ids: u32,
    in_band: usize,
    waiting: VecDeque<Waiting>,
}

/// A command on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    id: u16,
    entry: PendingCommand,
    /// For the refusal, if it is one: the body is not kept.
    name: CommandName,
}

/// What is known of a command on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingCommand {
    pub(super) owner: Owner,
    pub(super) band: Band,
    pub(super) kind: CommandTraits,
    pub(super) deadline: Option<Moment>,
    /// When half of its time is over.
    pub(super) half: Option<Moment>,
    /// Whether a descriptor goes with it. QEMU keeps only the descriptor that came last, so the next such command waits
    /// until this one is over.
    pub(super) carries: bool,
}

/// Who wants the reply of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The session itself.
    Handshake {
        /// Whether it asked for out-of-band execution.
        out_of_band: bool,
    },
    /// The shutdown ladder.
    Ladder,
    /// The session itself, for a heartbeat.
    Probe,
    /// The caller that holds the ticket.
    Caller(CommandId),
    /// The caller gave up; the id stays taken until the reply comes.
    Disowned,
    /// The reply was unreadable; the id stays taken until a later in-band reply proves that it is over.
    Unmatched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    entry: PendingCommand,
    body: Vec<u8>,
    descriptor: Option<Descriptor>,
}

/// How commands are put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How many in-band commands may be there at once.
    pub(super) depth: usize,
    pub(super) dialect: Dialect,
}

impl Default for PendingCommand {
    fn default() -> Self {
        let (owner, band, kind) = (Owner::Disowned, Band::InBand, CommandTraits::default());
        Self { owner, band, kind, deadline: None, half: None, carries: false }
    }
}

impl PendingCommand {
    /// Whether it is one of the in-band commands that QEMU may hold.
    fn takes_a_place(&self) -> bool {
        self.band == Band::InBand && self.owner != Owner::Unmatched
    }
}

impl Default for InFlight {
    /// The ids begin with the ten of one digit: an id that was just given back rests while nine others are used, so
    /// that a doubled reply finds nobody, and requests stay short.
    fn default() -> Self {
        const ONE_DIGIT: u16 = 10;
        Self {
            // One at a time is what most have.
            sent: VecDeque::with_capacity(1),
            free: (0..ONE_DIGIT).collect(),
            ids: ONE_DIGIT.into(),
            in_band: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl InFlight {
    /// How many commands wait for their end.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// How many of them are on the wire.
    pub(super) fn on_the_wire(&self) -> usize {
        self.sent.len()
    }

    /// Whether a command may go to the wire now. In-band commands keep their order; out-of-band ones wait for nobody,
    /// unless for a descriptor.
    pub(super) fn may_send(&self, entry: &PendingCommand, rules: Rules) -> bool {
        let turn = match entry.band {
            Band::OutOfBand => true,
            Band::InBand => !self.is_waiting_in_band() && self.in_band < rules.depth,
        };
        turn && self.has_id() && !self.is_barred(entry)
    }

    /// Out of band, what waits for another descriptor holds up nobody.
    fn is_waiting_in_band(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.entry.band == Band::InBand)
    }

    /// Whether it would take a descriptor past another one.
    fn is_barred(&self, entry: &PendingCommand) -> bool {
        let carries = |other: &PendingCommand| other.carries && other.owner != Owner::Unmatched;
        entry.carries && self.sent.iter().any(|sent| carries(&sent.entry))
    }

    fn has_id(&self) -> bool {
        !self.free.is_empty() || u16::try_from(self.ids).is_ok()
    }

    /// Puts a command on the wire. It may go, and so there is an id for it.
    pub(super) fn send(
        &mut self,
        entry: PendingCommand,
        body: &[u8],
        descriptor: Option<Descriptor>,
        dialect: Dialect,
        out: &mut Outbox,
    ) {
        let id = self.free.pop_front().unwrap_or_else(|| {
            self.ids += 1;
            (self.ids - 1) as u16
        });
        self.sent.push_back(Sent { id, entry, name: CommandName::of(body) });
        self.in_band += usize::from(entry.band == Band::InBand);
        if let Some(descriptor) = descriptor {
            out.carry(descriptor);
        }
        write(body, id, dialect, out.writer());
    }

    /// Lets a command wait for its turn.
    pub(super) fn queue(&mut self, entry: PendingCommand, body: &[u8], descriptor: Option<Descriptor>) {
        self.waiting.push_back(Waiting { entry, body: body.to_vec(), descriptor });
    }

    /// Puts the next waiting command on the wire, if it may go.
    pub(super) fn send_next(&mut self, rules: Rules, out: &mut Outbox) -> Option<PendingCommand> {
        let mut room = self.in_band < rules.depth;
        let may_go = |waiting: &Waiting| {
            let barred = self.is_barred(&waiting.entry);
            match waiting.entry.band {
                Band::OutOfBand => !barred,
                // In-band commands keep their order, also behind one that must wait.
                Band::InBand => {
                    room = room && !barred;
                    room
                }
            }
        };
        let next = self.waiting.iter().position(may_go).filter(|_| self.has_id())?;
        let next = self.waiting.remove(next)?;
        self.send(next.entry, &next.body, next.descriptor, rules.dialect, out);
        Some(next.entry)
    }

    /// The command on the wire, of those that go one at a time. What was lost has had its reply.
    pub(super) fn only(&self) -> Option<u16> {
        self.sent.iter().find(|sent| sent.entry.owner != Owner::Unmatched).map(|sent| sent.id)
    }

    /// Whether anything waits for its turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What is on the wire and was given up is over: nothing answers it any more.
    pub(super) fn remove_disowned(&mut self) {
        let is_disowned = |sent: &&Sent| matches!(sent.entry.owner, Owner::Disowned | Owner::Unmatched);
        let disowned: Vec<u16> = self.sent.iter().filter(is_disowned).map(|sent| sent.id).collect();
        for id in disowned {
            self.land(id);
        }
    }

    /// Whether a command of this owner has no reply yet.
    pub(super) fn has_one_of(&self, owner: Owner) -> bool {
        self.entries().any(|entry| entry.owner == owner)
    }

    /// Whether something on the wire was given up.
    pub(super) fn has_disowned(&self) -> bool {
        self.sent.iter().any(|sent| sent.entry.owner == Owner::Disowned)
    }

    /// The reply with this id came: its command is over.
    pub(super) fn land(&mut self, id: u16) -> Option<PendingCommand> {
        let place = self.sent.iter().position(|sent| sent.id == id)?;
        let Sent { entry, .. } = self.sent.remove(place)?;
        self.free.push_back(id);
        self.in_band -= usize::from(entry.takes_a_place());
        let is_unmatched = |sent: &Sent| sent.entry.owner == Owner::Unmatched;
        if entry.band == Band::InBand && self.sent.iter().take(place).any(is_unmatched) {
            self.free_unmatched_before(place);
        }
        Some(entry)
    }

    /// In-band replies keep the order of their commands, so what was lost before this one is over as well.
    fn free_unmatched_before(&mut self, place: usize) {
        let mut before = 0..place;
        let Self { sent, free, .. } = self;
        sent.retain(|sent| {
            let is_over = before.next().is_some() && sent.entry.owner == Owner::Unmatched;
            free.extend(is_over.then_some(sent.id));
            !is_over
        });
    }

    /// The name of the command on the wire with this id. Empty where there is none, as its reply is for nobody.
    #[cold]
    pub(super) fn name(&self, id: Option<u16>) -> String {
        let sent = self.sent.iter().find(|sent| Some(sent.id) == id);
        sent.map_or_else(String::new, |sent| sent.name.to_string())
    }

    pub(super) fn entry(&self, id: u16) -> Option<&PendingCommand> {
        self.sent.iter().find(|sent| sent.id == id).map(|sent| &sent.entry)
    }

    /// The oldest in-band command failed by an unreadable reply: whose it was.
    pub(super) fn fail_oldest(&mut self) -> Option<Owner> {
        self.fail_oldest_of(|entry| entry.band == Band::InBand)
    }

    /// The oldest raw command failed by an error without an id: whose it was.
    pub(super) fn fail_oldest_raw(&mut self) -> Option<Owner> {
        self.fail_oldest_of(|entry| entry.kind.raw)
    }

    /// The command that is on the wire alone failed by an unreadable reply: whose it was. Its id tells nothing where
    /// replies have none: left there, it would take the reply of the next one. What qtest said was its reply.
    /// What a guest agent said may have been anything, so it stays as one that was given up, which brings the agent in
    /// step.
    pub(super) fn fail_only(&mut self, dialect: Dialect) -> Option<Owner> {
        let id = self.only()?;
        if dialect == Dialect::Qtest {
            return self.land(id).map(|entry| entry.owner);
        }
        let Sent { entry, .. } = self.sent.iter_mut().find(|sent| sent.id == id)?;
        entry.deadline = None;
        Some(core::mem::replace(&mut entry.owner, Owner::Disowned))
    }

    fn fail_oldest_of(&mut self, which: impl Fn(&PendingCommand) -> bool) -> Option<Owner> {
        let matching = |sent: &&mut Sent| sent.entry.owner != Owner::Unmatched && which(&sent.entry);
        let Sent { entry, .. } = self.sent.iter_mut().find(matching)?;
        // QEMU is done with it, only the id is not free: its place is, and it has nothing to wait for.
        self.in_band -= usize::from(entry.takes_a_place());
        entry.deadline = None;
        Some(core::mem::replace(&mut entry.owner, Owner::Unmatched))
    }

    /// Nobody wants the reply any more. A command that was not sent yet is forgotten.
    pub(super) fn disown(&mut self, owner: Owner) {
        self.waiting.retain(|waiting| waiting.entry.owner != owner);
        for Sent { entry, .. } in self.sent.iter_mut().filter(|sent| sent.entry.owner == owner) {
            (entry.owner, entry.deadline) = (Owner::Disowned, None);
        }
    }

    /// Answers what has run out of time.
    pub(super) fn expire(&mut self, now: Moment, mut answer: impl FnMut(CommandId, Progress, &PendingCommand)) {
        let passed = |entry: &PendingCommand| entry.deadline.is_some_and(|deadline| deadline <= now);
        for Sent { entry, .. } in self.sent.iter_mut().filter(|sent| passed(&sent.entry)) {
            if let Owner::Caller(id) = entry.owner {
                answer(id, Progress::Sent, entry);
            }
            (entry.owner, entry.deadline) = (Owner::Disowned, None);
        }
        self.waiting.retain(|waiting| {
            let expired = passed(&waiting.entry);
            if let (true, Owner::Caller(id)) = (expired, waiting.entry.owner) {
                answer(id, Progress::Unsent, &waiting.entry);
            }
            !expired
        });
    }

    /// When the next command runs out of time.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.entries().filter_map(|entry| entry.deadline).min()
    }

    /// The earliest half-deadline after the last liveness reply.
    pub(super) fn half_time(&self, last_reply: Option<Moment>) -> Option<Moment> {
        let may_run_out = self.entries().filter(|entry| entry.deadline.is_some());
        may_run_out
            .filter_map(|entry| entry.half)
            .filter(|half| last_reply.is_none_or(|last_reply| last_reply < *half))
            .min()
    }

    /// All of them: on the wire, and waiting.
    fn entries(&self) -> impl Iterator<Item = &PendingCommand> {
        let sent = self.sent.iter().map(|sent| &sent.entry);
        sent.chain(self.waiting.iter().map(|waiting| &waiting.entry))
    }

    /// Out-of-band execution was not offered: answers the commands that wait for it.
    pub(super) fn reject_out_of_band(&mut self, offered: bool, mut answer: impl FnMut(CommandId, Misuse)) {
        self.waiting.retain(|waiting| {
            let rejected = !offered && waiting.entry.band == Band::OutOfBand;
            if let (true, Owner::Caller(id)) = (rejected, waiting.entry.owner) {
                answer(id, Misuse::NoOutOfBand(name_of(&waiting.body)));
            }
            !rejected
        });
    }

    /// The connection is over: answers everything, in the order of asking.
    pub(super) fn crash(&mut self, mut answer: impl FnMut(CommandId, Progress)) {
        let Self { sent, waiting, .. } = core::mem::take(self);
        let sent = sent.iter().map(|sent| sent.entry);
        let unsent = waiting.iter().map(|waiting| waiting.entry);
        let all = sent.map(|entry| (entry, Progress::Sent)).chain(unsent.map(|entry| (entry, Progress::Unsent)));
        for (entry, progress) in all {
            if let Owner::Caller(id) = entry.owner {
                answer(id, progress);
            }
        }
    }
}

/// Writes a command with its end.
fn write(body: &[u8], id: u16, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(body);
    match dialect {
        Dialect::Qmp | Dialect::GuestAgent => encode::end(id, out),
        Dialect::Qtest => out.push(b'\n'),
    }
}

//! Commands of a session without a reply: those on the wire, with their ids, and those queued.

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

/// The commands that have no reply yet: those on the wire, and those in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    /// Commands on the wire, in the order of sending. In-band replies come in issue order (`docs/interop/qmp-spec.rst`,
    /// Out-of-band execution), so a search mostly ends at the first.
    sent: VecDeque<Sent>,
    /// The free ids, the one that was freed longest ago first.
    free: VecDeque<u16>,
    /// How many ids exist, free or in use.
    ids: u32,
    /// How many in-band commands QEMU may hold.
    in_band: usize,
    /// Whether a `quit` was sent.
    has_sent_quit: bool,
    waiting: VecDeque<Waiting>,
}

/// A command on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    id: u16,
    entry: PendingCommand,
    /// Kept for a refusal, which names its command; the body is not kept.
    name: CommandName,
}

/// A command without a reply, apart from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingCommand {
    pub(super) owner: Owner,
    pub(super) band: Band,
    pub(super) kind: CommandTraits,
    pub(super) deadline: Option<Moment>,
    /// When half of its time is over. `None` means that it has no deadline.
    pub(super) half: Option<Moment>,
    /// Whether a descriptor goes with it. QEMU keeps only the descriptors that it received last (QEMU,
    /// `chardev/char-socket.c`, `tcp_chr_recv`), so the next such command waits until this one is over. Otherwise the
    /// first command gets the second descriptor, and the second none (measured with QEMU 7.2.22).
    pub(super) carries: bool,
}

/// The owner of a command, which receives its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The session itself.
    Handshake {
        /// Whether it asked for out-of-band execution.
        out_of_band: bool,
    },
    /// The session itself, to start the guest.
    Startup,
    /// The shutdown ladder.
    Ladder,
    /// The session itself, for a heartbeat.
    Probe,
    /// The caller that holds the ticket.
    Caller(CommandId),
    /// No owner: the caller disowned the command, or its deadline passed. The id stays in use until the reply arrives,
    /// so that the late reply reaches no other caller.
    Disowned,
    /// The reply was unreadable. The id stays in use until a later in-band reply proves that the command is over.
    Unmatched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    entry: PendingCommand,
    body: Vec<u8>,
    descriptor: Option<Descriptor>,
}

/// The rules for sending commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How many in-band commands may be on the wire at once.
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
    /// Returns whether QEMU may hold the command in its queue: it is in band, and not known to be over.
    fn takes_a_place(&self) -> bool {
        self.band == Band::InBand && self.owner != Owner::Unmatched
    }
}

impl Default for InFlight {
    /// Starts with the ten ids of one digit, which keep requests short. A freed id is used again only after the other
    /// nine, so that a doubled reply finds no command.
    fn default() -> Self {
        const ONE_DIGIT: u16 = 10;
        Self {
            // Most callers have one command in flight.
            sent: VecDeque::with_capacity(1),
            free: (0..ONE_DIGIT).collect(),
            ids: ONE_DIGIT.into(),
            in_band: 0,
            has_sent_quit: false,
            waiting: VecDeque::new(),
        }
    }
}

impl InFlight {
    /// Returns how many commands have no reply yet.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Returns how many commands are on the wire.
    pub(super) fn on_the_wire(&self) -> usize {
        self.sent.len()
    }

    /// Returns whether a command may be sent now. In-band commands keep their order. Out-of-band ones do not wait for
    /// them, since QEMU executes those at once (QEMU, `monitor/qmp.c`, `handle_qmp_command`), but do wait for a
    /// descriptor.
    pub(super) fn may_send(&self, entry: &PendingCommand, rules: Rules) -> bool {
        let turn = match entry.band {
            Band::OutOfBand => true,
            Band::InBand => !self.is_waiting_in_band() && self.in_band < rules.depth,
        };
        turn && self.has_id() && !self.is_barred(entry)
    }

    /// Returns whether an in-band command is queued. An out-of-band one that waits for a descriptor delays no other.
    fn is_waiting_in_band(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.entry.band == Band::InBand)
    }

    /// Returns whether it would send a descriptor while another one is in flight.
    fn is_barred(&self, entry: &PendingCommand) -> bool {
        let carries = |other: &PendingCommand| other.carries && other.owner != Owner::Unmatched;
        entry.carries && self.sent.iter().any(|sent| carries(&sent.entry))
    }

    fn has_id(&self) -> bool {
        !self.free.is_empty() || u16::try_from(self.ids).is_ok()
    }

    /// Puts a command on the wire. [`may_send`](Self::may_send) must hold: then an id is free or can be made.
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
        self.has_sent_quit |= entry.kind.quit;
        if let Some(descriptor) = descriptor {
            out.carry(descriptor);
        }
        write(body, id, dialect, out.writer());
    }

    /// Queues a command.
    pub(super) fn queue(&mut self, entry: PendingCommand, body: &[u8], descriptor: Option<Descriptor>) {
        self.waiting.push_back(Waiting { entry, body: body.to_vec(), descriptor });
    }

    /// Puts the next queued command on the wire. `None` means that none may be sent.
    pub(super) fn send_next(&mut self, rules: Rules, out: &mut Outbox) -> Option<PendingCommand> {
        let mut room = self.in_band < rules.depth;
        let may_go = |waiting: &Waiting| {
            let barred = self.is_barred(&waiting.entry);
            match waiting.entry.band {
                Band::OutOfBand => !barred,
                // In-band commands keep their order, so one that must wait delays the later ones.
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

    /// Returns the id of the command on the wire, in a dialect that sends one at a time. An unmatched one has had its
    /// reply, and does not count.
    pub(super) fn only(&self) -> Option<u16> {
        self.sent.iter().find(|sent| sent.entry.owner != Owner::Unmatched).map(|sent| sent.id)
    }

    /// Returns whether a command is queued.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Removes the disowned and unmatched commands from the wire: no reply to them can arrive any more.
    pub(super) fn remove_disowned(&mut self) {
        let is_disowned = |sent: &&Sent| matches!(sent.entry.owner, Owner::Disowned | Owner::Unmatched);
        let disowned: Vec<u16> = self.sent.iter().filter(is_disowned).map(|sent| sent.id).collect();
        for id in disowned {
            self.land(id);
        }
    }

    /// Returns whether a command of this owner has no reply yet.
    pub(super) fn has_one_of(&self, owner: Owner) -> bool {
        self.entries().any(|entry| entry.owner == owner)
    }

    /// Returns whether a command on the wire is disowned.
    pub(super) fn has_disowned(&self) -> bool {
        self.sent.iter().any(|sent| sent.entry.owner == Owner::Disowned)
    }

    /// Removes the command with this id, whose reply arrived. `None` means that no command has this id.
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

    /// Frees the unmatched commands before this one. In-band replies come in issue order (`docs/interop/qmp-spec.rst`,
    /// Out-of-band execution), so those commands are over as well.
    fn free_unmatched_before(&mut self, place: usize) {
        let mut before = 0..place;
        let Self { sent, free, .. } = self;
        sent.retain(|sent| {
            let is_over = before.next().is_some() && sent.entry.owner == Owner::Unmatched;
            free.extend(is_over.then_some(sent.id));
            !is_over
        });
    }

    /// Returns the name of the command on the wire with this id. Empty means that no command has this id.
    #[cold]
    pub(super) fn name(&self, id: Option<u16>) -> String {
        let sent = self.sent.iter().find(|sent| Some(sent.id) == id);
        sent.map_or_else(String::new, |sent| sent.name.to_string())
    }

    pub(super) fn entry(&self, id: u16) -> Option<&PendingCommand> {
        self.sent.iter().find(|sent| sent.id == id).map(|sent| &sent.entry)
    }

    /// Fails the oldest in-band command after an unreadable reply, and returns its owner.
    pub(super) fn fail_oldest(&mut self) -> Option<Owner> {
        self.fail_oldest_of(|entry| entry.band == Band::InBand)
    }

    /// Fails the oldest raw command after an error without an id, and returns its owner. Encoded commands are
    /// well-formed, so QEMU most likely failed to parse a raw one (`docs/interop/qmp-spec.rst`, Error).
    pub(super) fn fail_oldest_raw(&mut self) -> Option<Owner> {
        self.fail_oldest_of(|entry| entry.kind.raw)
    }

    /// Fails the command that is alone on the wire after an unreadable reply, and returns its owner. With qtest the
    /// unreadable line was its reply, so the command is removed; left on the wire, it would take the reply to the next
    /// one. A line of a guest agent may have been for another client, so the command stays as a disowned one, and the
    /// session synchronises with the agent.
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
        // QEMU is done with the command, so its place in QEMU's queue is free and its deadline is void. Only its id
        // stays.
        self.in_band -= usize::from(entry.takes_a_place());
        entry.deadline = None;
        Some(core::mem::replace(&mut entry.owner, Owner::Unmatched))
    }

    /// Disowns the commands of this owner. Queued ones are dropped.
    pub(super) fn disown(&mut self, owner: Owner) {
        self.waiting.retain(|waiting| waiting.entry.owner != owner);
        for Sent { entry, .. } in self.sent.iter_mut().filter(|sent| sent.entry.owner == owner) {
            (entry.owner, entry.deadline) = (Owner::Disowned, None);
        }
    }

    /// Answers the commands whose deadline has passed.
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

    /// Returns the earliest deadline of a command.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.entries().filter_map(|entry| entry.deadline).min()
    }

    /// Returns the earliest half-deadline after the last heartbeat reply.
    pub(super) fn half_time(&self, last_reply: Option<Moment>) -> Option<Moment> {
        let may_run_out = self.entries().filter(|entry| entry.deadline.is_some());
        may_run_out
            .filter_map(|entry| entry.half)
            .filter(|half| last_reply.is_none_or(|last_reply| last_reply < *half))
            .min()
    }

    /// Returns whether a `quit` was sent on this connection.
    pub(super) fn has_sent_quit(&self) -> bool {
        self.has_sent_quit
    }

    /// Returns all commands: on the wire, then queued.
    fn entries(&self) -> impl Iterator<Item = &PendingCommand> {
        let sent = self.sent.iter().map(|sent| &sent.entry);
        sent.chain(self.waiting.iter().map(|waiting| &waiting.entry))
    }

    /// Answers the queued out-of-band commands, when out-of-band execution was not offered. QEMU would refuse
    /// `exec-oob` as an unexpected member (QEMU, `qapi/qmp-dispatch.c`, `qmp_dispatch_check_obj`).
    pub(super) fn reject_out_of_band(&mut self, offered: bool, mut answer: impl FnMut(CommandId, Misuse)) {
        self.waiting.retain(|waiting| {
            let rejected = !offered && waiting.entry.band == Band::OutOfBand;
            if let (true, Owner::Caller(id)) = (rejected, waiting.entry.owner) {
                answer(id, Misuse::NoOutOfBand(name_of(&waiting.body)));
            }
            !rejected
        });
    }

    /// Removes the queued commands, and passes the owner of each to `answer`.
    pub(super) fn reject_queued(&mut self, mut answer: impl FnMut(Owner)) {
        core::mem::take(&mut self.waiting).iter().for_each(|waiting| answer(waiting.entry.owner));
    }

    /// Answers all commands when the connection ends, those on the wire first. Their replies are lost, and QEMU drops
    /// the requests that it has not started (QEMU, `monitor/qmp.c`, `monitor_qmp_cleanup_queue_and_resume`).
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

/// Writes a command with its id, or, for qtest, with a line feed (QEMU, `system/qtest.c`, `qtest_process_inbuf`). A
/// command of a guest agent has no id. One at a time, such commands need none, and an agent before QEMU 4.0 does not echo
/// it, and may refuse it as an unexpected member (QEMU 2.8, `qapi/qmp-dispatch.c`, `qmp_dispatch_check_obj`; QEMU, commit
/// 4eaca8de26).
fn write(body: &[u8], id: u16, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(body);
    match dialect {
        Dialect::Qmp => encode::end(id, out),
        Dialect::GuestAgent => out.push(b'}'),
        Dialect::Qtest => out.push(b'\n'),
    }
}

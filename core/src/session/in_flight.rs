//! Commands of a session without a reply: those on the wire, with their ids, and those queued.

use alloc::vec::Vec;
use core::fmt;

use super::on_wire::{OnWire, Sent};
use super::pending::{Owner, PendingCommand};
use super::queue::{Queue, Queued};
use crate::command::{Band, CommandId};
use crate::command_name::{CommandName, name_of};
use crate::config::Dialect;
use crate::deadlines::Deadlines;
use crate::descriptor::Descriptor;
use crate::error::Progress;
use crate::fault::Misuse;
use crate::outbox::Outbox;
use crate::time::Moment;
use crate::wire::encode;

/// The commands that have no reply yet: those on the wire, and those in the queue. The work for one reply does not depend
/// on how many there are.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct InFlight {
    wire: OnWire,
    queue: Queue,
    /// The deadlines of all commands that have one, by their numbers.
    deadlines: Deadlines,
    /// When half of the time of each of these is over.
    halves: Deadlines,
    /// Whether a `quit` was sent.
    has_sent_quit: bool,
    next_number: u64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            wire: OnWire::default(),
            queue: Queue::default(),
            deadlines: Deadlines::for_one(),
            halves: Deadlines::for_one(),
            has_sent_quit: false,
            next_number: 0,
        }
    }
}

/// Leaves out what follows from the commands.
impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut in_flight = f.debug_struct("InFlight");
        in_flight.field("wire", &self.wire).field("has_sent_quit", &self.has_sent_quit);
        in_flight.field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// The rules for sending commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How many in-band commands may be on the wire at once.
    pub(super) depth: usize,
    pub(super) dialect: Dialect,
}

impl InFlight {
    /// Returns how many commands have no reply yet.
    pub(super) fn len(&self) -> usize {
        self.wire.len() + self.queue.len()
    }

    /// Returns how many commands are on the wire.
    pub(super) fn on_the_wire(&self) -> usize {
        self.wire.len()
    }

    /// Accepts a command: gives it its number, and notes its deadline. It must be sent or queued next.
    #[inline]
    pub(super) fn accept(&mut self, entry: PendingCommand) -> PendingCommand {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(deadline) = entry.deadline {
            self.deadlines.add(deadline, number);
        }
        if let Some(half) = entry.half {
            self.halves.add(half, number);
        }
        PendingCommand { number, ..entry }
    }

    /// Removes the deadline of a command that is over, or whose owner changed.
    #[inline]
    fn void_deadline(&mut self, entry: &PendingCommand) {
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(deadline, entry.number);
        }
        if let Some(half) = entry.half {
            self.halves.remove(half, entry.number);
        }
    }

    /// Returns whether a command may be sent now. In-band commands keep their order. Out-of-band ones do not wait for
    /// them, since QEMU executes those at once (QEMU, `monitor/qmp.c`, `handle_qmp_command`), but do wait for a
    /// descriptor.
    #[inline]
    pub(super) fn may_send(&self, entry: &PendingCommand, rules: Rules) -> bool {
        let turn = match entry.band {
            Band::OutOfBand => true,
            Band::InBand => !self.queue.has_in_band() && self.wire.in_band() < rules.depth,
        };
        turn && self.wire.has_id() && !self.is_barred(entry)
    }

    /// Returns whether it would send a descriptor while another one is in flight.
    fn is_barred(&self, entry: &PendingCommand) -> bool {
        entry.carries && self.wire.has_descriptor()
    }

    /// Puts a command on the wire. [`may_send`](Self::may_send) must hold: then an id is free or can be made.
    #[inline]
    pub(super) fn send(
        &mut self,
        entry: &PendingCommand,
        body: &[u8],
        descriptor: Option<Descriptor>,
        dialect: Dialect,
        out: &mut Outbox,
    ) {
        let id = self.wire.add(entry, CommandName::of(body));
        self.has_sent_quit |= entry.kind.quit;
        if let Some(descriptor) = descriptor {
            out.carry(descriptor);
        }
        write(body, id, dialect, out.writer());
    }

    /// Queues a command.
    pub(super) fn queue(&mut self, entry: PendingCommand, body: &[u8], descriptor: Option<Descriptor>) {
        self.queue.push(Queued { entry, body: body.to_vec(), descriptor });
    }

    /// Puts the next queued command on the wire. `None` means that none may be sent.
    pub(super) fn send_next(&mut self, rules: Rules, out: &mut Outbox) -> Option<PendingCommand> {
        if self.queue.is_empty() {
            return None;
        }
        if !self.wire.has_id() {
            return None;
        }
        let room = self.wire.in_band() < rules.depth;
        let has_descriptor = self.wire.has_descriptor();
        let next = self.queue.next(room, |entry| entry.carries && has_descriptor)?;
        self.send(&next.entry, &next.body, next.descriptor, rules.dialect, out);
        Some(next.entry)
    }

    /// Returns the id of the command on the wire, in a dialect that sends one at a time. An unmatched one has had its
    /// reply, and does not count.
    pub(super) fn only(&self) -> Option<u16> {
        self.wire.find_oldest(|_| true)
    }

    /// Returns whether a command is queued.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Removes the disowned and unmatched commands from the wire: no reply to them can arrive any more.
    pub(super) fn remove_disowned(&mut self) {
        for id in self.wire.find_all(|entry| matches!(entry.owner, Owner::Disowned | Owner::Unmatched)) {
            self.land(id);
        }
    }

    /// Returns whether a command of this owner has no reply yet.
    pub(super) fn has_one_of(&self, owner: Owner) -> bool {
        self.wire.iter().chain(self.queue.iter()).any(|entry| entry.owner == owner)
    }

    /// Returns whether a command on the wire is disowned.
    pub(super) fn has_disowned(&self) -> bool {
        self.wire.iter().any(|entry| entry.owner == Owner::Disowned)
    }

    /// Removes the command with this id, whose reply arrived. `None` means that no command has this id.
    #[inline]
    pub(super) fn land(&mut self, id: u16) -> Option<Sent> {
        let entry = *self.entry(id)?;
        self.void_deadline(&entry);
        let sent = self.wire.remove(id)?;
        if entry.band == Band::InBand {
            self.wire.remove_unmatched_before(sent.place);
        }
        Some(sent)
    }

    pub(super) fn entry(&self, id: u16) -> Option<&PendingCommand> {
        self.wire.get(id).map(|sent| &sent.entry)
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
            return self.land(id).map(|sent| sent.entry.owner);
        }
        self.change_owner(id, Owner::Disowned)
    }

    fn fail_oldest_of(&mut self, which: impl Fn(&PendingCommand) -> bool) -> Option<Owner> {
        let id = self.wire.find_oldest(which)?;
        // QEMU is done with the command, so its place in QEMU's queue is free and its deadline is void. Only its id
        // stays.
        self.change_owner(id, Owner::Unmatched)
    }

    /// Changes the owner of a command on the wire, whose deadline is void then. Returns the previous owner.
    fn change_owner(&mut self, id: u16, owner: Owner) -> Option<Owner> {
        let before = self.wire.change_owner(id, owner)?;
        self.void_deadline(&before);
        Some(before.owner)
    }

    /// Disowns the commands of this owner. Queued ones are dropped.
    pub(super) fn disown(&mut self, owner: Owner) {
        let is_owned = |entry: &PendingCommand| entry.owner == owner;
        self.queue.extract(is_owned).iter().for_each(|queued| self.void_deadline(&queued.entry));
        for id in self.wire.find_all(is_owned) {
            self.change_owner(id, Owner::Disowned);
        }
    }

    /// Answers the commands whose deadline has passed.
    pub(super) fn expire(&mut self, now: Moment, mut answer: impl FnMut(CommandId, Progress, &PendingCommand)) {
        let has_passed = |entry: &PendingCommand| entry.deadline.is_some_and(|deadline| deadline <= now);
        if self.deadlines.first().is_none_or(|first| first > now) {
            return;
        }
        for id in self.wire.find_all(has_passed) {
            if let Some(Sent { entry, .. }) = self.wire.get(id) {
                if let Owner::Caller(id) = entry.owner {
                    answer(id, Progress::Sent, entry);
                }
            }
            self.change_owner(id, Owner::Disowned);
        }
        for Queued { entry, .. } in self.queue.extract(has_passed) {
            if let Owner::Caller(id) = entry.owner {
                answer(id, Progress::Unsent, &entry);
            }
            self.void_deadline(&entry);
        }
    }

    /// Returns the earliest deadline of a command.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.deadlines.first()
    }

    /// Returns the earliest half-deadline after the last heartbeat reply.
    pub(super) fn half_time(&self, last_reply: Option<Moment>) -> Option<Moment> {
        last_reply.map_or_else(|| self.halves.first(), |last_reply| self.halves.after(last_reply))
    }

    /// Returns whether a `quit` was sent on this connection.
    pub(super) fn has_sent_quit(&self) -> bool {
        self.has_sent_quit
    }

    /// Answers the queued out-of-band commands, when out-of-band execution was not offered. QEMU would refuse
    /// `exec-oob` as an unexpected member (QEMU, `qapi/qmp-dispatch.c`, `qmp_dispatch_check_obj`).
    pub(super) fn reject_out_of_band(&mut self, offered: bool, mut answer: impl FnMut(CommandId, Misuse)) {
        for Queued { entry, body, .. } in self.queue.extract(|entry| !offered && entry.band == Band::OutOfBand) {
            if let Owner::Caller(id) = entry.owner {
                answer(id, Misuse::NoOutOfBand(name_of(&body).into()));
            }
            self.void_deadline(&entry);
        }
    }

    /// Removes the queued commands, and passes the owner of each to `answer`.
    pub(super) fn reject_queued(&mut self, mut answer: impl FnMut(Owner)) {
        for Queued { entry, .. } in self.queue.extract(|_| true) {
            self.void_deadline(&entry);
            answer(entry.owner);
        }
    }

    /// Answers all commands when the connection ends, those on the wire first. Their replies are lost, and QEMU drops
    /// the requests that it has not started (QEMU, `monitor/qmp.c`, `monitor_qmp_cleanup_queue_and_resume`).
    pub(super) fn crash(&mut self, mut answer: impl FnMut(CommandId, Progress)) {
        let Self { wire, mut queue, .. } = core::mem::take(self);
        let sent = wire.find_all(|_| true).into_iter().filter_map(|id| wire.get(id)).map(|sent| sent.entry);
        let unsent = queue.extract(|_| true).into_iter().map(|queued| queued.entry);
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

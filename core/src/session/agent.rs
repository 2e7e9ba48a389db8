//! Decides how a guest agent is brought to a known state.
//!
//! A guest agent does not greet, and what it said to others may still be in the way: replies, and the errors that half
//! of somebody's command makes of ours. `guest-sync-delimited` is made for that: the agent answers it with a byte that
//! occurs nowhere else (0xFF), and repeats our number behind it. The same byte, sent before, makes its parser forget
//! what was half said. It is asked so after the connection is made, and again when somebody has given up a command.

use alloc::format;
use core::time::Duration;

use bytes::Bytes;

use super::in_flight::Owner;
use super::sync::Sync;
use super::{Session, Stage};
use crate::payload::Payload;
use crate::session;
use crate::time::Moment;
use crate::wire::{Framer, Message};

/// What stands before an answer to our number, and makes the agent forget what was half said.
const DELIMITER: u8 = 0xFF;

/// How long an answer may take before the agent is asked again. One that was not there yet when we asked may have
/// lost the question: what is written to its port before it opens it need not arrive.
const AGAIN: Duration = Duration::from_secs(5);

impl Session {
    /// Asks, and takes nothing for an answer to anything else until it is answered.
    pub(super) fn ask_to_sync(&mut self, now: Moment) {
        self.stage = Stage::Syncing;
        self.outbox.writer().push(DELIMITER);
        self.ask_number(now);
    }

    /// The command before this succeeds in silence: the answer to this one says that it is over. Nothing is half said
    /// between the two, and a delimiter would be answered as well, by an error that looks like the refusal of the first.
    pub(super) fn ask_behind_silence(&mut self, now: Moment) {
        self.ask_number(now);
    }

    fn ask_number(&mut self, now: Moment) {
        let number = self.sync.number + 1;
        self.sync = Sync { number, due: true, asked: now, ..self.sync };
        let ask = format!(r#"{{"execute":"guest-sync-delimited","arguments":{{"id":{number}}}}}"#);
        self.outbox.writer().extend_from_slice(ask.as_bytes());
    }

    /// When somebody gave up a command that is on the wire, its reply must not be taken for another's. When nothing
    /// answers, the agent is asked again.
    pub(super) fn sync_if_needed(&mut self, now: Moment) {
        let disowned = self.is_ready() && self.in_flight.has_disowned();
        if disowned || self.sync_again().is_some_and(|at| at <= now) {
            self.ask_to_sync(now);
        }
    }

    /// When the agent is to be asked again, as long as somebody waits for it.
    pub(super) fn sync_again(&self) -> Option<Moment> {
        let wanted = self.stage == Stage::Syncing && (!self.sync.once || self.in_flight.is_waiting());
        // One that does not read at all needs no second question behind the first.
        let was_asked = self.outbox.waiting().is_empty();
        (wanted && was_asked).then(|| self.sync.asked.after(AGAIN))
    }

    /// Splits what comes at the delimiters: what was half said before one is forgotten.
    pub(super) fn read_agent(&mut self, now: Moment, bytes: &[u8], emit: &mut impl FnMut(session::Output)) {
        let mut pieces = bytes.split(|byte| *byte == DELIMITER);
        self.read(now, pieces.next().unwrap_or_default(), emit);
        for piece in pieces {
            self.framer = Framer::new(self.limit);
            self.sync.delimited = true;
            self.read(now, piece, emit);
        }
    }

    /// Whether a line is no reply for anybody: an answer to a number, or what comes before it.
    pub(super) fn is_stale(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) -> bool {
        if core::mem::take(&mut self.sync.delimited) {
            self.delimited(now, line, emit);
            return true;
        }
        let stale = self.stage == Stage::Syncing;
        self.counters.stale += u64::from(stale);
        stale
    }

    /// The same for a line that is too long to be read.
    pub(super) fn is_stale_and_too_large(&mut self) -> bool {
        let stale = core::mem::take(&mut self.sync.delimited) || self.stage == Stage::Syncing;
        self.counters.too_large += u64::from(stale);
        stale
    }

    fn delimited(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) {
        let answer = match Message::read(line) {
            Ok(Message::Reply { result: Ok(payload), .. }) => payload.read::<u64>().ok(),
            _ => None,
        };
        if !self.sync.due || answer != Some(self.sync.number) {
            self.counters.stale += 1;
            return;
        }
        self.sync.due = false;
        match self.stage {
            Stage::Syncing => self.in_step(now, emit),
            _ => self.silence_is_over(now, emit),
        }
    }

    fn in_step(&mut self, now: Moment, emit: &mut impl FnMut(session::Output)) {
        self.in_flight.remove_disowned();
        if core::mem::replace(&mut self.sync.once, true) {
            self.stage = Stage::Ready { out_of_band: false };
            self.send_queued(now);
        } else {
            self.become_ready(now, false, emit);
        }
    }

    /// What succeeds in silence has succeeded when the agent answers what comes behind it.
    fn silence_is_over(&mut self, now: Moment, emit: &mut impl FnMut(session::Output)) {
        let silent = |id: &u16| self.in_flight.entry(*id).is_some_and(|entry| entry.kind.silent);
        let Some(entry) = self.in_flight.only().filter(silent).and_then(|id| self.in_flight.land(id)) else { return };
        if let Owner::Caller(id) = entry.owner {
            emit(session::Output::Answered(id, Ok(Payload(Bytes::from_static(b"{}")))));
        }
        self.send_queued(now);
    }
}

//! Synchronisation with a guest agent.
//!
//! A guest agent sends no greeting. Over virtio-serial it does not even notice that its client changed, so replies to a
//! previous client may still arrive, and half a command of that client turns our first one into an error
//! (`docs/interop/qmp-spec.rst`, QGA Synchronization). `guest-sync-delimited` repairs both (QEMU,
//! `qga/qapi-schema.json`, `guest-sync-delimited`): the agent sends a byte that occurs nowhere else (0xFF), then a
//! reply with our number (QEMU, `qga/main.c`, `send_response`). The client sends the same byte before its request,
//! which resets the agent's parser, since the byte is an error to its lexer (`docs/interop/qmp-spec.rst`, Forcing the
//! JSON parser into known-good state). The session synchronises when the connection opens, and again when a caller
//! disowned a command. Without that the late reply would be taken for the reply to the next command.
//!
//! If the agent refuses `guest-sync-delimited`, the session tries `guest-sync`, whose reply repeats a number as well
//! (QEMU, `qga/qapi-schema.json`, `guest-sync`). If the agent refuses both, the handshake fails with the agent's words,
//! and after the handshake the commands that wait for the synchronisation do.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::time::Duration;

use bytes::Bytes;

use super::pending::Owner;
use super::sync::{Conclusion, HeldRefusal, Method};
use super::{Session, Stage};
use crate::error::CommandError;
use crate::lifecycle::LaunchFailure;
use crate::payload::Payload;
use crate::session;
use crate::time::Moment;
use crate::wire::{ErrorReply, Framer, Message};

/// The byte before a reply to `guest-sync-delimited` (QEMU, `qga/main.c`, `QGA_SENTINEL_BYTE`). Sent to the agent, the
/// byte resets its parser.
const DELIMITER: u8 = 0xFF;

/// How long the reply to a request to synchronise may take before the session sends another. A request that is written
/// before the agent opened its port may be lost, and then no reply ever comes.
const AGAIN: Duration = Duration::from_secs(5);

impl Session {
    /// Starts to synchronise, or starts again. Until the agent answers, the session drops all other lines (QEMU,
    /// `qga/qapi-schema.json`, `guest-sync-delimited`).
    pub(super) fn ask_to_sync(&mut self, now: Moment) {
        if self.stage != Stage::Syncing {
            self.stage = Stage::Syncing;
            self.sync.begin();
        }
        self.outbox.writer().push(DELIMITER);
        self.sync.delimit();
        self.ask_number(now, Method::Delimited);
    }

    /// Sends a request to synchronise after a command that has no success response: its reply proves that the command
    /// before it is over. No delimiter goes before it, since the agent's parser is in a known state. The agent would
    /// answer a delimiter with an error without an id (measured with QEMU 7.2.22), which would pass for a refusal of
    /// that command.
    pub(super) fn ask_behind_silence(&mut self, now: Moment) {
        self.ask_number(now, self.sync.method);
    }

    fn ask_number(&mut self, now: Moment, method: Method) {
        let request = self.sync.request(now, method);
        self.outbox.writer().extend_from_slice(request.as_bytes());
    }

    /// Synchronises when the caller of a command on the wire disowned it, so that its reply reaches no other caller,
    /// and when a request to synchronise was not answered in time.
    pub(super) fn sync_if_needed(&mut self, now: Moment) {
        let disowned = self.is_ready() && self.in_flight.has_disowned();
        if disowned || self.sync_again().is_some_and(|at| at <= now) {
            self.ask_to_sync(now);
        }
    }

    /// Returns when the session sends its request again: at once if the agent refused the last one. `None` means never:
    /// no handshake and no command waits for it.
    pub(super) fn sync_again(&self) -> Option<Moment> {
        let wanted = self.stage == Stage::Syncing && (!self.sync.once || self.in_flight.is_waiting());
        // An agent that does not read needs no second request queued after the first.
        let was_asked = self.outbox.waiting().is_empty();
        let patience = if self.sync.due { AGAIN } else { Duration::ZERO };
        (wanted && was_asked).then(|| self.sync.asked.after(patience))
    }

    /// Reads bytes, and discards an incomplete line before a delimiter, as the agent's protocol demands (QEMU,
    /// `qga/qapi-schema.json`, `guest-sync-delimited`).
    pub(super) fn read_agent(&mut self, now: Moment, bytes: &[u8], emit: &mut impl FnMut(session::Output)) {
        let mut pieces = bytes.split(|byte| *byte == DELIMITER);
        self.read(now, pieces.next().unwrap_or_default(), emit);
        for piece in pieces {
            self.framer = Framer::new(self.limit);
            self.sync.delimited = true;
            self.read(now, piece, emit);
        }
    }

    /// Returns whether a line answers no command: a reply to a request to synchronise, or a line before it.
    pub(super) fn is_stale(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) -> bool {
        if core::mem::take(&mut self.sync.delimited) {
            self.delimited(now, line, emit);
            return true;
        }
        if self.stage == Stage::Syncing {
            self.during_sync(now, line, emit);
            return true;
        }
        self.answers_behind_silence(now, line, emit)
    }

    /// Returns the same for a line that is longer than the limit.
    pub(super) fn is_stale_and_too_large(&mut self) -> bool {
        let stale = core::mem::take(&mut self.sync.delimited) || self.stage == Stage::Syncing;
        self.counters.too_large += u64::from(stale);
        stale
    }

    /// Handles a line after a delimiter.
    fn delimited(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) {
        let number = returned_number(line);
        if self.sync.is_answered_by(Method::Delimited, number) {
            return self.answered(now, emit);
        }
        self.counters.stale += 1;
        if self.sync.accept(number) && self.stage == Stage::Syncing {
            // The reply to this one comes after everything that is still outstanding.
            self.ask_number(now, Method::Delimited);
        }
    }

    /// Handles a line without a delimiter during the synchronisation.
    fn during_sync(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) {
        if self.sync.is_answered_by(Method::Plain, returned_number(line)) {
            return self.answered(now, emit);
        }
        self.counters.stale += 1;
        // An error with an id refuses none of our requests, which have none (`docs/interop/qmp-spec.rst`, Commands
        // Responses).
        let Ok(Message::Nameless(error)) = Message::read(line) else { return };
        match self.sync.conclude(&error) {
            Conclusion::NotRefused => {}
            Conclusion::MayBeRefused => self.ask_number(now, Method::Plain),
            Conclusion::Refused => self.refused(error, emit),
        }
    }

    /// Returns whether a line answers a `guest-sync` that was sent after a command without a success response.
    fn answers_behind_silence(&mut self, now: Moment, line: &Bytes, emit: &mut impl FnMut(session::Output)) -> bool {
        if self.sync.method == Method::Delimited {
            return false;
        }
        let Some(number) = returned_number(line).filter(|number| self.sync.is_outstanding(*number)) else {
            return false;
        };
        if self.sync.pay(number) {
            self.answered(now, emit);
        } else {
            self.counters.stale += 1;
        }
        true
    }

    /// Handles the reply to the last request to synchronise.
    fn answered(&mut self, now: Moment, emit: &mut impl FnMut(session::Output)) {
        self.sync.complete();
        match self.stage {
            Stage::Syncing => self.in_step(now, emit),
            _ => self.silence_is_over(now, emit),
        }
    }

    /// Handles the refusal of each way to synchronise. The connection stays open after the handshake: the agent may be
    /// restarted with another configuration, and the next command tries again.
    fn refused(&mut self, error: ErrorReply, emit: &mut impl FnMut(session::Output)) {
        let refusal = error.of(self.sync.method.command().into());
        if !self.sync.once {
            return self.fail(LaunchFailure::NotSynchronised(refusal), emit);
        }
        self.in_flight.reject_queued(|owner| {
            let error = CommandError::Refused(refusal.clone());
            match owner {
                Owner::Caller(id) => emit(session::Output::Answered(id, Err(error))),
                Owner::Ladder => emit(session::Output::LadderAnswered(Err(error))),
                Owner::Handshake { .. } | Owner::Startup | Owner::Probe | Owner::Disowned | Owner::Unmatched => {}
            }
        });
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

    /// Returns the id of the command without a success response that is on the wire.
    fn silent(&self) -> Option<u16> {
        self.in_flight.only().filter(|id| self.in_flight.entry(*id).is_some_and(|entry| entry.kind.silent))
    }

    /// Holds the refusal of a command without a success response until the request behind it is answered, for
    /// [`AGAIN`] at most, and returns whether the line was handled. A caller that had the refusal at once might close
    /// the connection while that answer is on its way; an agent that listens on a socket itself ends when its client
    /// closes with a line unread (measured with qemu-ga 7.2.22: `ECONNRESET`).
    pub(super) fn holds_refusal(
        &mut self,
        now: Moment,
        result: &Result<Payload, ErrorReply>,
        frame: &Bytes,
        emit: &mut impl FnMut(session::Output),
    ) -> bool {
        if self.sync.refusal.is_some() {
            // The agent answered the request behind it in another way.
            self.counters.unmatched += 1;
            self.silence_is_over(now, emit);
            return true;
        }
        match result {
            Err(error) if self.sync.due && self.silent().is_some() => {
                let held = HeldRefusal { error: error.clone(), line: frame.clone(), since: now };
                self.sync.refusal = Some(Box::new(held));
                true
            }
            _ => false,
        }
    }

    /// Completes a command without a success response (QEMU, `qga/qapi-schema.json`, `'success-response': false`): the
    /// agent answered the command after it, and a refusal would have come first.
    pub(super) fn silence_is_over(&mut self, now: Moment, emit: &mut impl FnMut(session::Output)) {
        self.complete_silent(emit);
        self.send_queued(now);
    }

    fn complete_silent(&mut self, emit: &mut impl FnMut(session::Output)) {
        let refusal = self.sync.refusal.take();
        let Some(sent) = self.silent().and_then(|id| self.in_flight.land(id)) else { return };
        if let Owner::Caller(id) = sent.entry.owner {
            let answer = match (refusal, sent.entry.kind.raw) {
                // The reply to a command that the caller wrote as JSON is the whole message.
                (Some(refusal), true) => Ok(Payload::new(refusal.line)),
                (Some(refusal), false) => Err(CommandError::Refused(refusal.error.of(sent.name.to_string()))),
                (None, true) => Ok(Payload::new(Bytes::from_static(b"{\"return\":{}}"))),
                (None, false) => Ok(Payload::new(Bytes::from_static(b"{}"))),
            };
            emit(session::Output::Answered(id, answer));
        }
    }

    /// Returns when a refusal that is held is delivered at the latest. `None` means that none is held.
    pub(super) fn refusal_due(&self) -> Option<Moment> {
        let since = self.sync.refusal.as_ref()?.since;
        let deadline = self.silent().and_then(|id| self.in_flight.entry(id)?.deadline);
        [Some(since.after(AGAIN)), deadline].into_iter().flatten().min()
    }

    /// Delivers the refusal when the request behind its command is not answered in time. The session synchronises then:
    /// that answer may still come, and must not pass for the reply to the next command.
    pub(super) fn deliver_overdue_refusal(&mut self, now: Moment, emit: &mut impl FnMut(session::Output)) {
        if self.refusal_due().is_some_and(|due| due <= now) {
            self.complete_silent(emit);
            self.ask_to_sync(now);
        }
    }

    /// Delivers the refusal when the connection is at its end.
    pub(super) fn deliver_refusal(&mut self, emit: &mut impl FnMut(session::Output)) {
        if self.sync.refusal.is_some() {
            self.complete_silent(emit);
        }
    }
}

/// Returns the number in a reply to a request to synchronise. `None` means that the line is no such reply.
fn returned_number(line: &Bytes) -> Option<u64> {
    match Message::read(line) {
        Ok(Message::Reply { result: Ok(payload), .. }) => payload.read::<u64>().ok(),
        _ => None,
    }
}

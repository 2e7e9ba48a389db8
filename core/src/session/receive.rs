//! Handling of the messages that a peer sends.

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::on_wire::Sent;
use super::pending::{Owner, PendingCommand};
use super::{Session, Stage, qtest};
use crate::config::Dialect;
use crate::error::CommandError;
use crate::fault::ProtocolError;
use crate::lifecycle::LaunchFailure;
use crate::payload::Payload;
use crate::session;
use crate::text::excerpt;
use crate::time::Moment;
use crate::wire::{ErrorReply, Frame, Greeting, Message, has_id};

/// The most events that are held back until the greeting, so that a stranger cannot fill the memory.
const EARLY: usize = 64;

/// The bytes of such an event at most.
const EARLY_BYTES: usize = 4096;

impl Session {
    pub(super) fn read(&mut self, now: Moment, bytes: &[u8], emit: &mut impl FnMut(session::Output)) {
        if self.is_open() {
            self.framer.push(bytes);
        }
        while self.is_open() {
            match self.framer.next_frame() {
                Some(Frame::Message(frame)) => self.message(now, &frame, emit),
                Some(Frame::TooLarge) if self.is_stale_and_too_large() => {}
                Some(Frame::TooLarge) => {
                    self.unreadable(now, ProtocolError::TooLarge { limit: self.limit }, true, emit);
                }
                None => return,
            }
            if self.dialect == Dialect::GuestAgent {
                // After each line, since lines may be received together or one by one.
                self.sync_if_needed(now);
            }
        }
    }

    /// Handles one message.
    ///
    /// Events count in every stage: they may precede the greeting, and come between `qmp_capabilities` and its reply
    /// (measured with QEMU 7.2.22). A client that expects the greeting first fails in such a case.
    fn message(&mut self, now: Moment, frame: &Bytes, emit: &mut impl FnMut(session::Output)) {
        if self.dialect == Dialect::GuestAgent && self.is_stale(now, frame, emit) {
            return;
        }
        let message = match self.dialect {
            Dialect::Qtest => qtest::read(frame),
            Dialect::Qmp | Dialect::GuestAgent => Message::read(frame),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                let may_be_a_reply = self.dialect != Dialect::Qtest && !looks_like_an_event(frame);
                return self.unreadable(now, error, may_be_a_reply, emit);
            }
        };
        match (self.stage, message) {
            (_, Message::Event(event))
                if self.may_be_stranger() && self.early.len() < EARLY && frame.len() <= EARLY_BYTES =>
            {
                self.early.push(event)
            }
            (_, Message::Event(event)) if !self.may_be_stranger() => {
                if !self.startup_event(&event) {
                    emit(session::Output::Event(event));
                }
            }
            (Stage::Greeting, Message::Greeting(greeting)) => {
                core::mem::take(&mut self.early).into_iter().for_each(|event| emit(session::Output::Event(event)));
                self.negotiate(greeting, emit);
            }
            (Stage::Greeting, Message::Reply { .. } | Message::Nameless(_)) | (_, Message::Event(_)) => {
                let error = ProtocolError::NoGreeting { excerpt: excerpt(frame) };
                self.fail(LaunchFailure::Broken(error), emit);
            }
            (_, Message::Reply { id, result }) => {
                let id = match self.dialect {
                    Dialect::Qmp => id,
                    // An agent gets no ids, so a reply with one answers a request of another client.
                    Dialect::GuestAgent if has_id(frame) => None,
                    Dialect::GuestAgent | Dialect::Qtest => self.nameless(),
                };
                self.reply(now, id, result, frame, emit);
            }
            (_, Message::Nameless(refusal)) if self.nameless().is_some() => {
                self.reply(now, self.nameless(), Err(refusal), frame, emit);
            }
            (_, Message::Nameless(_)) => {
                match self.in_flight.fail_oldest_raw() {
                    Some(Owner::Caller(id)) => emit(session::Output::Answered(id, Ok(Payload::new(frame.clone())))),
                    Some(_) => self.counters.late += 1,
                    None => self.counters.nameless += 1,
                }
                self.send_queued(now);
            }
            (_, Message::Greeting(_)) => self.counters.unmatched += 1,
        }
    }

    /// Sends `qmp_capabilities`, and enables `oob` only where the greeting offers it. QEMU offers it to a monitor that
    /// has an I/O thread (QEMU, `monitor/qmp.c`, `monitor_qmp_caps_reset`), and a client must not enable a capability
    /// that was not offered (QEMU, `qapi/control.json`, `qmp_capabilities`).
    fn negotiate(&mut self, greeting: Greeting, emit: &mut impl FnMut(session::Output)) {
        let offered = greeting.capabilities.iter().any(|name| name == "oob");
        self.greeting = Some(greeting);
        self.stage = Stage::Negotiating;
        let mut body = Vec::from(br#"{"execute":"qmp_capabilities""#);
        if offered {
            body.extend_from_slice(br#","arguments":{"enable":["oob"]}"#);
        }
        let entry = PendingCommand { owner: Owner::Handshake { out_of_band: offered }, ..PendingCommand::default() };
        self.in_flight.send(&entry, &body, None, self.dialect, &mut self.outbox);
        emit(session::Output::Greeted);
    }

    /// Returns the id of the command that a reply without an id answers: the one on the wire, in dialects that send one
    /// at a time. `None` for QMP, which echoes every id (`docs/interop/qmp-spec.rst`, Commands Responses).
    fn nameless(&self) -> Option<u16> {
        self.in_flight.only().filter(|_| self.dialect != Dialect::Qmp)
    }

    fn reply(
        &mut self,
        now: Moment,
        id: Option<u16>,
        result: Result<Payload, ErrorReply>,
        frame: &Bytes,
        emit: &mut impl FnMut(session::Output),
    ) {
        if self.dialect == Dialect::GuestAgent && id.is_some() && self.holds_refusal(now, &result, frame, emit) {
            return;
        }
        let Some(Sent { entry, name, .. }) = id.and_then(|id| self.in_flight.land(id)) else {
            self.counters.unmatched += 1;
            return;
        };
        let refusal = |error: ErrorReply| error.of(name.to_string());
        if entry.kind.quit && result.is_ok() {
            emit(session::Output::QuitAccepted);
        }
        if entry.kind.power_button && result.is_ok() {
            emit(session::Output::PowerButtonPressed);
        }
        match (entry.owner, result) {
            (Owner::Caller(id), _) if entry.kind.raw => {
                emit(session::Output::Answered(id, Ok(Payload::new(frame.clone()))))
            }
            (Owner::Caller(id), Ok(payload)) => emit(session::Output::Answered(id, Ok(payload.of(name)))),
            (Owner::Caller(id), Err(error)) => {
                emit(session::Output::Answered(id, Err(CommandError::Refused(refusal(error)))))
            }
            (Owner::Handshake { out_of_band }, Ok(_)) => {
                if !self.begin_startup(out_of_band, emit) {
                    self.become_ready(now, out_of_band, emit);
                }
            }
            (Owner::Startup, result) => self.startup_answered(now, result.map_err(refusal), emit),
            (Owner::Handshake { .. }, Err(error)) => {
                self.fail(LaunchFailure::Refused(refusal(error)), emit);
            }
            (Owner::Probe, _) => self.liveness.answered(now),
            (Owner::Ladder, result) => {
                let result = result.map(drop).map_err(|error| CommandError::Refused(refusal(error)));
                emit(session::Output::LadderAnswered(result))
            }
            (Owner::Disowned | Owner::Unmatched, _) => self.counters.late += 1,
        }
        self.send_queued(now);
    }

    /// Handles a message that cannot be read: it fails the handshake, or the command that it most likely answers. That
    /// command would otherwise wait for its deadline.
    pub(super) fn unreadable(
        &mut self,
        now: Moment,
        error: ProtocolError,
        may_be_a_reply: bool,
        emit: &mut impl FnMut(session::Output),
    ) {
        match error {
            ProtocolError::TooLarge { .. } => self.counters.too_large += 1,
            ProtocolError::Malformed { .. } | ProtocolError::NoGreeting { .. } => self.counters.malformed += 1,
        }
        if !self.is_ready() && may_be_a_reply {
            self.fail(LaunchFailure::Broken(error), emit);
        } else if may_be_a_reply && self.sync.refusal.is_some() {
            self.silence_is_over(now, emit);
        } else if may_be_a_reply {
            let lost = match self.dialect {
                // In-band replies come in issue order (`docs/interop/qmp-spec.rst`, Out-of-band execution), so this was
                // most likely the reply to the oldest command.
                Dialect::Qmp => self.in_flight.fail_oldest(),
                Dialect::GuestAgent | Dialect::Qtest => self.in_flight.fail_only(self.dialect),
            };
            if let Some(Owner::Caller(id)) = lost {
                emit(session::Output::Answered(id, Err(CommandError::Broken(error))));
            }
            if self.dialect == Dialect::GuestAgent {
                // Synchronise now, so that later lines of the same chunk are dropped like those of later chunks.
                self.sync_if_needed(now);
            }
        }
        self.send_queued(now);
    }
}

/// Returns whether a message that cannot be read begins like an event: with its timestamp, as QEMU writes it (measured
/// with QEMU 7.2.22), or with its name.
fn looks_like_an_event(frame: &[u8]) -> bool {
    [b"{\"timestamp\"".as_slice(), b"{\"event\""].iter().any(|begin| frame.starts_with(begin))
}

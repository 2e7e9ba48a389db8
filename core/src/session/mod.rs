//! Decides how one QMP conversation goes: greeting, capabilities negotiation, commands and their replies, the end.

mod flight;
mod words;

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::command::{Band, Payload};
use crate::config::Limits;
use crate::error::{CommandError, Progress};
use crate::fault::{Misuse, ProtocolError, Refusal};
use crate::lifecycle::LaunchFailure;
use crate::outbox::Outbox;
use crate::text::{excerpt, lossy};
use crate::time::Moment;
use crate::wire::{Frame, Framer, Greeting, Message, encode};

pub(crate) use flight::Owner;
use flight::{Entry, Flight};
pub use words::{Counters, Fact, Heard, Request};

/// One conversation with a monitor, as plain data.
///
/// [`step`](Self::step) is its only transition: it consumes the state, tells facts to `emit`, and returns the next
/// state. What it wants to say stands in [`outgoing`](Self::outgoing).
///
/// ```
/// use qemu_machine_core::session::{Fact, Heard, Session};
/// use qemu_machine_core::{Limits, Moment};
///
/// let now = Moment::ORIGIN;
/// let greeting = br#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": ["oob"]}}
/// "#;
/// let session = Session::new(&Limits::default()).step(now, Heard::Opened, &mut |_| ());
/// let session = session.step(now, Heard::Received(greeting), &mut |fact| assert!(matches!(fact, Fact::Greeted)));
/// assert_eq!(session.outgoing(), br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"#);
///
/// let all = session.outgoing().len();
/// let session = session.sent(all);
/// let session = session.step(now, Heard::Received(b"{\"return\": {}, \"id\": 0}\n"), &mut |_| ());
/// assert!(session.is_ready());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    stage: Stage,
    framer: Framer,
    flight: Flight,
    outbox: Outbox,
    greeting: Option<Greeting>,
    counters: Counters,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not connected yet.
    Down,
    /// The connection is at its end, or the handshake failed.
    Closed,
    /// The greeting is due.
    Greeting,
    /// The reply to `qmp_capabilities` is due.
    Negotiating,
    /// Commands are answered.
    Ready { out_of_band: bool },
}

impl Session {
    /// How many in-band commands are on the wire at once when out-of-band was negotiated: QEMU stops reading when
    /// it holds 8 (`QMP_REQ_QUEUE_LEN_MAX`), and one that it is not executing yet counts, so with 7 an out-of-band
    /// command always gets through.
    pub const IN_BAND_DEPTH: usize = 7;

    /// A session that has no connection yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            stage: Stage::Down,
            framer: Framer::new(limits.message),
            flight: Flight::default(),
            outbox: Outbox::default(),
            greeting: None,
            counters: Counters::default(),
            limit: limits.message,
        }
    }

    /// The transition.
    #[must_use]
    pub fn step(mut self, now: Moment, heard: Heard<'_>, emit: &mut impl FnMut(Fact)) -> Self {
        self.advance(now, heard, emit);
        self
    }

    /// The transition, in place.
    pub(crate) fn advance(&mut self, now: Moment, heard: Heard<'_>, emit: &mut impl FnMut(Fact)) {
        match heard {
            Heard::Opened if self.stage == Stage::Down => self.stage = Stage::Greeting,
            Heard::Opened => {}
            Heard::Received(bytes) => self.received(bytes, emit),
            Heard::Closed => self.close(emit),
            Heard::Issue(request) => self.issue(&request, emit),
            Heard::Disown(id) => self.flight.disown(Owner::Caller(id)),
            Heard::DisownLadder => self.flight.disown(Owner::Ladder),
            Heard::TimePassed => {
                self.flight.expire(now, |id, progress| emit(Fact::Answered(id, Err(CommandError::TimedOut(progress)))))
            }
        }
    }

    /// What is to be sent, in order.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.waiting()
    }

    /// So many of the [`outgoing`](Self::outgoing) bytes were sent.
    #[must_use]
    pub fn sent(mut self, bytes: usize) -> Self {
        self.note_sent(bytes);
        self
    }

    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.outbox.sent(bytes);
    }

    /// When the next command runs out of time.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.flight.deadline()
    }

    /// Whether commands are answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    /// Whether there is a connection, in whatever stage.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Down | Stage::Closed)
    }

    /// Whether out-of-band execution was negotiated.
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        self.stage == Stage::Ready { out_of_band: true }
    }

    /// What the monitor said of itself, once it did.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// What came and nobody waited for.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many commands wait for their end.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.flight.len()
    }

    /// How many of them are on the wire; the others wait for their turn to go there.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.on_the_wire()
    }

    /// How many received bytes were looked at; see [`Framer::examined`].
    #[must_use]
    pub fn examined(&self) -> u64 {
        self.framer.examined()
    }

    fn received(&mut self, bytes: &[u8], emit: &mut impl FnMut(Fact)) {
        if !self.is_open() {
            return;
        }
        self.framer.push(bytes);
        while let Some(frame) = self.framer.next_frame() {
            match frame {
                Frame::Message(bytes) => match Message::read(&bytes) {
                    Ok(message) => self.message(message, &bytes, emit),
                    Err(error) => self.unreadable(error, !looks_like_an_event(&bytes), emit),
                },
                Frame::TooLarge => self.unreadable(ProtocolError::TooLarge { limit: self.limit }, true, emit),
            }
            if !self.is_open() {
                return;
            }
        }
    }

    fn message(&mut self, message: Message, frame: &Bytes, emit: &mut impl FnMut(Fact)) {
        match (self.stage, message) {
            (_, Message::Event(event)) => emit(Fact::Event(event)),
            (Stage::Greeting, Message::Greeting(greeting)) => self.negotiate(greeting, emit),
            (Stage::Greeting, Message::Reply { .. } | Message::Nameless(_)) => {
                let error = ProtocolError::NoGreeting { excerpt: excerpt(frame) };
                self.fail(LaunchFailure::Broken(error), emit);
            }
            (_, Message::Reply { id, result }) => self.reply(id, result, emit),
            (_, Message::Nameless(refusal)) => match self.flight.lose_oldest_raw() {
                Some(id) => {
                    emit(Fact::Answered(id, Err(CommandError::Refused(refusal))));
                    self.send_queued();
                }
                None => self.counters.nameless += 1,
            },
            (_, Message::Greeting(_)) => self.counters.unmatched += 1,
        }
    }

    fn negotiate(&mut self, greeting: Greeting, emit: &mut impl FnMut(Fact)) {
        let offered = greeting.capabilities.iter().any(|name| name == "oob");
        self.greeting = Some(greeting);
        self.stage = Stage::Negotiating;
        let mut body = Vec::from(br#"{"execute":"qmp_capabilities""#);
        if offered {
            body.extend_from_slice(br#","arguments":{"enable":["oob"]}"#);
        }
        let entry = Entry { owner: Owner::Handshake { out_of_band: offered }, ..Entry::default() };
        self.flight.send(entry, &body, self.outbox.writer());
        emit(Fact::Greeted);
    }

    fn reply(&mut self, id: Option<u16>, result: Result<Payload, Refusal>, emit: &mut impl FnMut(Fact)) {
        let Some(entry) = id.and_then(|id| self.flight.land(id)) else {
            self.counters.unmatched += 1;
            return;
        };
        if entry.kind.quit && result.is_ok() {
            emit(Fact::QuitAccepted);
        }
        match (entry.owner, result) {
            (Owner::Handshake { out_of_band }, Ok(_)) => {
                self.stage = Stage::Ready { out_of_band };
                emit(Fact::Ready);
                self.flight.reject_out_of_band(out_of_band, |id, error| {
                    emit(Fact::Answered(id, Err(CommandError::Misuse(error))));
                });
            }
            (Owner::Handshake { .. }, Err(refusal)) => {
                self.fail(LaunchFailure::Refused(refusal), emit);
            }
            (Owner::Caller(id), result) => emit(Fact::Answered(id, result.map_err(CommandError::Refused))),
            (Owner::Ladder, result) => emit(Fact::LadderAnswered(result.map(drop))),
            (Owner::Nobody | Owner::Lost, _) => self.counters.late += 1,
        }
        self.send_queued();
    }

    fn unreadable(&mut self, error: ProtocolError, may_be_a_reply: bool, emit: &mut impl FnMut(Fact)) {
        match error {
            ProtocolError::TooLarge { .. } => self.counters.too_large += 1,
            ProtocolError::Malformed { .. } | ProtocolError::NoGreeting { .. } => self.counters.malformed += 1,
        }
        if !self.is_ready() {
            self.fail(LaunchFailure::Broken(error), emit);
        } else if let Some(id) = may_be_a_reply.then(|| self.flight.lose_oldest()).flatten() {
            // In-band replies come in order, so this was most likely the reply to the oldest.
            emit(Fact::Answered(id, Err(CommandError::Broken(error))));
        }
        self.send_queued();
    }

    fn fail(&mut self, failure: LaunchFailure, emit: &mut impl FnMut(Fact)) {
        emit(Fact::Failed(failure));
        self.close(emit);
    }

    fn close(&mut self, emit: &mut impl FnMut(Fact)) {
        self.stage = Stage::Closed;
        self.outbox.clear();
        self.flight.crash(|id, progress| {
            emit(Fact::Answered(id, Err(CommandError::Disconnected(progress))));
        });
    }

    fn issue(&mut self, request: &Request<'_>, emit: &mut impl FnMut(Fact)) {
        let Request { owner, body, band, kind, deadline } = *request;
        let entry = Entry { owner, band, kind, deadline };
        let refused = match self.stage {
            Stage::Closed => CommandError::Disconnected(Progress::Unsent),
            Stage::Ready { out_of_band: false } if band == Band::OutOfBand => {
                CommandError::Misuse(Misuse::NoOutOfBand(lossy(body)))
            }
            Stage::Down | Stage::Greeting | Stage::Negotiating => return self.flight.queue(entry, body),
            Stage::Ready { out_of_band } => {
                if self.flight.may_send(band, out_of_band) {
                    self.flight.send(entry, body, self.outbox.writer());
                } else {
                    self.flight.queue(entry, body);
                }
                return;
            }
        };
        match owner {
            Owner::Caller(id) => emit(Fact::Answered(id, Err(refused))),
            Owner::Ladder => emit(Fact::LadderAnswered(Err(Refusal {
                class: "Disconnected".to_string(),
                description: refused.to_string(),
            }))),
            Owner::Handshake { .. } | Owner::Nobody | Owner::Lost => {}
        }
    }

    fn send_queued(&mut self) {
        if let Stage::Ready { out_of_band } = self.stage {
            while self.flight.send_next(out_of_band, self.outbox.writer()) {}
        }
    }
}

/// The end of a command as bytes; here because only [`flight`] ends commands.
fn finish(body: &[u8], id: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(body);
    encode::end(id, out);
}

/// Whether a message that cannot be read begins as QEMU's events do.
fn looks_like_an_event(frame: &[u8]) -> bool {
    [b"{\"timestamp\"".as_slice(), b"{\"event\""].iter().any(|begin| frame.starts_with(begin))
}

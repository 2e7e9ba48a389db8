//! Session with a monitor: greeting, capabilities negotiation, commands and their replies, the end.

mod agent;
mod heartbeat;
mod in_flight;
mod io;
mod liveness;
mod on_wire;
mod pending;
mod qtest;
mod queue;
mod receive;
mod startup;
mod sync;

use alloc::vec::Vec;

use crate::command::Band;
use crate::command_name::name_of;
use crate::config::{Dialect, Limits};
use crate::descriptor::Descriptor;
use crate::error::{CommandError, Progress};
use crate::event::Event;
use crate::fault::Misuse;
use crate::lifecycle::LaunchFailure;
use crate::outbox::Outbox;
use crate::time::Moment;
use crate::wire::{Encoded, Framer, Greeting};

use in_flight::{InFlight, Rules};
pub use io::{Counters, Input, Output};
use liveness::Probe;
use pending::{Owner, PendingCommand};
use startup::Startup;
use sync::Sync;

/// One connection to a monitor, from its greeting to its end, as plain data.
///
/// [`step`](Self::step) is its only transition: it consumes the state, passes outputs to `emit`, and returns the next
/// state. [`outgoing`](Self::outgoing) returns the bytes to send. A new connection needs a new session: QEMU greets
/// again, resets the capabilities, and drops the commands that it has not started (QEMU, `monitor/qmp.c`,
/// `monitor_qmp_event`).
///
/// ```
/// use qemu_machine_core::session::{Output, Input, Session};
/// use qemu_machine_core::{Limits, Moment};
///
/// let now = Moment::ORIGIN;
/// let greeting = br#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": ["oob"]}}
/// "#;
/// let session = Session::new(&Limits::default()).step(now, Input::Opened, &mut |_| ());
/// let session = session.step(now, Input::Received(greeting), &mut |output| assert!(matches!(output, Output::Greeted)));
/// assert_eq!(session.outgoing(), br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"#);
///
/// let all = session.outgoing().len();
/// let session = session.sent(all);
/// let session = session.step(now, Input::Received(b"{\"return\": {}, \"id\": 0}\n"), &mut |_| ());
/// assert!(session.is_ready());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    stage: Stage,
    framer: Framer,
    in_flight: InFlight,
    outbox: Outbox,
    greeting: Option<Greeting>,
    counters: Counters,
    limit: usize,
    dialect: Dialect,
    sync: Sync,
    liveness: Probe,
    startup: Startup,
    /// Whether a peer that fails before its greeting counts as a stranger, after which QEMU may still connect.
    expects_strangers: bool,
    /// The events of a peer that may be a stranger, until its greeting.
    early: Vec<Event>,
    /// Whether the session is ready only when the guest was continued.
    awaits_start: bool,
    /// How many commands of the startup have no reply yet.
    startup_commands: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not connected yet.
    Down,
    /// The connection is at its end, or the handshake failed.
    Closed,
    /// The greeting is due (`docs/interop/qmp-spec.rst`, Server Greeting).
    Greeting,
    /// The reply to `qmp_capabilities` is due. QEMU refuses all other commands (`docs/interop/qmp-spec.rst`,
    /// Capabilities Negotiation), so they wait.
    Negotiating,
    /// The reply to `query-status` is due, which tells whether to continue the guest. Commands of callers wait: they
    /// would otherwise reach a guest that is held.
    Querying,
    /// The reply of a guest agent to a request to synchronise is due; earlier lines are dropped. If the agent refused
    /// the last request, none is due until a command is issued.
    Syncing,
    /// Commands are answered.
    Ready { out_of_band: bool },
}

impl Session {
    /// How many in-band commands are on the wire at once when out-of-band execution was negotiated.
    ///
    /// QEMU stops reading a monitor when it queued 8 requests (QEMU, `monitor/qmp.c`, `handle_qmp_command`,
    /// `QMP_REQ_QUEUE_LEN_MAX`). The specification allows 8 in flight (`docs/interop/qmp-spec.rst`, Out-of-band
    /// execution), which counts on QEMU executing one of them. While its main loop is busy elsewhere, QEMU executes
    /// none: then an out-of-band command gets through with 7 in flight, and not with 8 (measured with QEMU 7.2.22).
    pub const IN_BAND_DEPTH: usize = 7;

    /// Returns a session that has no connection yet, and speaks QMP.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            stage: Stage::Down,
            framer: Framer::new(limits.message),
            in_flight: InFlight::default(),
            outbox: Outbox::default(),
            greeting: None,
            counters: Counters::default(),
            limit: limits.message,
            dialect: Dialect::Qmp,
            sync: Sync::default(),
            liveness: Probe::default(),
            startup: Startup::default(),
            expects_strangers: false,
            early: Vec::new(),
            awaits_start: false,
            startup_commands: 0,
        }
    }

    /// Sets the dialect. `nonce` is a number that no other client uses, for synchronising with a guest agent (QEMU,
    /// `qga/qapi-schema.json`, `guest-sync-delimited`).
    #[must_use]
    pub fn speaking(self, dialect: Dialect, nonce: u64) -> Self {
        Self { dialect, sync: Sync::new(nonce), ..self }
    }

    /// Returns a session whose peer may be a process that is not QEMU: one that hangs up, or breaks the protocol, before
    /// its greeting. Then the session keeps queued commands, and waits for another connection ([`Input::Opened`]). What
    /// such a peer sends is no event of the machine: events that precede the greeting are held back until it. More
    /// than 64 of these, or one of more than 4 KiB, break the protocol.
    #[must_use]
    pub fn expecting_strangers(self) -> Self {
        Self { expects_strangers: true, ..self }
    }

    /// Applies an input, passes the outputs to `emit`, and returns the next state.
    #[must_use]
    pub fn step(mut self, now: Moment, input: Input<'_>, emit: &mut impl FnMut(Output)) -> Self {
        self.advance(now, input, emit);
        self
    }

    /// Applies an input in place.
    pub(crate) fn advance(&mut self, now: Moment, input: Input<'_>, emit: &mut impl FnMut(Output)) {
        match input {
            Input::Opened if self.stage == Stage::Down => self.opened(now, emit),
            Input::Opened => {}
            Input::KeepGuestHeld => self.keep_guest_held(),
            Input::Nonce(nonce) => self.sync = Sync::new(nonce),
            Input::Received(bytes) if self.dialect == Dialect::GuestAgent => {
                // A request that is due goes before what is received, however that is split.
                self.sync_if_needed(now);
                self.read_agent(now, bytes, emit);
            }
            Input::Received(bytes) => self.read(now, bytes, emit),
            Input::Reopening => self.await_connection(),
            Input::Closed => self.close(emit),
            Input::Execute { id, command, deadline } => self.issue(now, Owner::Caller(id), command, deadline, emit),
            Input::ExecuteForLadder(command) => self.issue(now, Owner::Ladder, command, None, emit),
            Input::Disown(id) => self.in_flight.disown(Owner::Caller(id)),
            Input::DisownLadder => self.in_flight.disown(Owner::Ladder),
            Input::TimePassed => {
                self.deliver_overdue_refusal(now, emit);
                let liveness = self.liveness;
                self.in_flight.expire(now, |id, progress, entry| {
                    let error = CommandError::TimedOut(progress, liveness.verdict(now, entry));
                    emit(Output::Answered(id, Err(error)));
                });
                self.send_heartbeat(now);
            }
        }
        if self.dialect == Dialect::GuestAgent {
            self.sync_if_needed(now);
        }
    }

    fn opened(&mut self, now: Moment, emit: &mut impl FnMut(Output)) {
        match self.dialect {
            Dialect::Qmp => self.stage = Stage::Greeting,
            Dialect::GuestAgent => {
                self.ask_to_sync(now);
                emit(Output::Syncing);
            }
            Dialect::Qtest => {
                emit(Output::Syncing);
                self.become_ready(now, false, emit);
            }
        }
    }

    fn become_ready(&mut self, now: Moment, out_of_band: bool, emit: &mut impl FnMut(Output)) {
        self.stage = Stage::Ready { out_of_band };
        emit(Output::Ready);
        self.in_flight.reject_out_of_band(out_of_band, |id, error| {
            emit(Output::Answered(id, Err(CommandError::Misuse(error))));
        });
        self.send_queued(now);
    }

    /// Returns the bytes to send, in order, up to the next byte that a descriptor goes with.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.waiting()
    }

    /// Returns the descriptor to send with the first of the [`outgoing`](Self::outgoing) bytes, in one message with it
    /// (`unix(7)`, `SCM_RIGHTS`). `None` means that no descriptor goes with that byte.
    #[must_use]
    pub fn outgoing_descriptor(&self) -> Option<&Descriptor> {
        self.outbox.descriptor()
    }

    /// Records that so many of the [`outgoing`](Self::outgoing) bytes were sent.
    #[must_use]
    pub fn sent(mut self, bytes: usize) -> Self {
        self.note_sent(bytes);
        self
    }

    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.outbox.sent(bytes);
    }

    /// Returns when [`Input::TimePassed`] is due: for the deadline of a command, a heartbeat, or a repeated request to
    /// synchronise. `None` means that nothing is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match (self.answer_due(), self.heartbeat_due()) {
            (Some(answer), Some(heartbeat)) => Some(answer.min(heartbeat)),
            (due, None) | (None, due) => due,
        }
    }

    /// Returns when a command must have its reply, or a request to synchronise is repeated.
    #[inline]
    pub(crate) fn answer_due(&self) -> Option<Moment> {
        let due = self.in_flight.deadline();
        if self.dialect != Dialect::GuestAgent {
            return due;
        }
        [due, self.refusal_due(), self.sync_again()].into_iter().flatten().min()
    }

    /// Returns whether commands are answered: the handshake succeeded, and the connection is open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    /// Returns whether the session has a connection, in any stage.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Down | Stage::Closed)
    }

    /// Returns whether a command of the shutdown ladder has no reply yet.
    pub(crate) fn is_ladder_waiting(&self) -> bool {
        self.in_flight.has_one_of(Owner::Ladder)
    }

    /// Returns whether out-of-band execution was negotiated (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        self.stage == Stage::Ready { out_of_band: true }
    }

    /// Returns the greeting. `None` means that it has not arrived, or that the dialect has none.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Returns the counts of the messages that no caller waited for.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how many commands have no reply yet, those of the session itself not counted.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.in_flight.len().saturating_sub(self.liveness.questions() + self.startup_commands)
    }

    /// Returns how many of these commands are on the wire; the others are queued.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.on_the_wire().saturating_sub(self.liveness.questions() + self.startup_commands)
    }

    /// Returns whether a `quit` was sent on this connection.
    pub(crate) fn has_sent_quit(&self) -> bool {
        self.in_flight.has_sent_quit()
    }

    fn fail(&mut self, failure: LaunchFailure, emit: &mut impl FnMut(Output)) {
        let is_stranger = self.may_be_stranger();
        emit(Output::Failed(failure));
        if is_stranger {
            self.await_connection();
        } else {
            self.close(emit);
        }
    }

    /// Returns whether the peer may be a process that is not QEMU: it has not greeted.
    fn may_be_stranger(&self) -> bool {
        self.expects_strangers && self.stage == Stage::Greeting
    }

    /// Returns to the state before the connection. Queued commands wait for the next one.
    fn await_connection(&mut self) {
        (self.stage, self.framer) = (Stage::Down, Framer::new(self.limit));
        self.early = Vec::new();
    }

    fn close(&mut self, emit: &mut impl FnMut(Output)) {
        self.stage = Stage::Closed;
        self.early = Vec::new();
        self.outbox.clear();
        self.liveness.close();
        self.deliver_refusal(emit);
        self.in_flight.crash(|id, progress| {
            emit(Output::Answered(id, Err(CommandError::Disconnected(progress))));
        });
    }

    fn issue(
        &mut self,
        now: Moment,
        owner: Owner,
        command: &Encoded,
        deadline: Option<Moment>,
        emit: &mut impl FnMut(Output),
    ) {
        let Encoded { body, band, kind, descriptor } = command;
        let (band, descriptor) = (*band, descriptor.clone());
        let half = deadline.map(|deadline| now.halfway_to(deadline));
        let carries = descriptor.is_some();
        let entry = PendingCommand { owner, band, kind: *kind, deadline, half, carries, ..PendingCommand::default() };
        let refused = match self.stage {
            Stage::Closed => CommandError::Disconnected(Progress::Unsent),
            Stage::Ready { out_of_band: false } if band == Band::OutOfBand => {
                CommandError::Misuse(Misuse::NoOutOfBand(name_of(body).into()))
            }
            Stage::Ready { .. } if self.in_flight.may_send(&entry, self.rules()) => {
                let entry = self.in_flight.accept(entry);
                self.in_flight.send(&entry, body, descriptor, self.dialect, &mut self.outbox);
                return self.sent_one(now, &entry);
            }
            Stage::Down
            | Stage::Greeting
            | Stage::Negotiating
            | Stage::Querying
            | Stage::Syncing
            | Stage::Ready { .. } => {
                let entry = self.in_flight.accept(entry);
                return self.in_flight.queue(entry, body, descriptor);
            }
        };
        match owner {
            Owner::Caller(id) => emit(Output::Answered(id, Err(refused))),
            Owner::Ladder => emit(Output::LadderAnswered(Err(refused))),
            Owner::Handshake { .. } | Owner::Startup | Owner::Probe | Owner::Disowned | Owner::Unmatched => {}
        }
    }

    fn send_queued(&mut self, now: Moment) {
        while let Stage::Ready { .. } = self.stage {
            let Some(entry) = self.in_flight.send_next(self.rules(), &mut self.outbox) else { return };
            self.sent_one(now, &entry);
        }
    }

    /// Sends what must follow a command on the wire.
    fn sent_one(&mut self, now: Moment, entry: &PendingCommand) {
        if self.dialect == Dialect::GuestAgent && entry.kind.silent {
            self.ask_behind_silence(now);
        }
    }

    fn rules(&self) -> Rules {
        let depth = match (self.dialect, self.out_of_band()) {
            (Dialect::Qmp, true) => Self::IN_BAND_DEPTH,
            (Dialect::Qmp, false) => usize::MAX,
            // Neither has ids: a guest agent before QEMU 4.0 may refuse them (QEMU, commit 4eaca8de26). With one command
            // at a time, a reply can belong only to that command.
            (Dialect::GuestAgent | Dialect::Qtest, _) => 1,
        };
        Rules { depth, dialect: self.dialect }
    }
}

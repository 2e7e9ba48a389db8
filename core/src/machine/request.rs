//! Requests as data: each call that changes a machine passes [`Machine::request`] as one of these.

use alloc::vec;

use super::Machine;
use crate::channel::Channel;
use crate::command::CommandId;
use crate::companion;
use crate::error::{CommandError, WaitError};
use crate::event::{Event, SubscriptionId};
use crate::fault::Misuse;
use crate::lifecycle::{self, State};
use crate::payload::Payload;
use crate::session;
use crate::time::{Deadline, Moment};
use crate::undo;
use crate::wait::{Hit, Mark, Wait, WaitId};
use crate::wire::Encoded;

/// A request or an input that is applied to a machine at a moment.
pub(super) trait Request {
    type Response;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response;
}

#[cfg(not(feature = "record"))]
impl Machine {
    /// Applies a request or an input. It is the only entry to a machine; with the feature `record` it is in
    /// `recording.rs`.
    pub(super) fn request<R: Request>(&mut self, now: Moment, request: R) -> R::Response {
        request.apply(self, now)
    }
}

/// [`Machine::launch`].
pub(super) struct Launch;

impl Request for Launch {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.begin(now)
    }
}

/// [`Machine::send`].
pub(super) struct Execute<'a> {
    pub(super) command: &'a Encoded,
    pub(super) deadline: Deadline,
}

impl Request for Execute<'_> {
    type Response = Result<CommandId, Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.issue(now, self.command, self.deadline)
    }
}

/// [`Machine::console_write`].
pub(super) struct ConsoleWrite<'a> {
    pub(super) console: &'a str,
    pub(super) bytes: &'a [u8],
}

impl Request for ConsoleWrite<'_> {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.queue_typed(now, self.console, self.bytes)
    }
}

/// [`Machine::wait`].
pub(super) struct BeginWait<'a> {
    pub(super) from: &'a Mark,
    pub(super) things: Things<'a>,
    pub(super) deadline: Deadline,
}

impl Request for BeginWait<'_> {
    type Response = Result<WaitId, Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.begin_to_wait(now, self.from, self.things, self.deadline)
    }
}

/// [`Machine::subscribe`].
pub(super) struct Subscribe<'a> {
    pub(super) from: &'a Mark,
    pub(super) events: Things<'a>,
}

impl Request for Subscribe<'_> {
    type Response = Result<SubscriptionId, Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.advance_clock(now);
        machine.begin_subscription(self.from, self.events)
    }
}

/// [`Machine::unsubscribe`].
pub(super) struct Unsubscribe(pub(super) SubscriptionId);

impl Request for Unsubscribe {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        machine.end_subscription(self.0);
    }
}

/// [`Machine::take`].
pub(super) struct Take(pub(super) CommandId);

impl Request for Take {
    type Response = Option<Result<Payload, CommandError>>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.advance_clock(now);
        // Mostly it is the only answer, or the last: a batch takes its answers from its end.
        if machine.answers.back()?.0 == self.0 {
            return machine.answers.pop_back().map(|(_, answer)| answer);
        }
        let index = machine.answers.binary_search_by_key(&self.0, |(id, _)| *id).ok()?;
        machine.answers.remove(index).map(|(_, answer)| answer)
    }
}

/// [`Machine::disown`].
pub(super) struct Disown(pub(super) CommandId);

impl Request for Disown {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        machine.answers.retain(|(id, _)| *id != self.0);
        machine.step_session(session::Input::Disown(self.0));
    }
}

/// [`Machine::undo`].
pub(super) struct Undo {
    /// The command of the procedure that has no reply yet.
    pub(super) pending: Option<CommandId>,
    pub(super) undo: undo::Undo,
}

/// [`Machine::claim_wait`].
pub(super) struct ClaimWait(pub(super) WaitId);

impl Request for ClaimWait {
    type Response = Option<Result<Hit, WaitError>>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.advance_clock(now);
        machine.waits.claim(self.0)
    }
}

/// [`Machine::disown_wait`].
pub(super) struct DisownWait(pub(super) WaitId);

impl Request for DisownWait {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        machine.waits.disown_wait(self.0);
    }
}

/// [`Machine::next_event`].
pub(super) struct NextEvent(pub(super) SubscriptionId);

impl Request for NextEvent {
    type Response = Option<Event>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.advance_clock(now);
        machine.subscriptions.pop(self.0)
    }
}

/// [`Machine::shutdown`].
pub(super) struct Shutdown(pub(super) lifecycle::Shutdown);

impl Request for Shutdown {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.end(now, lifecycle::Input::Shutdown(self.0))
    }
}

/// [`Machine::kill`].
pub(super) struct Kill;

impl Request for Kill {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        // A host may find no process of a machine that is resumed.
        let is_foreign = machine.state() == State::Running && machine.lifecycle.pid().is_none();
        if machine.is_attached() && (!machine.config.is_resumed() || is_foreign) {
            return Err(Misuse::NotOurs);
        }
        machine.end(now, lifecycle::Input::Kill)
    }
}

/// [`Machine::disconnect`].
pub(super) struct Disconnect;

impl Request for Disconnect {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        if machine.is_forked {
            return Err(Misuse::Forked);
        }
        if !machine.is_attached() {
            return Err(Misuse::Ours);
        }
        let is_ours = machine.lifecycle.pid().is_some() && !matches!(machine.state(), State::Launching(_));
        if is_ours { machine.detach_now(now) } else { machine.end(now, lifecycle::Input::Kill) }
    }
}

/// [`Machine::detach`].
pub(super) struct Detach;

impl Request for Detach {
    type Response = Result<(), Misuse>;

    fn apply(self, machine: &mut Machine, now: Moment) -> Self::Response {
        machine.detach_now(now)
    }
}

/// [`Machine::abandon`].
pub(super) struct Abandon;

impl Request for Abandon {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        // One call abandons one step: after the companions, the host still has its time to remove the files.
        if machine.lifecycle.awaits_companions() {
            machine.step_companions(companion::Input::Abandon);
        } else {
            machine.step_lifecycle(lifecycle::Input::Abandon);
        }
    }
}

/// [`Machine::kill_or_disconnect`].
pub(super) struct KillOrDisconnect;

impl Request for KillOrDisconnect {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        if machine.state() != State::Idle {
            machine.advance_clock(now);
            machine.step_lifecycle(lifecycle::Input::Kill);
            machine.step_companions(companion::Input::Kill);
        }
    }
}

/// [`Machine::sent`].
pub(super) struct Sent {
    pub(super) channel: Channel,
    pub(super) bytes: usize,
}

/// The things of a wait or of a subscription, from the caller's iterator. The machine collects them once, directly into
/// the form in which it keeps them.
pub(super) struct Things<'a> {
    /// Things that the recorder read and put back.
    pub(super) listed: vec::IntoIter<Wait>,
    pub(super) rest: &'a mut dyn Iterator<Item = Wait>,
}

impl<'a> Things<'a> {
    pub(super) fn new(rest: &'a mut dyn Iterator<Item = Wait>) -> Self {
        Self { listed: vec::IntoIter::default(), rest }
    }
}

impl Iterator for Things<'_> {
    type Item = Wait;

    fn next(&mut self) -> Option<Wait> {
        self.listed.next().or_else(|| self.rest.next())
    }
}

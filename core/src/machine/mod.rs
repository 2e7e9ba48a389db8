//! Composes a machine of its parts, and decides what can be asked of it.

mod attached;
mod debug;
mod dispatch;
mod outstanding;
mod queries;
mod recorded;
mod subscriptions;
mod waiting;

use crate::lifecycle;
use crate::record;
use crate::session;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::command::{Command, CommandId, Payload, QtestLine, Raw, Ticket};
use crate::command_line::CommandLine;
use crate::config::{Config, Dialect};
use crate::console::Console;
use crate::descriptor::Descriptor;
use crate::effect::Effect;
use crate::error::CommandError;
use crate::event::{History, Subscriptions};
use crate::fault::Misuse;
use crate::input::Prepared;
use crate::lifecycle::LaunchFailure;
use crate::lifecycle::{Lifecycle, Request, Shutdown, State};
use crate::notice::Notice;
use crate::outcome::{Evidence, Outcome};
use crate::record::{Issued, Recorder};
use crate::session::{Owner, Request as Issue, Session};
use crate::time::{Deadline, Moment};
use crate::transport::Monitor;
use crate::wait::{Mark, Waits};
use crate::wire::Encoded;
use outstanding::Outstanding;

/// A machine, without anything that does IO: the crate documentation says how it is driven.
///
/// Two are equal when all that they know, remember and have to say is equal: a run that is replayed ends as the same
/// machine, but for the descriptors that it was given, which no record holds.
#[derive(Clone, PartialEq)]
pub struct Machine {
    config: Config,
    command_line: CommandLine,
    lifecycle: Lifecycle,
    session: Session,
    consoles: Vec<Console>,
    outstanding: Outstanding,
    history: History,
    subscriptions: Subscriptions,
    waits: Waits,
    answers: VecDeque<(CommandId, Result<Payload, CommandError>)>,
    effects: VecDeque<Effect>,
    notices: VecDeque<Notice>,
    prepared: Prepared,
    evidence: Evidence,
    failure: Option<LaunchFailure>,
    /// It is long, and not there for most of a run.
    outcome: Option<Box<Outcome>>,
    /// Where this run began: what was before it is not missed.
    run_start: Mark,
    /// When the monitor closed under a process that lives on.
    hung_up: Option<Moment>,
    /// Whoever waits for an event was told that none can come any more.
    events_closed: bool,
    /// The connection that was given has been used.
    used_up: bool,
    next_command: u64,
    /// The first command of this run.
    first_command: u64,
    now: Moment,
    /// Used again, so that what a session tells costs no allocation.
    facts: Vec<session::Output>,
    pub(crate) recorder: Option<Box<Recorder>>,
}

impl Machine {
    /// A machine that is not launched yet.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] and [`Misuse::UnknownConsole`] when the configuration cannot become a machine:
    /// [`Config::command_line`] says which cannot.
    pub fn new(config: Config) -> Result<Self, Misuse> {
        let command_line = config.command_line()?;
        let limits = config.limits;
        let consoles = config.console_names().map(|name| Console::new(name.clone(), limits.console)).collect();
        Ok(Self {
            command_line,
            lifecycle: Lifecycle::default(),
            session: new_session(&config),
            consoles,
            outstanding: Outstanding::default(),
            history: History::new(limits.events),
            subscriptions: Subscriptions::default(),
            waits: Waits::default(),
            // One at a time is what most have.
            answers: VecDeque::with_capacity(1),
            effects: VecDeque::new(),
            notices: VecDeque::new(),
            prepared: Prepared::default(),
            evidence: Evidence::default(),
            failure: None,
            outcome: None,
            run_start: Mark::default(),
            hung_up: None,
            events_closed: false,
            used_up: false,
            next_command: 0,
            first_command: 0,
            now: Moment::ORIGIN,
            facts: Vec::with_capacity(1),
            recorder: Self::recorder(&config),
            config,
        })
    }

    // Requests: refused at once and without effect, or accepted.

    /// Begins a run. A machine that ended can be launched again; nothing of the previous run is left in it but the answers
    /// that nobody has claimed yet.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`]; [`Misuse::NotReaped`] when the last process survived SIGKILL and still lives;
    /// [`Misuse::UsedUp`] for a connection that was given.
    pub fn launch(&mut self, now: Moment) -> Result<(), Misuse> {
        self.asked(now, || record::Input::Launch, |machine| machine.begin(now))
    }

    fn begin(&mut self, now: Moment) -> Result<(), Misuse> {
        if !matches!(self.state(), State::Idle | State::Ended) {
            return Err(Misuse::AlreadyLaunched);
        }
        if !self.outstanding.is_settled() {
            return Err(Misuse::NotReaped);
        }
        if self.used_up {
            return Err(Misuse::UsedUp);
        }
        self.advance_clock(now);
        self.session = new_session(&self.config);
        self.history.clear();
        self.subscriptions.restart();
        self.consoles.iter_mut().for_each(Console::restart);
        self.run_start = self.mark();
        self.evidence = Evidence::new(&self.config);
        if let Some(outcome) = self.outcome.take() {
            // What was found in a queue is gone with the queue.
            self.waits.lost(&outcome);
        }
        (self.failure, self.hung_up, self.events_closed) = (None, None, false);
        // Of the previous run only what can still be claimed is news: another end would be taken for that of this one.
        self.notices.retain(|notice| matches!(notice, Notice::Answered(_) | Notice::Waited(_)));
        // Who waits for an answer of the previous run is to get it; but not for ever.
        let surplus = self.answers.len().saturating_sub(self.config.limits.commands);
        self.answers.drain(..surplus);
        self.first_command = self.next_command;
        self.prepared = Prepared::default();
        self.ask(Request::Launch {
            until: self.config.launch_within.passes_at(self.now),
            wiring: self.config.wiring(),
            channels: self.config.channels().len(),
        });
        Ok(())
    }

    /// Sends a command, or lets it wait for its turn.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] when there is no monitor to send it to, or when it is not a command.
    pub fn execute<C: Command>(&mut self, now: Moment, command: &C, deadline: Deadline) -> Result<Ticket<C>, Misuse> {
        let id = self.send(now, &Encoded::command(command)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command that the caller wrote as a JSON object without an `id`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_raw(&mut self, now: Moment, object: &[u8], deadline: Deadline) -> Result<Ticket<Raw>, Misuse> {
        let id = self.send(now, &Encoded::raw(object)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command together with a descriptor (`getfd`, `add-fd`), in one step. Commands that carry one wait for
    /// each other, since QEMU keeps only the descriptor that came last.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_with_fd<C: Command>(
        &mut self,
        now: Moment,
        command: &C,
        descriptor: Descriptor,
        deadline: Deadline,
    ) -> Result<Ticket<C>, Misuse> {
        let id = self.send(now, &Encoded::command(command)?.with_descriptor(descriptor), deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a line to QEMU's qtest: for a machine that [speaks](Config::speaking) it.
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`], [`Misuse::WrongDialect`], and as [`execute`](Self::execute).
    pub fn execute_line(&mut self, now: Moment, line: &str, deadline: Deadline) -> Result<Ticket<QtestLine>, Misuse> {
        let id = self.send(now, &Encoded::line(line)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command that is encoded already.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] when there is no monitor to send it to, or too many commands wait.
    pub fn send(&mut self, now: Moment, command: &Encoded, deadline: Deadline) -> Result<CommandId, Misuse> {
        let told = || record::Input::Execute(Issued::new(command, deadline));
        self.asked_for_number(now, told, |machine| machine.issue(now, command, deadline), |id| id.0)
    }

    fn issue(&mut self, now: Moment, command: &Encoded, deadline: Deadline) -> Result<CommandId, Misuse> {
        self.require_run()?;
        if self.config.monitor == Monitor::None {
            return Err(Misuse::NoMonitor);
        }
        if command.kind.line != (self.config.dialect == Dialect::Qtest) {
            return Err(Misuse::WrongDialect);
        }
        let limit = self.config.limits.commands;
        let older = self.answers.partition_point(|(id, _)| id.0 < self.first_command);
        if self.session.commands() + self.answers.len() - older >= limit {
            return Err(Misuse::TooManyCommands(limit));
        }
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.advance_clock(now);
        let deadline = deadline.passes_at(self.now);
        let Encoded { body, band, kind, descriptor } = command;
        let (owner, descriptor) = (Owner::Caller(id), descriptor.clone());
        self.tell_session(session::Input::Issue(Issue { owner, body, band: *band, kind: *kind, deadline, descriptor }));
        Ok(id)
    }

    /// Types on a console.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`], [`Misuse::ConsoleInputFull`], and the lack of a machine that lives.
    pub fn console_write(&mut self, now: Moment, console: &str, bytes: &[u8]) -> Result<(), Misuse> {
        let told = || record::Input::Type { console: console.into(), text: bytes.to_vec() };
        self.asked(now, told, |machine| machine.queue_typed(now, console, bytes))
    }

    fn queue_typed(&mut self, now: Moment, console: &str, bytes: &[u8]) -> Result<(), Misuse> {
        self.require_run()?;
        self.advance_clock(now);
        let index = self.console_index(console)?;
        let limit = self.config.limits.console_input;
        let input = self.consoles[index].input_mut();
        if input.waiting().len() + bytes.len() > limit {
            return Err(Misuse::ConsoleInputFull(limit));
        }
        input.writer().extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the machine by this policy. Does nothing when that is under way already. A machine that somebody else
    /// launched is told to `quit`, and let go when it does not.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`].
    pub fn shutdown(&mut self, now: Moment, how: Shutdown) -> Result<(), Misuse> {
        self.asked(now, || record::Input::Shutdown(how), |machine| machine.end(now, Request::Shutdown(how)))
    }

    /// Ends the machine with SIGKILL.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::NotOurs`] for a machine that somebody else launched.
    pub fn kill(&mut self, now: Moment) -> Result<(), Misuse> {
        self.asked(
            now,
            || record::Input::Kill,
            |machine| match machine.is_attached() {
                true => Err(Misuse::NotOurs),
                false => machine.end(now, Request::Kill),
            },
        )
    }

    /// Waits no longer for a process that was killed and does not end: what is left of this run is cleaned up. Does
    /// nothing in any other state. For drivers that go away.
    pub fn give_up(&mut self, now: Moment) {
        self.told(now, || record::Input::GiveUp);
        self.advance_clock(now);
        self.ask(Request::GiveUp);
    }

    fn end(&mut self, now: Moment, how: Request) -> Result<(), Misuse> {
        if self.state() == State::Idle {
            return Err(Misuse::NotLaunched);
        }
        self.advance_clock(now);
        self.ask(how);
        Ok(())
    }

    fn ask(&mut self, request: Request) {
        self.tell_lifecycle(lifecycle::Input::Asked(request));
    }

    fn require_run(&self) -> Result<(), Misuse> {
        match self.state() {
            State::Idle => Err(Misuse::NotLaunched),
            State::Ended => Err(Misuse::Ended),
            State::Launching(_) | State::Running | State::Ending => Ok(()),
        }
    }

    fn console_index(&self, name: &str) -> Result<usize, Misuse> {
        let index = self.consoles.iter().position(|console| console.name() == name);
        index.ok_or_else(|| Misuse::UnknownConsole(name.into()))
    }

    // Edges: asked for until there is none.

    /// The next order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if let Some(effect) = &effect {
            self.said(|| record::Output::order(effect));
        }
        if effect.is_none() && self.effects.capacity() > 0 {
            // There are some at the ends of a run, and none for as long as it lasts.
            self.effects = VecDeque::new();
        }
        effect
    }

    /// The next fact that somebody may be waiting for.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The answer of a command, once it is there. It is given once.
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.take(ticket.id).map(|answer| answer.and_then(Payload::reply))
    }

    /// The answer of a command, unread, once it is there. It is given once.
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        let index = self.answers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        self.told(self.now, || record::Input::Take(id.0));
        self.answers.remove(index).map(|(_, answer)| answer)
    }

    /// Nobody wants the answer of this command any more. Its late reply reaches nobody else.
    pub fn disown(&mut self, id: CommandId) {
        self.told(self.now, || record::Input::Disown(id.0));
        self.answers.retain(|(other, _)| *other != id);
        self.tell_session(session::Input::Disown(id));
    }
}

/// The session of a new run.
fn new_session(config: &Config) -> Session {
    let session = Session::new(&config.limits).speaking(config.dialect, 0);
    if config.heartbeat { session } else { session.without_heartbeat() }
}

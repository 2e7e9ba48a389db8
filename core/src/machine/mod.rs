//! Machine: its parts, and the effect of requests on them.

mod attached;
mod companions;
mod debug;
mod dispatch;
mod outstanding;
mod queries;
#[cfg(feature = "record")]
mod recording;
mod request;
mod subscriptions;
mod undoing;
mod verbs;
mod waiting;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::command::CommandId;
use crate::command_line::CommandLine;
use crate::companion;
use crate::config::{Config, Dialect};
use crate::console::Console;
use crate::effect::Effect;
use crate::error::CommandError;
use crate::event::{History, SubscriptionId, Subscriptions};
use crate::fault::Misuse;
use crate::input::Prepared;
use crate::lifecycle::{self, Lifecycle, Retry, State};
use crate::notice::Notice;
use crate::outcome::{Evidence, Outcome};
use crate::payload::Payload;
#[cfg(feature = "record")]
use crate::record::Recorder;
use crate::session::{self, Session};
use crate::time::{Deadline, Moment};
use crate::transport::Monitor;
use crate::wait::{Mark, Waits};
use crate::wire::Encoded;
use companions::CompanionRun;
use outstanding::Outstanding;
use undoing::Undoing;

/// The answers that were not claimed, in the order of their commands.
type Answers = VecDeque<(CommandId, Result<Payload, CommandError>)>;

/// A machine without IO; the [crate documentation](crate) explains how a driver drives it.
///
/// Two machines are equal when their configuration, state and pending outputs are equal. A replayed run ends as a
/// machine that is equal to the recorded one, apart from the descriptors that were passed in, which no record holds.
#[derive(Clone, PartialEq)]
pub struct Machine {
    config: Config,
    command_line: CommandLine,
    lifecycle: Lifecycle,
    session: Session,
    consoles: Vec<Console>,
    /// `None` means that the machine has no companions, or that there was no launch yet. Boxed, since most have none.
    companions: Option<Box<CompanionRun>>,
    outstanding: Outstanding,
    history: History,
    subscriptions: Subscriptions,
    waits: Waits,
    answers: Answers,
    effects: VecDeque<Effect>,
    notices: VecDeque<Notice>,
    /// What dropped procedures have created, and is being removed.
    undoing: Vec<Undoing>,
    prepared: Prepared,
    /// The facts that explain the end. `None` means that there are none yet. Boxed, since most runs have none until they end.
    evidence: Option<Box<Evidence>>,
    /// Boxed, since it is large and absent for most of a run.
    outcome: Option<Box<Outcome>>,
    /// The position where this run began. Earlier events and output do not count as missed.
    run_start: Mark,
    /// The position of the latest reset in this run, or where the run began.
    last_reset: Mark,
    /// The process that this run has started or found, also after its end, for the outcome. `None` means that there is none
    /// yet.
    last_pid: Option<u32>,
    /// The process at the other end of the monitor. `None` means that the host does not know it.
    qemu_pid: Option<u32>,
    /// The subscriptions of the configuration that no caller has taken. `None` before the first launch.
    launch_subscriptions: Option<VecDeque<SubscriptionId>>,
    /// The connection or the descriptors that the caller passed in were used; they serve a single run.
    used_up: bool,
    /// Whether it takes the place of a machine in a child of `fork(2)`.
    is_forked: bool,
    next_command: u64,
    /// The first command of this run.
    first_command: u64,
    now: Moment,
    /// Reused, so that the outputs of a session cost no allocation.
    outputs: Vec<session::Output>,
    #[cfg(feature = "record")]
    recorder: Option<Box<Recorder>>,
}

impl Machine {
    /// Returns a machine that is not launched yet.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`], [`Misuse::UnknownConsole`], [`Misuse::EmptyFilter`] and [`Misuse::NotAnEvent`] when the
    /// configuration is not valid; [`Config::command_line`] lists the rules.
    pub fn new(config: Config) -> Result<Self, Misuse> {
        let command_line = config.command_line()?;
        Ok(Self::unchecked(config, command_line))
    }

    fn evidence(&mut self) -> &mut Evidence {
        self.evidence.get_or_insert_default()
    }

    /// Returns a machine whose configuration was checked.
    fn unchecked(config: Config, command_line: CommandLine) -> Self {
        let limits = config.limits;
        let consoles = config.console_names().map(|name| Console::new(name.clone(), limits.console)).collect();
        Self {
            command_line,
            lifecycle: Lifecycle::default(),
            session: new_session(&config),
            consoles,
            companions: None,
            outstanding: Outstanding::default(),
            history: History::new(limits.events, limits.event),
            subscriptions: Subscriptions::default(),
            waits: Waits::default(),
            // Most callers have one command in flight.
            answers: VecDeque::with_capacity(1),
            effects: VecDeque::new(),
            notices: VecDeque::new(),
            undoing: Vec::new(),
            prepared: Prepared::default(),
            evidence: None,
            outcome: None,
            run_start: Mark::default(),
            last_reset: Mark::default(),
            last_pid: None,
            qemu_pid: None,
            launch_subscriptions: None,
            used_up: false,
            is_forked: false,
            next_command: 0,
            first_command: 0,
            now: Moment::ORIGIN,
            outputs: Vec::with_capacity(1),
            #[cfg(feature = "record")]
            recorder: Self::recorder(&config),
            config,
        }
    }

    /// Returns a machine that refuses every request with [`Misuse::Forked`]. A driver puts it in the place of a machine in
    /// a child of `fork(2)`, whose copy of the machine nothing drives.
    #[must_use]
    pub fn forked() -> Self {
        let config = Config::new("qemu");
        let command_line = config.command_line_with(&Prepared::default());
        let mut machine = Self::unchecked(config, command_line);
        machine.is_forked = true;
        machine
    }

    fn begin(&mut self, now: Moment) -> Result<(), Misuse> {
        if !matches!(self.state(), State::Idle | State::Ended) {
            return Err(Misuse::AlreadyLaunched);
        }
        if !self.outstanding.is_empty() {
            return Err(Misuse::NotReaped);
        }
        if self.is_forked {
            return Err(Misuse::Forked);
        }
        if self.used_up {
            return Err(Misuse::UsedUp);
        }
        self.advance_clock(now);
        self.session = new_session(&self.config);
        self.history.clear();
        self.subscriptions.restart();
        self.undoing.clear();
        self.consoles.iter_mut().for_each(Console::restart);
        self.run_start = self.mark();
        self.last_reset = self.run_start.clone();
        (self.last_pid, self.qemu_pid) = (None, None);
        self.evidence = Evidence::of_arguments(self.config.arguments());
        self.subscribe_at_launch()?;
        if let Some(outcome) = self.outcome.take() {
            // The queues were emptied, so a wait that found an event in one has lost it.
            self.waits.lost(&outcome);
        }
        // Keep only notices whose result can still be claimed: another `Ended` would be taken for the end of this run.
        self.notices.retain(|notice| matches!(notice, Notice::Answered(_) | Notice::Waited(_)));
        // Unclaimed answers of the previous run are kept, up to the command limit, so that callers still waiting
        // receive them.
        let surplus = self.answers.len().saturating_sub(self.config.limits.commands);
        self.answers.drain(..surplus);
        self.first_command = self.next_command;
        self.prepared = Prepared::default();
        self.companions = CompanionRun::of(&self.config);
        self.step_lifecycle(lifecycle::Input::Launch {
            until: self.config.launch_within.passes_at(self.now),
            wiring: self.config.wiring(),
            retry: self.config.retry(),
            channels: self.config.channels().len(),
        });
        if self.config.leaves_guest_held() {
            self.step_lifecycle(lifecycle::Input::GuestStopped);
        }
        Ok(())
    }

    fn issue(&mut self, now: Moment, command: &Encoded, deadline: Deadline) -> Result<CommandId, Misuse> {
        self.require_run()?;
        if self.config.monitor == Monitor::None {
            return Err(Misuse::NoMonitor);
        }
        if command.kind.line != (self.config.dialect == Dialect::Qtest) {
            return Err(Misuse::WrongDialect);
        }
        if command.descriptor.is_some() && self.config.is_by_tcp() {
            return Err(Misuse::NoDescriptors);
        }
        let limit = self.config.limits.commands;
        let waiting = self.session.commands() + self.answers.len();
        if waiting >= limit && waiting - self.answers.partition_point(|(id, _)| id.0 < self.first_command) >= limit {
            return Err(Misuse::TooManyCommands(limit));
        }
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.advance_clock(now);
        let deadline = deadline.passes_at(self.now);
        self.step_session(session::Input::Execute { id, command, deadline });
        Ok(id)
    }

    fn queue_typed(&mut self, now: Moment, console: &str, bytes: &[u8]) -> Result<(), Misuse> {
        self.require_run()?;
        self.advance_clock(now);
        let index = self.console_index(console)?;
        if self.config.log_console() == Some(index) {
            return Err(Misuse::TakesNoInput(console.into()));
        }
        let limit = self.config.limits.console_input;
        let input = self.consoles[index].input_mut();
        if input.waiting().len() + bytes.len() > limit {
            return Err(Misuse::ConsoleInputFull(limit));
        }
        input.writer().extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, now: Moment, how: lifecycle::Input) -> Result<(), Misuse> {
        if self.state() == State::Idle {
            return Err(self.not_launched());
        }
        self.advance_clock(now);
        let is_kill = how == lifecycle::Input::Kill;
        self.step_lifecycle(how);
        if is_kill {
            self.step_companions(companion::Input::Kill);
        } else if self.state() == State::Ending && !self.lifecycle.may_have_process() {
            // QEMU was not started, or has ended.
            self.qemu_ended();
        }
        Ok(())
    }

    fn not_launched(&self) -> Misuse {
        if self.is_forked { Misuse::Forked } else { Misuse::NotLaunched }
    }

    fn require_run(&self) -> Result<(), Misuse> {
        match self.state() {
            State::Idle => Err(self.not_launched()),
            State::Ended => Err(Misuse::Ended),
            State::Launching(_) | State::Running | State::Ending => Ok(()),
        }
    }

    fn console_index(&self, name: &str) -> Result<usize, Misuse> {
        let index = self.consoles.iter().position(|console| console.name() == name);
        index.ok_or_else(|| Misuse::UnknownConsole(name.into()))
    }

    // Edges: each item is returned once; the driver calls until `None`.

    /// Returns the next effect, once. `None` means that no effect is pending.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.capacity() == 0 {
            return None;
        }
        let effect = loop {
            match self.effects.pop_front() {
                // The channel has ended in the meantime, and may be another one by now.
                Some(Effect::Close(channel)) if !self.outstanding.is_closing(channel) => {}
                effect => break effect,
            }
        };
        if effect.is_none() && self.effects.capacity() > 0 {
            // Effects occur when a run begins and ends; between, the empty queue needs no memory.
            self.effects = VecDeque::new();
        }
        effect
    }

    /// Returns the next notice, once. `None` means that no notice is pending.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

/// Returns the session of a new run. A session serves one connection, since QEMU negotiates anew on each
/// (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
fn new_session(config: &Config) -> Session {
    let session = Session::new(&config.limits).speaking(config.dialect, 0);
    let session = match (config.holds_guest(), config.outlives_parent) {
        (true, false) => session.continuing_guest(),
        // The machine may be detached as soon as it is ready.
        (true, true) => session.continuing_guest_first(),
        (false, _) => session,
    };
    let session = if config.retry() == Retry::Stranger { session.expecting_strangers() } else { session };
    if config.heartbeat { session } else { session.without_heartbeat() }
}

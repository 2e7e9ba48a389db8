//! Simulated world of one machine: the steps that can happen to it, and the promises that are checked after each.

use std::time::Duration;

use qemu_machine_core::{
    Channel, CommandId, Config, Effect, ExitStatus, FaultKind, HostFault, Input, Machine, Moment, Notice, Phase,
    Prepared, Raw, RunningProcess, Shutdown, SignalName, State, Ticket,
};

const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}, "capabilities": ["oob"]}}"#;
const SHUTDOWN: &str = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
const NAMELESS: &str = r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#;
const GARBAGE: &str = "garbage";

/// One thing that can happen to a machine.
#[allow(clippy::large_enum_variant, reason = "few steps exist at a time, and each is matched in place")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Launch,
    /// The caller executes the command with this number: an ordinary one, or a raw `quit`.
    Execute(usize),
    Disown(usize),
    Shutdown,
    Kill,
    Detach,
    Abandon,
    /// The host completes an effect: with success (`true`) or a fault.
    Completion(Effect, bool),
    Exit(ExitStatus),
    Close,
    Say(&'static str),
    /// QEMU replies to the command with this id on the wire: with success (`true`) or an error.
    Reply(u16, bool),
    /// The clock reaches the deadline.
    Deadline,
}

impl Step {
    /// Returns whether the step happens without the caller or QEMU acting: time passes, the host completes effects, and
    /// a process ends.
    pub(crate) fn comes_by_itself(&self) -> bool {
        matches!(self, Self::Completion(..) | Self::Deadline | Self::Exit(_))
    }

    /// Returns the name of the step in the table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Completion(effect, well) => {
                let order = format!("{effect:?}");
                let order = order.split(['(', ' ']).next().unwrap_or_default();
                format!("{order} {}", if *well { "done" } else { "failed" })
            }
            Self::Exit(_) => "process ends".into(),
            Self::Close => "monitor closes".into(),
            Self::Say(GREETING) => "greeting".into(),
            Self::Say(GARBAGE) => "garbage".into(),
            Self::Say(_) => "message".into(),
            Self::Reply(_, true) => "reply".into(),
            Self::Reply(_, false) => "refusal".into(),
            Self::Deadline => "deadline".into(),
            Self::Execute(_) | Self::Disown(_) => "command".into(),
            Self::Shutdown => "shutdown".into(),
            Self::Kill | Self::Detach => "kill or detach".into(),
            Self::Abandon => "abandon".into(),
            Self::Launch => "launch".into(),
        }
    }
}

/// State of one of the two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Unborn,
    Open(CommandId),
    /// Answered, refused or disowned.
    Over,
}

/// A machine, its outstanding effects, and the history that the checks need.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now: Moment,
    effects: Vec<Effect>,
    commands: [Command; 2],
    /// Whether an earlier program has started the process.
    is_resumed: bool,
    /// Whether there are files on the host.
    made: bool,
    alive: bool,
    /// The number of each of these so far: prepare, spawn, remove, the end.
    counts: [u8; 4],
}

impl World {
    pub(crate) fn new(config: Config, commands: usize) -> Self {
        let is_resumed = format!("{config:?}").contains("peer: Some(Detached");
        let machine = Machine::new(config).expect("a good configuration");
        let mut all = [Command::Over; 2];
        all[..commands].fill(Command::Unborn);
        let commands = all;
        let (now, effects) = (Moment::ORIGIN, Vec::new());
        Self { machine, now, effects, commands, is_resumed, made: false, alive: false, counts: [0; 4] }
    }

    /// Returns the part of the state that is not in the machine.
    pub(crate) fn outputs(&self) -> impl std::fmt::Debug {
        let mut effects: Vec<_> = self.effects.iter().map(|order| format!("{order:?}")).collect();
        effects.sort();
        (effects, self.commands, self.made, self.alive, self.counts)
    }

    /// Returns every step that can happen next.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let state = self.machine.state();
        if state == State::Ended {
            return Vec::new();
        }
        let mut steps = vec![Step::Shutdown, Step::Kill, Step::Detach, Step::Abandon];
        steps.extend((state == State::Idle).then_some(Step::Launch));
        for (number, command) in self.commands.iter().enumerate() {
            match command {
                Command::Unborn if state != State::Idle => steps.push(Step::Execute(number)),
                Command::Open(_) => steps.push(Step::Disown(number)),
                Command::Unborn | Command::Over => {}
            }
        }
        let answers =
            self.effects.iter().flat_map(|order| [true, false].map(|well| Step::Completion(order.clone(), well)));
        steps.extend(answers);
        if self.alive {
            steps.extend(
                [ExitStatus::Code(0), ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false }]
                    .map(Step::Exit),
            );
        }
        if self.machine.channels().contains(&Channel::Monitor) {
            steps.extend([GREETING, SHUTDOWN, NAMELESS, GARBAGE].map(Step::Say));
            let ids = super::key::in_flight(&format!("{:?}", self.machine.session()));
            // 99 is an id that no command has.
            steps.extend(ids.into_iter().chain([99]).flat_map(|id| [Step::Reply(id, true), Step::Reply(id, false)]));
            steps.push(Step::Close);
        }
        steps.extend(self.machine.deadline().map(|_| Step::Deadline));
        steps
    }

    /// Performs the step, and checks the promises.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Launch => self.machine.launch(self.now).expect("it is idle"),
            Step::Execute(number) => self.execute(*number),
            Step::Disown(number) => self.disown(*number),
            Step::Shutdown => {
                let how = Shutdown::within(Duration::from_secs(30)).power_down(Duration::from_secs(40));
                drop(self.machine.shutdown(self.now, how));
            }
            Step::Kill => drop(self.machine.kill(self.now)),
            Step::Detach => {
                drop(self.machine.disconnect(self.now));
                drop(self.machine.detach(self.now));
            }
            Step::Abandon => self.machine.abandon(self.now),
            Step::Completion(order, well) => self.answer(order, *well),
            Step::Exit(status) => {
                self.alive = false;
                self.machine.handle(self.now, Input::Exited(*status));
            }
            Step::Close => self.machine.handle(self.now, Input::Closed(Channel::Monitor)),
            Step::Say(line) => self.say(line),
            Step::Reply(id, true) => self.say(&format!(r#"{{"return": {{}}, "id": {id}}}"#)),
            Step::Reply(id, false) => {
                self.say(&format!(r#"{{"error": {{"class": "GenericError", "desc": "no"}}, "id": {id}}}"#));
            }
            Step::Deadline => {
                self.now = self.machine.deadline().expect("there is one").0;
                self.machine.handle(self.now, Input::TimePassed);
            }
        }
        self.look();
    }

    /// The first command has a deadline; the second is raw and has none.
    fn execute(&mut self, number: usize) {
        let id = match number {
            0 => self.machine.execute(self.now, &"stop", Duration::from_secs(7).into()).map(|ticket| ticket.id()),
            _ => {
                let raw: Result<Ticket<Raw>, _> =
                    self.machine.execute_raw(self.now, br#"{"execute": "quit"}"#, qemu_machine_core::FOREVER);
                raw.map(|ticket| ticket.id())
            }
        };
        self.commands[number] = id.map_or(Command::Over, Command::Open);
    }

    fn disown(&mut self, number: usize) {
        if let Command::Open(id) = self.commands[number] {
            self.machine.disown(id);
            self.commands[number] = Command::Over;
        }
    }

    fn say(&mut self, line: &str) {
        self.machine.handle(self.now, Input::Received(Channel::Monitor, format!("{line}\n").as_bytes()));
    }

    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that misses an effect must not compile")]
    fn answer(&mut self, order: &Effect, well: bool) {
        self.effects.retain(|other| other != order);
        let fault =
            || HostFault { operation: "oblige".into(), kind: FaultKind::Other, errno: Some(1), reason: "no".into() };
        let result = if well { Ok(()) } else { Err(fault()) };
        let answer = match order {
            Effect::Prepare(_) => {
                // The host removes what it creates after the end of the run.
                self.made = well && self.counts[2] == 0;
                if self.made && self.is_resumed {
                    self.alive = true;
                    let process = Some(Box::new(RunningProcess { pid: 1, arguments: Vec::new() }));
                    Input::Prepared(Prepared { process, ..Prepared::default() })
                } else if self.made {
                    Input::Prepared(Prepared::default())
                } else {
                    Input::PrepareFailed(fault())
                }
            }
            Effect::Spawn(_) => {
                self.alive = well;
                if well { Input::Spawned { pid: 1 } } else { Input::SpawnFailed(fault()) }
            }
            Effect::Open(channel) if well => Input::Opened(*channel),
            Effect::Open(channel) => Input::OpenFailed(*channel, HostFault { kind: FaultKind::Refused, ..fault() }),
            Effect::Close(channel) => Input::Closed(*channel),
            Effect::Signal(signal) => Input::Signalled(*signal, result),
            Effect::ReadLog { .. } => Input::LogRead(b""),
            Effect::Detach => {
                (self.made, self.alive) = (false, false);
                Input::Detached
            }
            Effect::Companion(..) => unreachable!("these machines have no companions"),
            Effect::Remove => {
                self.made = false;
                Input::Removed(result)
            }
        };
        self.machine.handle(self.now, answer);
    }

    /// Takes the outputs of the machine, and checks the promises.
    fn look(&mut self) {
        while let Some(order) = self.machine.poll_effect() {
            assert_eq!(self.counts[3], 0, "{order:?} after the end");
            assert!(!self.effects.contains(&order), "{order:?} twice at once");
            let count = match order {
                Effect::Prepare(_) => Some(0),
                Effect::Spawn(_) => Some(1),
                Effect::Remove => Some(2),
                _ => None,
            };
            count.into_iter().for_each(|count| self.count(count));
            if let Effect::Open(channel) = order {
                // The connection before has ended.
                self.effects.retain(|effect| *effect != Effect::Close(channel));
            }
            self.effects.push(order);
        }
        while let Some(notice) = self.machine.poll_notice() {
            match notice {
                Notice::Answered(id) => self.answered(id),
                Notice::Ended => self.count(3),
                _ => {}
            }
        }
        // All outgoing bytes are sent at once: the time of sending affects no decision.
        let sent = self.machine.outgoing(Channel::Monitor).len();
        self.machine.sent(Channel::Monitor, sent);
        self.check();
    }

    /// Counts an effect or a notice that comes once in a run.
    fn count(&mut self, which: usize) {
        self.counts[which] += 1;
        assert_eq!(self.counts[which], 1, "number {which} came twice");
    }

    fn answered(&mut self, id: CommandId) {
        let answer = self.machine.take(id);
        let command = self.commands.iter_mut().find(|command| **command == Command::Open(id));
        // A command that was disowned in the meantime has no answer.
        assert_eq!(answer.is_some(), command.is_some(), "{id:?} was answered twice, or after it was disowned");
        command.into_iter().for_each(|command| *command = Command::Over);
    }

    fn check(&self) {
        let (state, machine) = (self.machine.state(), &self.machine);
        assert_eq!(state == State::Ended, machine.outcome().is_some(), "an outcome exists exactly after the end");
        assert_eq!(state == State::Ended, self.counts[3] == 1, "the end is notified exactly once");
        let waits = machine.deadline().is_some() || !self.effects.is_empty();
        match state {
            State::Ended => {
                assert!(!self.commands.iter().any(|command| matches!(command, Command::Open(_))), "unanswered");
                let is_overdue = self.effects.contains(&Effect::Remove);
                assert!(!self.made || is_overdue, "files were left on the host");
            }
            State::Idle | State::Running => {}
            // Only time, the host or the process can end this state.
            State::Launching(Phase::Running) => assert!(waits || self.alive),
            _ => assert!(waits, "the machine waits for nothing: {machine:?}"),
        }
    }
}

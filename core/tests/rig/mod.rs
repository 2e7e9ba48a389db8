//! Rig: a machine in virtual time on a simulated host, which completes every effect at once unless the test holds it.

pub(crate) mod steps;
pub(crate) mod ticks;

use core::time::Duration;

use qemu_machine_core::{
    Address, Channel, Command, CommandError, CommandId, CompanionEffect, CompanionInput, CompanionSocket, Config,
    Effect, ExitStatus, FOREVER, FaultKind, HostFault, Inherited, Input, LaunchError, LaunchFailure, Machine, Mark,
    Moment, Notice, Outcome, Preparation, Prepared, Shutdown, Signal, SignalName, Ticket, Transport, Value, Wait,
    WaitId,
};

pub(crate) const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}"#;
pub(crate) const GREETING_OOB: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;
pub(crate) const HANDSHAKE: &str = r#"{"execute":"qmp_capabilities","id":0}"#;
pub(crate) const HANDSHAKE_OOB: &str = r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"#;
pub(crate) const SIGTERM: ExitStatus = ExitStatus::Signal { number: 15, name: SignalName::Term, core_dumped: false };
pub(crate) const SIGKILL: ExitStatus = ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false };
pub(crate) const PID: u32 = 42;
/// The id of the process of the first companion; the next has the next number.
pub(crate) const COMPANION_PID: u32 = 4300;

/// Returns whether tests that explore do it completely, in minutes: `all` in `QEMU_MACHINE_STATES`.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os("QEMU_MACHINE_STATES").is_some_and(|states| states == "all")
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn at(elapsed: Duration) -> Moment {
    Moment::new(elapsed)
}

pub(crate) fn fault(operation: &str) -> HostFault {
    HostFault {
        operation: operation.into(),
        kind: FaultKind::NotFound,
        errno: Some(2),
        reason: "No such file or directory".into(),
    }
}

/// Parses a TCP address.
pub(crate) fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().expect("an address"))
}

/// A configuration with one console.
pub(crate) fn config() -> Config {
    Config::new("qemu").autostart().serial("tty")
}

/// Returns the result of `Prepare` on this host: a number for each inherited descriptor, and the real address of a
/// listening socket.
fn prepared(wanted: &Preparation) -> Prepared {
    let pairs = wanted.channels.iter().filter(|(_, transport)| *transport == Transport::Pair);
    let channels = pairs.map(|(channel, _)| Inherited::Channel(*channel));
    let services = wanted.services.iter().copied().map(Inherited::Service);
    let monitors = (0..wanted.monitor_sockets.len()).map(Inherited::MonitorSocket);
    let added = (0..wanted.added.len()).map(Inherited::Added);
    let monitor = wanted.channels.iter().find_map(|(_, transport)| match transport {
        Transport::Listen(Address::Tcp(address)) => Some(std::net::SocketAddr::new(address.ip(), 4444).into()),
        Transport::Listen(address) => Some(address.clone()),
        Transport::ListenIn(directory) => {
            let directory = String::from_utf8_lossy(directory.as_deref().unwrap_or(b"/tmp/private"));
            Some(Address::unix(format!("{directory}/monitor")))
        }
        _ => None,
    });
    let companions = || wanted.companions.iter().enumerate();
    let connected = companions().filter(|(_, companion)| companion.socket == Some(CompanionSocket::Connected));
    let connected = connected.map(|(index, _)| Inherited::Companion(index));
    let with_path = companions()
        .filter(|(_, companion)| matches!(companion.socket, Some(CompanionSocket::Listener | CompanionSocket::Path)));
    let paths = with_path.map(|(index, companion)| (index, format!("/tmp/private/{}", companion.name).into_bytes()));
    let companions = paths.collect();
    let descriptors = channels.chain(services).chain(monitors).chain(added).chain(connected).zip(3..).collect();
    Prepared { descriptors, monitor, companions, ..Prepared::default() }
}

#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) vm: Machine,
    pub(crate) now: Moment,
    /// Every effect so far.
    pub(crate) effects: Vec<Effect>,
    /// Every notice so far, except those of waits, which repeat.
    pub(crate) notices: Vec<Notice>,
    /// The output of the process.
    pub(crate) log: Vec<u8>,
    /// The output of each companion. `None` means that its log is not read when it has ended.
    pub(crate) companion_log: Option<&'static [u8]>,
    /// The process that sends the signals, as the host reports it.
    pub(crate) signaller: Option<u32>,
    /// Effects that are taken and not completed.
    pub(crate) held: fn(&Effect) -> bool,
    /// Effects that fail.
    pub(crate) failing: fn(&Effect) -> bool,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let vm = Machine::new(config.recorded()).expect("a good configuration");
        Self {
            vm,
            now: Moment::ORIGIN,
            effects: Vec::new(),
            notices: Vec::new(),
            log: Vec::new(),
            companion_log: Some(b"no \x1b such\n"),
            signaller: None,
            held: |_| false,
            failing: |_| false,
        }
    }

    /// Returns a machine that is launched and waits for the greeting.
    pub(crate) fn launched(config: Config) -> Self {
        let mut rig = Self::new(config);
        rig.launch();
        rig
    }

    /// Returns a ready machine, without out-of-band execution.
    pub(crate) fn ready(config: Config) -> Self {
        let mut rig = Self::launched(config);
        rig.negotiate(GREETING);
        rig
    }

    /// Returns a ready machine, with out-of-band execution.
    pub(crate) fn ready_oob(config: Config) -> Self {
        let mut rig = Self::launched(config);
        rig.negotiate(GREETING_OOB);
        rig
    }

    pub(crate) fn launch(&mut self) {
        self.vm.launch(self.now).expect("a machine that can be launched");
        self.serve();
    }

    pub(crate) fn negotiate(&mut self, greeting: &str) {
        self.says(greeting);
        self.take_sent();
        self.says(r#"{"return": {}, "id": 0}"#);
    }

    /// Does what a driver does after every call, except for sending bytes.
    pub(crate) fn serve(&mut self) {
        while let Some(effect) = self.vm.poll_effect() {
            self.effects.push(effect.clone());
            if !(self.held)(&effect) {
                self.answer(&effect);
            }
        }
        while let Some(notice) = self.vm.poll_notice() {
            if !matches!(notice, Notice::Waited(_)) {
                self.notices.push(notice);
            }
        }
    }

    /// Completes an effect, with a fault if it is one of [`failing`](Self::failing).
    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that misses an effect must not compile")]
    pub(crate) fn answer(&mut self, effect: &Effect) {
        let result = if (self.failing)(effect) { Err(fault("oblige")) } else { Ok(()) };
        let log = self.log.clone();
        let input = match (effect, result) {
            (Effect::Prepare(wanted), Ok(())) => {
                Input::Prepared(Prepared { signaller: self.signaller, ..prepared(wanted) })
            }
            (Effect::Prepare(_), Err(fault)) => Input::PrepareFailed(fault),
            (Effect::Spawn(_), Ok(())) => Input::Spawned { pid: PID },
            (Effect::Spawn(_), Err(fault)) => Input::SpawnFailed(fault),
            (Effect::Open(channel), Ok(())) => Input::Opened(*channel),
            (Effect::Open(channel), Err(fault)) => Input::OpenFailed(*channel, fault),
            (Effect::Close(channel), _) => Input::Closed(*channel),
            (Effect::Signal(signal), result) => Input::Signalled(*signal, result),
            (Effect::ReadLog { .. }, _) => Input::LogRead(&log),
            (Effect::Detach, _) => Input::Detached,
            (Effect::Remove, result) => Input::Removed(result),
            (Effect::Companion(index, order), result) => match (order, result) {
                (CompanionEffect::Start(_), Ok(())) => {
                    Input::Companion(*index, CompanionInput::Started { pid: COMPANION_PID + *index as u32 })
                }
                (CompanionEffect::Start(_), Err(fault)) => Input::Companion(*index, CompanionInput::StartFailed(fault)),
                (CompanionEffect::Probe, result) => {
                    Input::Companion(*index, CompanionInput::Probed { is_open: result.is_ok() })
                }
                (CompanionEffect::Signal(signal), Ok(())) => {
                    let status = if *signal == Signal::Kill { SIGKILL } else { SIGTERM };
                    Input::Companion(*index, CompanionInput::Exited(status))
                }
                (CompanionEffect::Signal(_), Err(fault)) => {
                    Input::Companion(*index, CompanionInput::NotSignalled(fault))
                }
            },
        };
        self.report(input);
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.report(input);
        self.serve();
    }

    /// Reports an input, and the log of a companion that has ended by it.
    fn report(&mut self, input: Input<'_>) {
        let ended = match &input {
            Input::Companion(index, CompanionInput::Exited(_)) => *index,
            _ => return self.vm.handle(self.now, input),
        };
        self.vm.handle(self.now, input);
        if let Some(log) = self.companion_log {
            self.vm.handle(self.now, Input::Companion(ended, CompanionInput::LogRead(log.to_vec())));
        }
    }

    /// The monitor sends a line.
    pub(crate) fn says(&mut self, line: &str) {
        self.handle(Input::Received(Channel::Monitor, format!("{line}\r\n").as_bytes()));
    }

    /// The monitor answers the command with this id.
    pub(crate) fn replies(&mut self, id: u16) {
        self.says(&format!(r#"{{"return": {{"n": {id}}}, "id": {id}}}"#));
    }

    /// The monitor refuses the command with this id.
    pub(crate) fn refuses(&mut self, id: u16) {
        self.says(&format!(r#"{{"id": {id}, "error": {{"class": "GenericError", "desc": "no"}}}}"#));
    }

    /// The monitor sends an event.
    pub(crate) fn happens(&mut self, name: &str) {
        self.says(&format!(r#"{{"timestamp": {{"seconds": -1, "microseconds": -1}}, "event": "{name}"}}"#));
    }

    /// QEMU shuts down, for this reason.
    pub(crate) fn shuts_down(&mut self, reason: &str) {
        self.says(&format!(r#"{{"event": "SHUTDOWN", "data": {{"guest": false, "reason": "{reason}"}}}}"#));
    }

    pub(crate) fn prints(&mut self, text: impl AsRef<[u8]>) {
        self.handle(Input::Received(Channel::Console(0), text.as_ref()));
    }

    pub(crate) fn exits(&mut self, status: ExitStatus) {
        self.handle(Input::Exited(status));
    }

    pub(crate) fn closes(&mut self, channel: Channel) {
        self.handle(Input::Closed(channel));
    }

    /// All open channels close.
    pub(crate) fn closes_all(&mut self) {
        for channel in self.vm.channels().to_vec() {
            self.closes(channel);
        }
    }

    /// The process ends, and all of its channels close.
    pub(crate) fn dies(&mut self, status: ExitStatus) -> Outcome {
        self.exits(status);
        self.closes_all();
        self.outcome()
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.handle(Input::TimePassed);
    }

    /// Time passes up to a nanosecond before the end of the duration, when nothing must have happened, and then to its
    /// end.
    pub(crate) fn pass_exactly(&mut self, duration: Duration) {
        let (effects, notices, state) = (self.effects.len(), self.notices.len(), self.vm.state());
        self.pass(duration - Duration::from_nanos(1));
        assert_eq!((self.effects.len(), self.notices.len(), self.vm.state()), (effects, notices, state), "early");
        self.pass(Duration::from_nanos(1));
    }

    /// Sends the outgoing bytes of the monitor, and returns them.
    pub(crate) fn take_sent(&mut self) -> String {
        let bytes = self.vm.outgoing(Channel::Monitor).to_vec();
        self.vm.sent(Channel::Monitor, bytes.len());
        String::from_utf8(bytes).expect("text")
    }

    /// Sends the outgoing commands, and returns their ids.
    pub(crate) fn take_ids(&mut self) -> Vec<u16> {
        ids(&self.take_sent())
    }

    pub(crate) fn issue<C: Command>(&mut self, command: C) -> Ticket<C> {
        let ticket = self.vm.execute(self.now, &command, FOREVER).expect("a command that can be issued");
        self.serve();
        ticket
    }

    pub(crate) fn issue_within<C: Command>(&mut self, command: C, time: Duration) -> Ticket<C> {
        let ticket = self.vm.execute(self.now, &command, time.into()).expect("a command that can be issued");
        self.serve();
        ticket
    }

    pub(crate) fn issue_raw(&mut self, object: &str) -> Ticket<qemu_machine_core::Raw> {
        let ticket = self.vm.execute_raw(self.now, object.as_bytes(), FOREVER).expect("a raw command");
        self.serve();
        ticket
    }

    /// Issues `count` commands, and returns their tickets and their ids on the wire.
    pub(crate) fn issue_many(&mut self, count: usize) -> (Vec<Ticket<&'static str>>, Vec<u16>) {
        let tickets = (0..count).map(|_| self.issue("query-status")).collect();
        (tickets, self.take_ids())
    }

    /// Returns the member `n` of the reply, as [`replies`](Self::replies) sets it, or the error.
    pub(crate) fn claim<C: Command<Reply: Into<Value>>>(
        &mut self,
        ticket: &Ticket<C>,
    ) -> Option<Result<u64, CommandError>> {
        let answer = self.vm.claim(ticket)?;
        Some(answer.map(|reply| reply.into()["n"].as_u64().unwrap_or(u64::MAX)))
    }

    /// Returns the whole message that answered a raw command.
    pub(crate) fn claim_raw(&mut self, ticket: &Ticket<qemu_machine_core::Raw>) -> Option<Result<Value, CommandError>> {
        Some(self.vm.claim(ticket)?.map(qemu_machine_core::RawReply::into_value))
    }

    /// Returns the number of notices that this command was answered.
    pub(crate) fn times_answered(&self, id: CommandId) -> usize {
        self.notices.iter().filter(|notice| **notice == Notice::Answered(id)).count()
    }

    pub(crate) fn wait(&mut self, from: &Mark, things: impl IntoIterator<Item = Wait>) -> WaitId {
        let id = self.vm.wait(self.now, from, things, FOREVER).expect("a wait that makes sense");
        self.serve();
        id
    }

    pub(crate) fn shutdown(&mut self, how: Shutdown) {
        self.vm.shutdown(self.now, how).expect("a machine that was launched");
        self.serve();
    }

    pub(crate) fn kill(&mut self) {
        self.vm.kill(self.now).expect("a machine that was launched");
        self.serve();
    }

    /// Returns why the launch failed, and checks that its error has the outcome of this run.
    pub(crate) fn failure(&self) -> LaunchFailure {
        match self.vm.launched() {
            Some(Err(LaunchError::Failed { failure, outcome })) => {
                assert_eq!(Some(&*outcome), self.vm.outcome());
                failure
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns the signals among the effects.
    pub(crate) fn signals(&self) -> Vec<Signal> {
        let signal = |effect: &Effect| if let Effect::Signal(signal) = effect { Some(*signal) } else { None };
        self.effects.iter().filter_map(signal).collect()
    }

    /// Returns the names of the effects, without their data except for the channel or the signal.
    pub(crate) fn order_names(&self) -> Vec<String> {
        let name = |effect: &Effect| match effect {
            Effect::Prepare(_) => "Prepare".to_string(),
            Effect::Spawn(_) => "Spawn".to_string(),
            Effect::ReadLog { .. } => "ReadLog".to_string(),
            other => format!("{other:?}"),
        };
        self.effects.iter().map(name).collect()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.vm.outcome().expect("an end").clone()
    }

    /// Returns the effects since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }
}

/// Returns the ids in some requests, in order.
pub(crate) fn ids(sent: &str) -> Vec<u16> {
    sent.split("\"id\":").skip(1).map(|rest| rest.split('}').next().unwrap().parse().expect("an id")).collect()
}

/// Asserts that the run of the test replays.
impl Drop for Rig {
    fn drop(&mut self) {
        let Some(record) = self.vm.record().filter(|record| record.dropped() == 0 && !std::thread::panicking()) else {
            return;
        };
        if let Err(diverged) = record.replay() {
            panic!("{diverged}");
        }
    }
}

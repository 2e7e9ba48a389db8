//! Properties of machines for any requests, any host and any peer: one outcome, one answer for each command, each
//! effect once, and none after the end.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use qemu_machine_core::{
    Address, Channel, CommandId, Config, Deadline, Descriptor, Dialect, Effect, ExitStatus, FOREVER, Input, Limits,
    Machine, Mark, Moment, Monitor, Notice, OutOfBand, Peer, Prepared, Shutdown, Signal, SignalName, State,
    SubscriptionId, Wait, WaitId,
};

use super::Tape;
use super::host::{answer, fault};

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let mut world = World::new(&mut tape);
    while !tape.is_empty() {
        world.step(&mut tape);
        world.look();
    }
    world.end();
}

const GREETING: &[u8] =
    br#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}, "capabilities": ["oob"]}}"#;

const LINES: [&[u8]; 12] = [
    GREETING,
    br#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}, "capabilities": []}}"#,
    br#"{"return": {}, "id": 0}"#,
    br#"{"return": {}}"#,
    br#"{"event": "STOP", "data": {"a": 1}}"#,
    br#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
    br#"{"error": {"class": "C", "desc": "nameless"}}"#,
    br#"{"error": {"class": "C", "desc": "refused"}, "id": 1}"#,
    b"garbage",
    b"OK 0x1",
    b"FAIL no",
    b"IRQ raise 3",
];

struct World {
    machine: Machine,
    now: Moment,
    /// The effects of this run so far, and those that are outstanding.
    effects: Vec<Effect>,
    open: Vec<Effect>,
    /// The channels that closed, or could not be opened, since they were last opened.
    closed: BTreeSet<Channel>,
    runs: usize,
    ends: usize,
    /// The accepted commands: whether each was disowned, and how often it was answered.
    commands: BTreeMap<CommandId, (bool, usize)>,
    waits: BTreeMap<WaitId, bool>,
    subscriptions: Vec<SubscriptionId>,
    mark: Mark,
    given: usize,
    carried: Vec<Descriptor>,
}

fn config(tape: &mut Tape<'_>) -> Config {
    let (path, given) = (|| Address::unix("/m"), || Peer::Connected(Descriptor::new(())));
    let ours = || Config::new("qemu").autostart().serial("tty");
    match tape.below(9) {
        0 => {
            ours().guest_agent().qtest().add_fd(Descriptor::new(()), 3, "x").console_log("tty", "/l").log_limit(1 << 16)
        }
        1 => ours().monitor(Monitor::Socket),
        2 => ours().monitor(Monitor::At(path())).arg("isa-debug-exit"),
        3 => ours().without_monitor(),
        4 => Config::attach(Peer::Dial(path())),
        5 => Config::attach(Peer::Listen(path())),
        6 => Config::attach(given()).speaking(Dialect::GuestAgent),
        7 => Config::attach(given()).speaking(Dialect::Qtest),
        _ => Config::attach(given()),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.message, limits.events, limits.console, limits.commands) = (190, 600, 20, 20);
    (limits.subscription, limits.subscriptions, limits.waits, limits.console_input) = (450, 3, 6, 30);
    limits
}

/// More bytes than any command here has on the wire, including the synchronization that a guest agent needs after it.
const COMMAND: usize = 200;

impl World {
    fn new(tape: &mut Tape<'_>) -> Self {
        let machine = Machine::new(config(tape).limits(limits()).recorded()).expect("a good configuration");
        Self {
            mark: machine.mark(),
            machine,
            now: Moment::ORIGIN,
            effects: Vec::new(),
            open: Vec::new(),
            closed: BTreeSet::new(),
            runs: 0,
            ends: 0,
            commands: BTreeMap::new(),
            waits: BTreeMap::new(),
            subscriptions: Vec::new(),
            given: 0,
            carried: Vec::new(),
        }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.below(16) {
            0 => self.launch(),
            1 | 2 => self.execute(tape),
            3 => self.disown(tape),
            4 => self.ask_to_end(tape),
            5 => self.wait(tape),
            6 => self.subscribe(tape),
            7 | 8 => {
                let channel =
                    tape.pick(&[Channel::Monitor, Channel::Monitor, Channel::Console(0), Channel::Console(4)]);
                let line = [tape.pick(&LINES), b"\r\n"].concat();
                self.report(Input::Received(channel, &line));
            }
            9 => {
                let channel = tape.pick(&[Channel::Monitor, Channel::Console(0)]);
                self.report(Input::Received(channel, tape.bytes()));
            }
            10..13 if !self.open.is_empty() => {
                let order = self.open.remove(tape.below(self.open.len()));
                self.report(answer(&order, tape.below(8) != 7));
            }
            13 => self.report(input(tape)),
            14 => self.pass(tape),
            _ => self.send(tape),
        }
    }

    fn report(&mut self, input: Input<'_>) {
        if let Input::Closed(channel) | Input::OpenFailed(channel, _) = &input {
            self.closed.insert(*channel);
        }
        self.machine.handle(self.now, input);
    }

    fn launch(&mut self) {
        if self.machine.launch(self.now).is_ok() {
            assert!(self.open.is_empty() || self.effects.last() == Some(&Effect::Remove), "{:?}", self.open);
            self.runs += 1;
            self.effects.clear();
            self.closed.clear();
        }
    }

    fn execute(&mut self, tape: &mut Tape<'_>) {
        let within: Deadline = [FOREVER, Duration::from_secs(2).into(), Duration::ZERO.into()][tape.below(3)];
        let (now, machine) = (self.now, &mut self.machine);
        let id = match tape.below(7) {
            0 => machine.execute(now, &"query-status", within).map(|ticket| ticket.id()),
            1 => machine.execute(now, &OutOfBand("query-yank"), within).map(|ticket| ticket.id()),
            2 => machine.execute_raw(now, br#"{"execute": "quit"}"#, within).map(|ticket| ticket.id()),
            3 => machine.execute(now, &"quit", within).map(|ticket| ticket.id()),
            4 => {
                let descriptor = Descriptor::new(());
                let id = machine.execute_with_fd(now, &"getfd", descriptor, within).map(|ticket| ticket.id());
                self.given += usize::from(id.is_ok());
                id
            }
            5 => machine.execute_line(now, "readb 0x70", within).map(|ticket| ticket.id()),
            _ => machine.execute(now, &"guest-shutdown", within).map(|ticket| ticket.id()),
        };
        if let Ok(id) = id {
            assert!(self.commands.insert(id, (false, 0)).is_none(), "an id was used twice");
        }
    }

    fn disown(&mut self, tape: &mut Tape<'_>) {
        let Some((id, (disowned, _))) = self.commands.iter_mut().nth(tape.below(20)) else { return };
        *disowned = true;
        self.machine.disown(*id);
        assert_eq!(self.machine.take(*id), None);
    }

    fn ask_to_end(&mut self, tape: &mut Tape<'_>) {
        match tape.below(5) {
            0 => drop(self.machine.kill(self.now)),
            1 => drop(self.machine.disconnect(self.now)),
            2 => self.machine.abandon(self.now),
            3 => self.machine.kill_or_disconnect(self.now),
            _ => {
                let seconds = |tape: &mut Tape<'_>| Duration::from_secs(tape.below(40) as u64);
                let how = Shutdown::within(seconds(tape)).power_down(seconds(tape)).power_down_again(seconds(tape));
                drop(self.machine.shutdown(self.now, how));
            }
        }
    }

    fn wait(&mut self, tape: &mut Tape<'_>) {
        let subscription = self.subscriptions.last().map(|id| Wait::queued(*id));
        let things = [Wait::text("tty", "ok"), Wait::event("STOP"), Wait::end(), Wait::any_event()];
        let mut things = things[tape.below(3)..][..1 + tape.below(2)].to_vec();
        things.extend(subscription.filter(|_| tape.flag()));
        let within: Deadline = [FOREVER, Duration::from_secs(3).into()][tape.below(2)];
        if let Ok(id) = self.machine.wait(self.now, &self.mark, things, within) {
            assert_eq!(self.waits.insert(id, false), None, "an id was used twice");
        }
        match tape.below(4) {
            0 => self.mark = self.machine.mark(),
            1 => {
                if let Some(id) = self.waits.keys().next().copied() {
                    self.waits.remove(&id);
                    self.machine.disown_wait(id);
                }
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, tape: &mut Tape<'_>) {
        match tape.below(4) {
            0 => self.subscriptions.extend(self.machine.subscribe(&self.mark, [Wait::any_event()])),
            1 => self.subscriptions.pop().into_iter().for_each(|id| self.machine.unsubscribe(id)),
            2 => drop(self.machine.console_write(self.now, "tty", tape.bytes())),
            _ => self.subscriptions.iter().for_each(|id| drop(self.machine.next_event(*id))),
        }
    }

    /// Reports that time has passed. No deadline may remain in the past: a runtime would spin on it.
    fn pass(&mut self, tape: &mut Tape<'_>) {
        let seconds = Duration::from_secs(tape.below(20) as u64);
        let until = self.machine.deadline().filter(|_| tape.flag()).map(|(until, _)| until);
        self.now = until.unwrap_or(self.now.after(seconds)).max(self.now);
        self.report(Input::TimePassed);
        let deadline = self.machine.deadline();
        assert!(deadline.is_none_or(|(until, _)| until > self.now), "{deadline:?}");
    }

    /// Sends some bytes. Sent bytes are not sent again, unsent ones come next, and a descriptor is sent once.
    fn send(&mut self, tape: &mut Tape<'_>) {
        let channel = tape.pick(&[Channel::Monitor, Channel::Console(0), Channel::Console(4)]);
        let outgoing = self.machine.outgoing(channel).to_vec();
        let count = tape.byte().into();
        if let Some(descriptor) = self.machine.outgoing_descriptor(channel).filter(|_| count > 0).cloned() {
            assert!(!outgoing.is_empty() && !self.carried.contains(&descriptor), "a descriptor is sent twice");
            self.carried.push(descriptor);
        }
        self.machine.sent(channel, count);
        let rest = outgoing.get(count..).unwrap_or_default();
        assert!(self.machine.outgoing(channel).starts_with(rest));
        assert!(self.carried.len() <= self.given);
    }

    fn look(&mut self) {
        while let Some(order) = self.machine.poll_effect() {
            assert!(self.machine.state() != State::Ended || self.effects.last() != Some(&Effect::Remove));
            self.note_opening(&order);
            assert!(!self.effects.contains(&order), "{order:?} twice");
            self.effects.push(order.clone());
            self.open.push(order);
        }
        let prepares = self.effects.iter().filter(|order| matches!(order, Effect::Prepare(_))).count();
        assert_eq!(prepares, self.runs.min(1), "each run begins once");
        let removed = self.effects.iter().position(|order| *order == Effect::Remove);
        assert!(removed.is_none_or(|at| at + 1 == self.effects.len()), "an effect after Remove: {:?}", self.effects);
        while let Some(notice) = self.machine.poll_notice() {
            match notice {
                Notice::Answered(id) => self.commands.get_mut(&id).expect("an accepted command").1 += 1,
                Notice::Ended => self.ends += 1,
                Notice::Waited(id) => self.claim(id),
                _ => {}
            }
        }
        self.check();
    }

    /// Lets a channel be opened, and then closed, once more: it closed, or could not be opened, during the launch.
    fn note_opening(&mut self, order: &Effect) {
        let Effect::Open(channel) = order else { return };
        let closed = self.closed.remove(channel);
        if self.effects.contains(order) {
            assert!(closed, "{channel:?} is opened again while it is open");
            assert!(
                matches!(self.machine.state(), State::Launching(_)),
                "{channel:?} is opened again after the launch"
            );
            self.effects.retain(|earlier| earlier != order && *earlier != Effect::Close(*channel));
        }
    }

    fn claim(&mut self, id: WaitId) {
        let Some(over) = self.waits.get_mut(&id) else { return };
        assert_eq!(self.machine.claim_wait(id).is_some(), !*over, "a wait is over once");
        *over = true;
    }

    fn check(&self) {
        let state = self.machine.state();
        let over = matches!(state, State::Idle | State::Ended);
        assert_eq!(self.ends + usize::from(!over), self.runs, "one end for each run");
        assert_eq!(self.machine.outcome().is_some(), state == State::Ended);
        assert!(self.commands.values().all(|(_, answers)| *answers <= 1), "answered twice");
        let waits = self.machine.deadline().is_some() || !self.open.is_empty() || self.machine.pid().is_some();
        assert!(waits || over || state == State::Running, "the machine waits for nothing: {:?}", self.machine);
        assert_eq!(format!("{:?}", self.machine).lines().count(), 1);
        self.check_memory();
    }

    /// Asserts that retained data stays within the limits.
    fn check_memory(&self) {
        let (machine, limits) = (&self.machine, limits());
        let history = machine.history();
        let events = (history.first()..history.end()).map(|number| history.get(number).expect("it is kept"));
        let sizes: Vec<usize> = events.map(|event| event.name().len() + event.data().map_or(0, str::len)).collect();
        assert!(sizes.len() == 1 || sizes.iter().sum::<usize>() <= limits.events, "{sizes:?}");
        for name in machine.console_names() {
            let console = machine.console(name).expect("it has a name");
            assert!(
                console.since(0).len() <= limits.console && console.end() - console.first() <= limits.console as u64
            );
        }
        // The handshake and the ladder have commands in addition.
        assert!(machine.session().commands() <= limits.commands + 3, "{machine:?}");
        assert!(self.subscriptions.len() <= limits.subscriptions);
        let channels = machine.channels().iter();
        for (channel, outgoing) in channels.map(|channel| (channel, machine.outgoing(*channel).len())) {
            let most = if *channel == Channel::Monitor { limits.commands * COMMAND } else { limits.console_input };
            assert!(outgoing <= most, "{outgoing} bytes for {channel:?}");
        }
    }

    /// Ends the run, by the rules that a runtime keeps.
    fn end(&mut self) {
        self.machine.kill_or_disconnect(self.now);
        self.look();
        for _ in 0..12 {
            while let Some(order) = self.open.pop() {
                self.report(answer(&order, true));
                self.look();
            }
            self.report(Input::Exited(ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false }));
            for channel in self.machine.channels().to_vec() {
                self.report(Input::Closed(channel));
            }
            self.look();
        }
        assert!(matches!(self.machine.state(), State::Idle | State::Ended), "{:?}", self.machine);
        assert!(self.runs == 0 || self.effects.last() == Some(&Effect::Remove), "{:?}", self.effects);
        for (id, (disowned, answers)) in &self.commands {
            assert!(*disowned || *answers == 1, "{id:?} has no answer");
        }
        let still = |(_, over): (&WaitId, &bool)| !*over;
        assert!(!self.waits.iter().any(still), "a wait outlives the machine");
        assert_eq!((self.machine.deadline(), self.machine.session().commands()), (None, 0));
        assert!(self.machine.channels().is_empty());
        let record = self.machine.record().expect("it is recorded");
        assert!(record.dropped() > 0 || record.replay().is_ok(), "{:?}", record.replay());
    }
}

/// Returns any input of a host, whether its effect is outstanding or not.
fn input(tape: &mut Tape<'_>) -> Input<'static> {
    let channel = tape.pick(&[Channel::Monitor, Channel::Monitor, Channel::Console(0)]);
    let signal = tape.pick(&[Signal::Terminate, Signal::Kill]);
    match tape.below(13) {
        0 => Input::Prepared(Prepared::default()),
        1 => Input::PrepareFailed(fault()),
        2 => Input::Spawned { pid: 9 },
        3 => Input::SpawnFailed(fault()),
        4 => Input::Exited(ExitStatus::Code(i32::from(tape.byte()))),
        5 => Input::Exited(ExitStatus::Unknown),
        6 => Input::Opened(channel),
        7 => Input::OpenFailed(channel, fault()),
        8 => Input::PeerBusy(channel),
        9 => Input::Closed(channel),
        10 => Input::Signalled(signal, Err(fault())),
        11 => Input::LogRead(b"log"),
        _ => Input::Removed(Err(fault())),
    }
}

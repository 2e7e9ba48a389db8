//! Property tests of a machine with random requests, inputs and time: no panic, one outcome for each run, one answer
//! for each command, each effect once and none after the end, no descriptor kept or sent with another command, and no
//! wait without a deadline or a pending effect.

mod rig;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use qemu_machine_core::{
    Address, Channel, CommandId, Config, Deadline, Descriptor, Effect, ExitStatus, FOREVER, Input, Limits, Machine,
    Monitor, Notice, OutOfBand, Peer, Prepared, Shutdown, Signal, State, Wait,
};
use rig::{GREETING, GREETING_OOB, Rig, SIGKILL, SIGTERM, config, fault, secs};

#[derive(Clone, Debug)]
enum Step {
    Launch,
    Execute(Option<u64>),
    ExecuteOutOfBand,
    ExecuteRaw,
    /// With a descriptor, perhaps out of band.
    Hand(bool),
    Quit,
    Disown(Index),
    Shutdown(u64),
    Kill,
    Disconnect,
    Abandon,
    /// Whether the socket of the monitor accepts no more bytes.
    Stall(bool),
    Wait(u64),
    Say(usize),
    Reply(u16),
    Completion(usize),
    Input(usize),
    Pass(u64),
    /// Passes the time to the deadline of the machine.
    PassToDeadline,
}

const SAID: [&str; 10] = [
    GREETING,
    GREETING_OOB,
    "{\"return\": {}, \"id\": 0}",
    "{\"event\": \"STOP\"}",
    "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}",
    "{\"error\": {\"class\": \"C\", \"desc\": \"nameless\"}}",
    "{\"error\": {\"class\": \"C\", \"desc\": \"refused\"}, \"id\": 1}",
    "garbage",
    "{\n    \"torn\": \"",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

fn input(which: usize) -> Input<'static> {
    let all = [
        Input::Prepared(Prepared::default()),
        Input::PrepareFailed(fault("prepare")),
        Input::Spawned { pid: 7 },
        Input::SpawnFailed(fault("spawn")),
        Input::Exited(ExitStatus::Code(0)),
        Input::Exited(SIGTERM),
        Input::Exited(SIGKILL),
        Input::Opened(Channel::Monitor),
        Input::Opened(Channel::Console(0)),
        Input::OpenFailed(Channel::Monitor, fault("open")),
        Input::OpenFailed(Channel::Console(0), fault("open")),
        Input::Received(Channel::Monitor, b"{\"ev"),
        Input::Received(Channel::Console(0), b"login: "),
        Input::Received(Channel::Console(5), b"x"),
        Input::Closed(Channel::Monitor),
        Input::Closed(Channel::Console(0)),
        Input::Signalled(Signal::Terminate, Ok(())),
        Input::Signalled(Signal::Kill, Err(fault("signal"))),
        Input::LogRead(b"log"),
        Input::Removed(Ok(())),
        Input::Removed(Err(fault("remove"))),
        Input::TimePassed,
        Input::PeerBusy(Channel::Monitor),
    ];
    all[which % all.len()].clone()
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Launch),
        4 => proptest::option::of(0_u64..30).prop_map(Step::Execute),
        1 => Just(Step::ExecuteOutOfBand),
        1 => Just(Step::ExecuteRaw),
        4 => any::<bool>().prop_map(Step::Hand),
        1 => Just(Step::Quit),
        1 => any::<Index>().prop_map(Step::Disown),
        1 => (0_u64..40).prop_map(Step::Shutdown),
        1 => Just(Step::Kill),
        1 => prop_oneof![2 => Just(Step::Disconnect), 1 => Just(Step::Abandon)],
        2 => any::<bool>().prop_map(Step::Stall),
        2 => (0_u64..30).prop_map(Step::Wait),
        6 => (0..SAID.len()).prop_map(Step::Say),
        3 => (0_u16..12).prop_map(Step::Reply),
        10 => (0_usize..4).prop_map(Step::Completion),
        4 => (0_usize..23).prop_map(Step::Input),
        2 => (0_u64..20).prop_map(Step::Pass),
        1 => Just(Step::PassToDeadline),
    ]
}

/// How the machine gets its monitor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Inherited,
    Dialled,
    Attached,
}

impl Way {
    fn config(self) -> Config {
        match self {
            Self::Inherited => config(),
            Self::Dialled => config().monitor(Monitor::Socket),
            Self::Attached => Config::attach(Peer::Dial(Address::unix("/run/qmp"))),
        }
    }
}

/// The machine, the effects without a completion, and what the test knows of both.
struct World {
    way: Way,
    rig: Rig,
    open: Vec<Effect>,
    /// How many of the effects were seen.
    seen: usize,
    /// Each command that was accepted, and whether it was disowned.
    accepted: BTreeMap<CommandId, bool>,
    /// Each descriptor, with its number.
    descriptors: Vec<Arc<usize>>,
    is_stalled: bool,
    runs: usize,
}

impl World {
    fn new(way: Way) -> Self {
        let mut limits = Limits::default();
        (limits.message, limits.events, limits.console, limits.commands) = (190, 600, 20, 20);
        let mut rig = Rig::new(way.config().limits(limits));
        rig.held = |_| true;
        let (accepted, descriptors) = (BTreeMap::new(), Vec::new());
        Self { way, rig, open: Vec::new(), seen: 0, accepted, descriptors, is_stalled: false, runs: 0 }
    }

    fn apply(&mut self, step: &Step) {
        let now = self.rig.now;
        match step {
            Step::Launch => self.runs += usize::from(self.rig.vm.launch(now).is_ok()),
            Step::Execute(seconds) => {
                let deadline: Deadline = seconds.map_or(FOREVER, |seconds| secs(seconds).into());
                self.accept(|vm| Some(vm.execute(now, &"query-status", deadline).ok()?.id()));
            }
            Step::ExecuteOutOfBand => {
                self.accept(|vm| Some(vm.execute(now, &OutOfBand("query-yank"), FOREVER).ok()?.id()));
            }
            Step::ExecuteRaw => {
                self.accept(|vm| Some(vm.execute_raw(now, b"{\"execute\": \"x\"}", FOREVER).ok()?.id()))
            }
            Step::Hand(out_of_band) => self.hand(*out_of_band),
            Step::Quit => self.accept(|vm| Some(vm.execute(now, &"quit", FOREVER).ok()?.id())),
            Step::Disown(index) if !self.accepted.is_empty() => {
                let id = *self.accepted.keys().nth(index.index(self.accepted.len())).unwrap();
                self.rig.vm.disown(id);
                self.accepted.insert(id, true);
            }
            Step::Disown(_) => {}
            Step::Shutdown(seconds) => {
                let how = Shutdown::within(secs(*seconds)).power_down(secs(seconds / 2));
                drop(self.rig.vm.shutdown(now, how.power_down_again(secs(seconds % 5))));
            }
            Step::Kill => drop(self.rig.vm.kill(now)),
            Step::Disconnect => drop(self.rig.vm.disconnect(now)),
            Step::Abandon => self.rig.vm.kill_or_disconnect(now),
            Step::Stall(stall) => self.is_stalled = *stall,
            Step::Wait(seconds) => {
                let text = (self.way != Way::Attached).then(|| Wait::text("tty", "login: "));
                let things = text.into_iter().chain([Wait::event("STOP"), Wait::end()]);
                drop(self.rig.vm.wait(now, &self.rig.vm.mark(), things, secs(*seconds).into()));
            }
            Step::Say(which) => self.rig.says(SAID[*which]),
            Step::Reply(id) => self.rig.replies(*id),
            Step::Completion(index) if !self.open.is_empty() => {
                let effect = self.open.remove(index % self.open.len());
                self.rig.answer(&effect);
            }
            Step::Completion(_) => {}
            Step::Input(which) => self.rig.handle(input(*which)),
            Step::Pass(seconds) => self.pass(secs(*seconds)),
            Step::PassToDeadline => {
                let until = self.rig.vm.deadline().map(|(until, _)| until.since(now));
                self.pass(until.unwrap_or_default());
            }
        }
        self.run_until_idle();
    }

    fn accept(&mut self, issue: impl FnOnce(&mut Machine) -> Option<CommandId>) {
        if let Some(id) = issue(&mut self.rig.vm) {
            assert_eq!(self.accepted.insert(id, false), None, "an id was used twice");
        }
    }

    /// Executes a command whose name has the number of its descriptor.
    fn hand(&mut self, out_of_band: bool) {
        let number = Arc::new(self.descriptors.len());
        let (now, name, descriptor) = (self.rig.now, format!("fd-{number}"), Descriptor::new(number.clone()));
        self.descriptors.push(number);
        self.accept(|vm| {
            Some(match out_of_band {
                true => vm.execute_with_fd(now, &OutOfBand(name), descriptor, FOREVER).ok()?.id(),
                false => vm.execute_with_fd(now, &name, descriptor, FOREVER).ok()?.id(),
            })
        });
    }

    /// Sends all outgoing bytes. A message with a descriptor begins with its command, and has no other command with a
    /// descriptor: QEMU keeps only the last descriptors that it received (measured with QEMU 7.2.22).
    fn send(&mut self) {
        while !self.rig.vm.outgoing(Channel::Monitor).is_empty() {
            let carried = self.rig.vm.outgoing_descriptor(Channel::Monitor);
            let number = carried.and_then(|carried| carried.get::<Arc<usize>>()).map(|number| **number);
            let sent = self.rig.take_sent();
            let names: Vec<_> = sent.match_indices("\"fd-").collect();
            assert_eq!(names.len(), usize::from(number.is_some()), "{number:?}: {sent}");
            if let Some(number) = number {
                assert!(sent.split('"').nth(3) == Some(&format!("fd-{number}")), "{number}: {sent}");
            }
        }
        assert_eq!(self.rig.vm.outgoing_descriptor(Channel::Monitor), None, "a descriptor without a byte");
    }

    /// Passes time. A deadline that is not in the future would make a runtime spin.
    fn pass(&mut self, duration: core::time::Duration) {
        self.rig.pass(duration);
        let now = self.rig.now;
        assert!(self.rig.vm.deadline().is_none_or(|(until, _)| until > now), "{:?}", self.rig.vm.deadline());
    }

    fn run_until_idle(&mut self) {
        self.rig.serve();
        if !self.is_stalled {
            self.send();
        }
        self.open.extend_from_slice(&self.rig.effects[self.seen..]);
        self.seen = self.rig.effects.len();
        self.check_effects();
        let ends = self.rig.notices.iter().filter(|notice| **notice == Notice::Ended).count();
        let state = self.rig.vm.state();
        let is_over = matches!(state, State::Idle | State::Ended);
        assert_eq!(ends + usize::from(!is_over), self.runs, "one end for each run");
        assert_eq!(self.rig.vm.outcome().is_some(), state == State::Ended);
        assert!(!(self.rig.vm.lifecycle().is_launched() && is_over));
        // A machine that is launching or ending has a deadline or a pending effect.
        let waits = !is_over && state != State::Running && self.rig.vm.lifecycle().deadline().is_none();
        assert!(!waits || !self.open.is_empty(), "no deadline and no pending effect: {:?}", self.rig.vm.lifecycle());
        assert!(self.accepted.keys().all(|id| self.rig.times_answered(*id) <= 1), "answered twice");
    }

    /// Checks that each effect was issued at most once in its run. `Prepare` begins a run.
    fn check_effects(&self) {
        let prepares = self.rig.effects.iter().filter(|effect| matches!(effect, Effect::Prepare(_))).count();
        assert_eq!(prepares, self.runs);
        let is_ours = |effect: &Effect| matches!(effect, Effect::Spawn(_) | Effect::Signal(_));
        assert!(self.way != Way::Attached || !self.rig.effects.iter().any(is_ours), "{:?}", self.rig.effects);
        for run in self.rig.effects.split(|effect| matches!(effect, Effect::Prepare(_))) {
            for (index, effect) in run.iter().enumerate() {
                assert!(!run[..index].contains(effect), "{effect:?} twice");
            }
            let removes = run.iter().position(|effect| *effect == Effect::Remove);
            assert!(removes.is_none_or(|at| at == run.len() - 1), "an effect after the last: {run:?}");
        }
    }

    /// Ends the run as a driver would.
    fn end(&mut self) {
        self.apply(&Step::Stall(false));
        self.apply(&Step::Abandon);
        for _ in 0..50 {
            while !self.open.is_empty() {
                let effect = self.open.remove(0);
                self.rig.answer(&effect);
                self.run_until_idle();
            }
            if self.rig.vm.pid().is_some() {
                self.rig.exits(SIGKILL);
                self.run_until_idle();
            }
            self.rig.closes_all();
            self.run_until_idle();
        }
    }
}

fn ready() -> Vec<Step> {
    vec![Step::Launch, Step::Completion(0), Step::Completion(0), Step::Completion(0), Step::Say(1), Step::Say(2)]
}

proptest! {
    /// Half of the machines are made ready first: few would become ready by chance.
    #[test]
    fn a_machine_keeps_its_promises_whatever_happens(
        way in prop::sample::select(&[Way::Inherited, Way::Dialled, Way::Attached]),
        is_ready in any::<bool>(),
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mut world = World::new(way);
        let beginning = if is_ready { ready() } else { Vec::new() };
        beginning.iter().for_each(|step| world.apply(step));
        prop_assert_eq!(world.rig.vm.state() == State::Running, is_ready);
        for step in &steps {
            world.apply(step);
        }
        world.end();
        prop_assert!(matches!(world.rig.vm.state(), State::Idle | State::Ended), "{:?}", world.rig.vm.state());
        for (id, is_disowned) in &world.accepted {
            prop_assert!(*is_disowned || world.rig.times_answered(*id) == 1, "{:?} has no answer", id);
        }
        prop_assert_eq!(world.rig.vm.deadline(), None);
        for number in &world.descriptors {
            prop_assert_eq!(Arc::strong_count(number), 1, "a descriptor is still held");
        }
        prop_assert!(world.rig.vm.channels().is_empty() && world.rig.vm.session().commands() == 0);
    }
}

//! Tests of companions: every run of one and of two of them, and what their ends mean for the machine.

use std::collections::HashSet;
use std::time::Duration;

use crate::rig::{COMPANION_PID, Rig, SIGKILL, SIGTERM, config, secs};
use qemu_machine_core::companion::{self, Companions, Output, Policy, Stage};
use qemu_machine_core::{
    Cause, Channel, Companion, CompanionEffect, CompanionEnd, CompanionFailure, CompanionInput, Config, Descriptor,
    Effect, ExitStatus, FOREVER, Found, Input, LaunchFailure, Machine, Misuse, Moment, Monitor, Notice, Peer, Shutdown,
    Signal, State, Wait, Why,
};

const OK: ExitStatus = ExitStatus::Code(0);

/// A deadline of the launch after a few probes.
const LAUNCH: Duration = Duration::from_millis(6);

/// When all companions that run are sent SIGTERM, from the moment when QEMU has ended.
const TERMINATED: Duration = Duration::from_secs(8);

/// The bound on the end of all companions, from the moment when QEMU has ended.
const BOUND: Duration = Duration::from_secs(20);

/// A companion in the world.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    is_starting: bool,
    is_alive: bool,
    is_probed: bool,
    terminated: u8,
    killed: u8,
    is_left: bool,
}

/// Companions with a host and a machine around them.
#[derive(Clone, Debug)]
struct World {
    companions: Companions,
    now: Moment,
    processes: Vec<Process>,
    /// Whether QEMU was started.
    is_ready: bool,
    has_failed: bool,
    qemu_ended: Option<Moment>,
    is_awaited: bool,
    is_killed: bool,
    is_abandoned: bool,
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Input(companion::Input),
    Wait,
}

impl World {
    fn new(policies: &[Policy]) -> Self {
        let mut world = Self {
            companions: Companions::new(policies.iter().copied()),
            now: Moment::ORIGIN,
            processes: vec![Process::default(); policies.len()],
            is_ready: false,
            has_failed: false,
            qemu_ended: None,
            is_awaited: false,
            is_killed: false,
            is_abandoned: false,
            is_gone: false,
        };
        world.step(companion::Input::Launch);
        world.step(companion::Input::Start { until: Some(Moment::ORIGIN.after(LAUNCH)) });
        world
    }

    /// Returns everything that can happen next.
    fn actions(&self) -> Vec<Action> {
        let mut inputs = Vec::new();
        for (index, process) in self.processes.iter().enumerate() {
            if process.is_starting {
                inputs.extend([companion::Input::Started(index), companion::Input::StartFailed(index)]);
            }
            if process.is_probed {
                inputs.extend([false, true].map(|is_open| companion::Input::Probed { index, is_open }));
            }
            if process.is_alive {
                inputs.push(companion::Input::Exited(index, OK));
            }
        }
        if self.is_ready && self.qemu_ended.is_none() {
            inputs.extend([false, true].map(|was_ready| companion::Input::QemuEnded { was_ready }));
        }
        if !self.is_awaited && (self.qemu_ended.is_some() || !self.is_ready) {
            inputs.push(companion::Input::Await);
        }
        if !self.is_killed {
            inputs.push(companion::Input::Kill);
        }
        if !self.is_abandoned {
            inputs.push(companion::Input::Abandon);
        }
        let waits = self.companions.deadline().map(|_| Action::Wait);
        inputs.into_iter().map(Action::Input).chain(waits).collect()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Input(input) => self.step(input),
            Action::Wait => {
                let due = self.companions.deadline().expect("there is one");
                self.now = self.now.max(due);
                self.step(companion::Input::TimePassed);
                assert!(self.companions.deadline().is_none_or(|next| next > self.now), "a deadline is past: {self:?}");
            }
        }
    }

    fn step(&mut self, input: companion::Input) {
        match input {
            companion::Input::Started(index) => {
                (self.processes[index].is_starting, self.processes[index].is_alive) = (false, true);
            }
            companion::Input::StartFailed(index) => self.processes[index].is_starting = false,
            companion::Input::Probed { index, .. } => self.processes[index].is_probed = false,
            companion::Input::Exited(index, _) => {
                (self.processes[index].is_alive, self.processes[index].is_probed) = (false, false);
            }
            companion::Input::QemuEnded { .. } => self.qemu_ended = Some(self.now),
            companion::Input::Await => {
                self.is_awaited = true;
                self.qemu_ended.get_or_insert(self.now);
            }
            companion::Input::Kill => self.is_killed = true,
            companion::Input::Abandon => self.is_abandoned = true,
            _ => {}
        }
        let mut outputs = Vec::new();
        self.companions = self.companions.clone().step(self.now, input, &mut |output| outputs.push(output));
        outputs.into_iter().for_each(|output| self.check(output));
        let is_over = self.is_awaited && self.processes.iter().all(|process| !process.exists() || process.is_left);
        assert_eq!(self.is_gone, is_over, "after {input:?}: {self:?}");
    }

    /// Checks that an output makes sense.
    fn check(&mut self, output: Output) {
        assert!(!self.is_gone, "{output:?} after the end: {self:?}");
        let is_ready = |stage: Option<Stage>| matches!(stage, Some(Stage::Ready | Stage::Ended { .. }));
        match output {
            Output::Start(index) => {
                assert!((0..index).all(|before| is_ready(self.companions.stage(before))), "{self:?}");
                assert!(!self.processes[index].exists() && self.now < Moment::ORIGIN.after(LAUNCH));
                self.processes[index].is_starting = true;
            }
            Output::Probe(index) => {
                assert!(self.processes[index].is_alive && !self.processes[index].is_probed);
                self.processes[index].is_probed = true;
            }
            Output::Signal(index, signal) => {
                assert!(self.processes[index].exists() && !self.processes[index].is_left, "{self:?}");
                assert!(self.is_killed || self.is_abandoned || self.qemu_ended.is_some(), "{self:?}");
                let after = &self.processes[index + 1..];
                let process = &self.processes[index];
                let is_late = self.qemu_ended.is_some_and(|ended| ended.after(TERMINATED) <= self.now);
                let has_had_its_turn = |later: &Process| {
                    !later.exists() || later.is_left || later.killed > 0 || is_late && later.terminated > 0
                };
                assert!(after.iter().all(has_had_its_turn), "the order: {self:?}");
                assert_eq!(process.killed, 0, "{self:?}");
                let is_unasked = self.is_killed || self.is_abandoned;
                let terminated = if signal == Signal::Kill { 1 } else { 0 };
                assert!(process.terminated == terminated || is_unasked && signal == Signal::Kill, "{self:?}");
                let process = &mut self.processes[index];
                *(if signal == Signal::Kill { &mut process.killed } else { &mut process.terminated }) += 1;
            }
            Output::Ready => {
                assert!(!self.is_ready && !self.has_failed);
                self.is_ready = true;
            }
            Output::Failed(_) | Output::Late(_) => {
                assert!(!self.is_ready && !self.has_failed, "{self:?}");
                self.has_failed = true;
            }
            Output::Lost(index) => assert!(self.is_ready && !self.processes[index].exists()),
            Output::Missed(_) => assert!(self.is_ready && self.qemu_ended.is_none()),
            Output::Left(index) => {
                assert!(self.processes[index].exists() && (self.processes[index].killed > 0 || self.is_abandoned));
                self.processes[index].is_left = true;
            }
            Output::Gone => self.is_gone = true,
        }
    }

    /// Nothing but time passes from here on: the run is over within its bound.
    fn check_end(mut self) {
        if !self.is_ready || self.qemu_ended.is_some() {
            if !self.is_awaited {
                self.step(companion::Input::Await);
            }
            let until = self.qemu_ended.expect("it has").after(BOUND);
            while !self.is_gone {
                self.act(Action::Wait);
                assert!(self.now <= until, "{self:?}");
            }
        }
    }
}

impl Process {
    fn exists(self) -> bool {
        self.is_starting || self.is_alive
    }
}

/// Visits every state that the companions can reach, in every interleaving, and returns how many there are.
fn explore(policies: &[Policy]) -> usize {
    let mut known = HashSet::new();
    let mut open = vec![World::new(policies)];
    while let Some(world) = open.pop() {
        if !known.insert(format!("{world:?}")) {
            continue;
        }
        world.clone().check_end();
        for action in world.actions().into_iter().filter(|_| !world.is_gone) {
            let mut next = world.clone();
            next.act(action);
            open.push(next);
        }
    }
    known.len()
}

#[test]
fn every_run_of_companions_ends_in_order() {
    let plain = Policy::default();
    let patient = Policy { awaits_socket: false, grace: Duration::from_secs(1) };
    let slow = Policy { awaits_socket: true, grace: Duration::ZERO };
    let endless = Policy { awaits_socket: false, grace: Duration::from_secs(60) };
    for policies in [&[plain][..], &[patient], &[slow], &[endless], &[plain, patient], &[slow, endless], &[plain; 3]] {
        let states = explore(policies);
        assert!(states > 20, "{states}");
    }
}

fn fs() -> Companion {
    Companion::new("fs", "virtiofsd").listener("--fd=").chardev("fs")
}

fn bus() -> Companion {
    Companion::new("bus", "dbus-daemon").path("--address=")
}

fn exited(status: ExitStatus) -> CompanionInput {
    CompanionInput::Exited(status)
}

/// Returns what is done with the companions, and the starts of QEMU and the removal, in short.
fn steps(rig: &Rig) -> Vec<String> {
    let short = |effect: &Effect| match effect {
        Effect::Companion(index, CompanionEffect::Start(_)) => Some(format!("start {index}")),
        Effect::Companion(index, CompanionEffect::Probe) => Some(format!("probe {index}")),
        Effect::Companion(index, CompanionEffect::Signal(signal)) => Some(format!("{signal:?} {index}")),
        Effect::Spawn(_) => Some("spawn".into()),
        Effect::Remove => Some("remove".into()),
        _ => None,
    };
    rig.effects.iter().filter_map(short).collect()
}

fn end(rig: &Rig, index: usize) -> CompanionEnd {
    rig.outcome().companions[index].clone()
}

#[test]
fn the_command_lines_name_the_sockets() {
    let config = config()
        .companion(bus().option("-display", "dbus,addr=unix:path="))
        .companion(fs().args(["-o", "source=/a,b"]))
        .companion(Companion::new("net", "passt").arg("--fd").connected("").netdev_stream("net0").chardev("c"));
    let line = config.command_line().expect("it is valid").to_string();
    let expected = "-display dbus,addr=unix:path=companion-bus.sock -chardev socket,path=companion-fs.sock,id=fs \
                    -netdev stream,id=net0,server=off,addr.type=fd,addr.str=5 -chardev socket,fd=5,id=c";
    assert!(line.ends_with(expected), "{line}");
    let rig = Rig::launched(config);
    let starts = rig.effects.iter().filter_map(|effect| match effect {
        Effect::Companion(_, CompanionEffect::Start(spawn)) => Some(spawn.arguments.clone()),
        _ => None,
    });
    let starts: Vec<_> = starts.map(|words| String::from_utf8(words.join(&b' ')).unwrap()).collect();
    assert_eq!(starts, ["dbus-daemon --address=/tmp/private/bus", "virtiofsd --fd=3 -o source=/a,b", "passt --fd 3"]);
    let executed = rig.vm.command_line().arguments().join(&b' ');
    assert!(String::from_utf8(executed).unwrap().contains("path=/tmp/private/fs,id=fs"));
}

#[test]
fn companions_that_cannot_work_are_refused() {
    let attached = Config::attach(Peer::Connected(Descriptor::new(())));
    for (config, part) in [
        (config().companion(Companion::new("a,b", "p")), "`a,b` cannot name a companion"),
        (config().companion(fs()).companion(fs()), "`fs` cannot name a companion"),
        (config().companion(Companion::new("a", "")), "program of companion `a`"),
        (config().companion(Companion::new("a", "p").chardev("a")), "cannot reach companion `a`"),
        (config().companion(Companion::new("a", "p").listener("").chardev("tty")), "`tty`"),
        (config().companion(Companion::new("a", "p").listener("").chardev("mon")), "`mon`"),
        (config().companion(Companion::new("a", "p").arg("a\0b")), "NUL"),
        (config().companion(fs()).outlive_parent(), "Config::outlive_parent"),
        (attached.companion(fs()), "companions"),
    ] {
        let refused = Machine::new(config).expect_err("it is refused");
        assert!(matches!(&refused, Misuse::Config(what) if what.contains(part)), "{refused}");
    }
}

#[test]
fn qemu_starts_when_all_are_ready() {
    let mut rig = Rig::new(config().companion(fs()).companion(bus()));
    rig.held = |effect| matches!(effect, Effect::Companion(_, CompanionEffect::Start(_) | CompanionEffect::Probe));
    rig.launch();
    assert_eq!(steps(&rig), ["start 0"]);
    rig.handle(Input::Companion(0, CompanionInput::Started { pid: COMPANION_PID }));
    assert_eq!(
        (steps(&rig), rig.vm.companion_pid("fs")),
        (vec!["start 0".into(), "start 1".into()], Ok(Some(COMPANION_PID)))
    );
    rig.handle(Input::Companion(1, CompanionInput::Started { pid: COMPANION_PID + 1 }));
    rig.handle(Input::Companion(1, CompanionInput::Probed { is_open: false }));
    assert_eq!(rig.vm.deadline().map(|(_, why)| why), Some(Why::Companion));
    rig.pass(Duration::from_millis(1));
    assert_eq!(steps(&rig), ["start 0", "start 1", "probe 1", "probe 1"]);
    rig.handle(Input::Companion(1, CompanionInput::Probed { is_open: true }));
    assert_eq!(steps(&rig).last().map(String::as_str), Some("spawn"));
    rig.negotiate(crate::rig::GREETING);
    assert_eq!(rig.vm.state(), State::Running);
    rig.held = |_| false;
    rig.kill();
    rig.dies(SIGKILL);
}

#[test]
fn a_companion_that_fails_fails_the_launch_at_once() {
    type Check = fn(&CompanionFailure) -> bool;
    let failures: [(CompanionInput, Check); 2] = [
        (CompanionInput::StartFailed(crate::rig::fault("execute")), |failure| {
            matches!(failure, CompanionFailure::Host(_))
        }),
        (CompanionInput::Started { pid: 1 }, |failure| *failure == CompanionFailure::Exited(ExitStatus::Code(1))),
    ];
    for (event, is_expected) in failures {
        let mut rig = Rig::new(config().companion(bus()).companion(fs()));
        rig.held = |effect| matches!(effect, Effect::Companion(0, CompanionEffect::Start(_) | CompanionEffect::Probe));
        rig.launch();
        rig.handle(Input::Companion(0, event));
        rig.handle(Input::Companion(0, exited(ExitStatus::Code(1))));
        let LaunchFailure::Companion { name, failure } = rig.failure() else { panic!("{:?}", rig.failure()) };
        assert!(name.as_str() == "bus" && is_expected(&failure), "{failure}");
        assert_eq!((rig.outcome().cause, steps(&rig).last().unwrap().as_str()), (Cause::NotStarted, "remove"));
        assert!(end(&rig, 0).is_early && rig.outcome().companions.len() == 1, "{:?}", rig.outcome());
        let error = rig.vm.launched().unwrap().unwrap_err();
        assert!(error.to_string().contains("companion bus"), "{error}");
    }
}

#[test]
fn a_companion_that_is_never_ready_is_named_at_the_deadline() {
    let mut rig = Rig::new(config().companion(fs()).companion(bus()).launch_within(secs(5)));
    rig.failing = |effect| matches!(effect, Effect::Companion(_, CompanionEffect::Probe));
    rig.launch();
    while rig.now < Moment::new(secs(5)) {
        let (due, _) = rig.vm.deadline().expect("the launch has a deadline");
        rig.pass(due.since(rig.now));
    }
    let failure = LaunchFailure::Companion { name: "bus".into(), failure: CompanionFailure::NotReady };
    assert_eq!(rig.failure(), failure);
    let probes = steps(&rig).iter().filter(|step| *step == "probe 1").count();
    assert!((50..70).contains(&probes), "{probes}");
    let last: Vec<_> = steps(&rig).into_iter().filter(|step| !step.starts_with("probe")).collect();
    assert_eq!(last, ["start 0", "start 1", "Terminate 1", "Terminate 0", "remove"]);
    assert_eq!((end(&rig, 1).exit, end(&rig, 1).is_early), (Some(SIGTERM), false));
}

#[test]
fn the_files_are_removed_when_all_are_gone() {
    let mut rig = Rig::ready(config().companion(bus()).companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Companion(..));
    rig.shutdown(Shutdown::default());
    rig.exits(OK);
    rig.closes_all();
    assert_eq!((rig.vm.state(), rig.vm.outcome()), (State::Ending, None));
    // One ends by itself, the other needs both signals.
    rig.handle(Input::Companion(1, exited(OK)));
    let ended = ["Terminate 0", "Kill 0"];
    for (order, wait) in ended.iter().zip([secs(1), secs(2)]) {
        rig.pass_exactly(wait);
        assert_eq!(steps(&rig).last().map(String::as_str), Some(*order));
    }
    rig.handle(Input::Companion(0, exited(SIGKILL)));
    assert_eq!(steps(&rig).last().map(String::as_str), Some("remove"));
    assert_eq!(rig.outcome().companions.iter().map(|end| end.exit).collect::<Vec<_>>(), [Some(SIGKILL), Some(OK)]);
    assert!(rig.outcome().companions.iter().all(|end| !end.is_early), "{}", rig.outcome());
}

#[test]
fn a_companion_that_survives_sigkill_is_a_fault() {
    let mut rig = Rig::ready(config().companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Companion(..));
    let wait = rig.wait(&rig.vm.mark(), [Wait::companion("fs")]);
    rig.kill();
    rig.exits(SIGKILL);
    rig.closes_all();
    rig.pass_exactly(secs(10));
    assert_eq!(rig.outcome().faults.len(), 1, "{}", rig.outcome());
    assert!(rig.outcome().faults[0].to_string().contains("companion fs"), "{}", rig.outcome());
    let reported = |rig: &Rig| rig.notices.iter().filter(|notice| **notice == Notice::CompanionEnded(0)).count();
    let hit = rig.vm.claim_wait(wait).expect("it is over").expect("it was left");
    assert!(matches!(hit.found, Found::Companion(end) if end.exit.is_none()));
    assert_eq!(reported(&rig), 1);
    assert_eq!(rig.vm.launch(rig.now), Err(Misuse::NotReaped));
    rig.handle(Input::Companion(0, exited(SIGKILL)));
    assert_eq!(reported(&rig), 1);
    rig.held = |_| false;
    rig.launch();
}

#[test]
fn an_early_end_is_reported_and_waited_for() {
    let mut rig = Rig::ready(config().companion(fs()));
    let wait =
        rig.vm.wait(rig.now, &rig.vm.mark(), [Wait::end(), Wait::companion("fs")], FOREVER).expect("it is there");
    rig.handle(Input::Companion(0, exited(ExitStatus::Code(3))));
    assert!(rig.notices.contains(&Notice::CompanionEnded(0)));
    let hit = rig.vm.claim_wait(wait).expect("it is over").expect("it has ended");
    let Found::Companion(found) = hit.found else { panic!("{hit:?}") };
    assert_eq!((hit.index, found.exit, found.is_early), (1, Some(ExitStatus::Code(3)), true));
    assert_eq!(rig.vm.companion_end("fs"), Ok(Some(&*found)));
    let again = rig.vm.wait(rig.now, &rig.vm.mark(), [Wait::companion("fs")], FOREVER).expect("it is there");
    assert!(rig.vm.claim_wait(again).is_some_and(|hit| hit.is_ok()), "it is found later as well");
    let unknown = rig.vm.wait(rig.now, &rig.vm.mark(), [Wait::companion("sf")], FOREVER);
    assert_eq!(unknown, Err(Misuse::UnknownCompanion("sf".into())));
    rig.pass(secs(2));
    assert_eq!(rig.vm.state(), State::Running, "the machine does not need it");
    rig.shutdown(Shutdown::default());
    let outcome = rig.dies(OK);
    assert!(outcome.companions[0].is_early);
    let text = outcome.to_string();
    assert!(text.contains("companion fs: exit status 3, before QEMU") && text.contains(r"no \u{1b} such"), "{text}");
    assert!(text.contains("companion fs command: virtiofsd --fd=3"), "{text}");
}

/// QEMU closes its connections before it ends, so a companion may end first.
#[test]
fn a_companion_that_ends_just_before_qemu_is_not_early() {
    for (status, is_early) in [(OK, false), (ExitStatus::Code(1), true)] {
        let mut rig = Rig::ready(config().companion(fs().required()));
        rig.handle(Input::Companion(0, exited(status)));
        rig.pass(Duration::from_millis(900));
        rig.shuts_down("guest-shutdown");
        let outcome = rig.dies(OK);
        assert_eq!((outcome.cause, outcome.companions[0].is_early), (Cause::PowerOff, is_early));
    }
}

#[test]
fn the_end_of_a_required_companion_shuts_the_machine_down() {
    let mut rig = Rig::ready(config().companion(fs().required()));
    rig.take_sent();
    rig.handle(Input::Companion(0, exited(OK)));
    rig.pass_exactly(secs(1));
    assert_eq!(rig.vm.state(), State::Ending);
    let id = rig.take_ids()[0];
    rig.replies(id);
    rig.shuts_down("host-qmp-quit");
    let outcome = rig.dies(OK);
    assert_eq!(outcome.cause, Cause::CompanionEnded("fs".into()));
    assert_eq!(outcome.cause.to_string(), "shut down after its companion fs had ended");
}

/// QEMU cannot reach it, and would report that instead of the cause.
#[test]
fn a_companion_that_fails_while_qemu_starts_fails_the_launch_at_once() {
    for status in [ExitStatus::Code(1), SIGTERM] {
        let mut rig = Rig::launched(config().companion(fs()));
        rig.handle(Input::Companion(0, exited(status)));
        assert_eq!(rig.signals(), [Signal::Kill]);
        rig.dies(ExitStatus::Code(1));
        assert_eq!(rig.failure(), failed(status));
        assert!(end(&rig, 0).is_early, "{}", rig.outcome());
    }
}

fn failed(status: ExitStatus) -> LaunchFailure {
    LaunchFailure::Companion { name: "fs".into(), failure: CompanionFailure::Exited(status) }
}

/// It has put itself into the background, or has followed QEMU, which is ending.
#[test]
fn a_companion_that_exits_while_qemu_starts_fails_a_launch_that_would_succeed() {
    let launched = |within| {
        let mut rig = Rig::launched(config().companion(fs()).launch_within(within));
        rig.handle(Input::Companion(0, exited(OK)));
        assert!(rig.signals().is_empty() && matches!(rig.vm.state(), State::Launching(_)));
        rig
    };
    let mut rig = launched(secs(30));
    rig.negotiate(crate::rig::GREETING);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), failed(OK));
    assert!(!rig.notices.contains(&Notice::Ready) && end(&rig, 0).is_early);
    assert!(rig.failure().to_string().ends_with("it must stay in the foreground"), "{}", rig.failure());

    // It never becomes ready: within a second, or within the deadline.
    for within in [30, 1] {
        let mut rig = launched(secs(within));
        rig.pass_exactly(secs(1));
        rig.dies(SIGKILL);
        assert_eq!(rig.failure(), failed(OK));
    }

    let mut rig = launched(secs(30));
    rig.dies(ExitStatus::Code(1));
    assert!(matches!(rig.failure(), LaunchFailure::Exited(_)), "{:?}", rig.failure());
    assert!(end(&rig, 0).is_early);
}

/// Without a monitor the machine is ready when QEMU is started.
#[test]
fn a_machine_without_a_monitor_does_not_start_without_its_companion() {
    let mut rig = Rig::new(config().companion(fs()).monitor(Monitor::None));
    rig.held = |effect| matches!(effect, Effect::Spawn(_));
    rig.launch();
    rig.handle(Input::Companion(0, exited(OK)));
    rig.handle(Input::Spawned { pid: crate::rig::PID });
    assert_eq!(rig.signals(), [Signal::Kill]);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), failed(OK));
}

/// Status 0 is that of a companion which follows QEMU: no notice comes before it is known whether it did.
#[test]
fn an_ordinary_end_is_reported_when_it_is_known_whether_it_is_early() {
    for is_followed in [true, false] {
        let mut rig = Rig::ready(config().companion(fs()));
        let wait = rig.wait(&rig.vm.mark(), [Wait::companion("fs")]);
        rig.handle(Input::Companion(0, exited(OK)));
        let later = rig.wait(&rig.vm.mark(), [Wait::companion("fs")]);
        assert!(!rig.notices.contains(&Notice::CompanionEnded(0)));
        assert_eq!((rig.vm.companion_end("fs"), rig.vm.companion_pid("fs")), (Ok(None), Ok(None)));
        if is_followed {
            rig.shuts_down("guest-shutdown");
            rig.exits(OK);
        } else {
            rig.pass(secs(1));
        }
        assert_eq!(rig.notices.iter().filter(|notice| **notice == Notice::CompanionEnded(0)).count(), 1);
        for wait in [wait, later] {
            let hit = rig.vm.claim_wait(wait).expect("it is over").expect("it has ended");
            assert!(matches!(&hit.found, Found::Companion(end) if end.is_early != is_followed), "{hit:?}");
        }
        assert!(rig.vm.companion_end("fs").is_ok_and(|end| end.is_some()));
    }
}

/// QEMU writes its caches to the disks before it ends, after it has disconnected from its companions.
#[test]
fn a_companion_is_not_missed_while_qemu_is_ending() {
    let signs: [fn(&mut Rig); 3] = [
        |rig| rig.shuts_down("guest-shutdown"),
        |rig| rig.closes(Channel::Monitor),
        |rig| {
            rig.take_sent();
            let _ = rig.issue("quit");
            let id = rig.take_ids()[0];
            rig.replies(id);
        },
    ];
    for sign in signs {
        let mut rig = Rig::ready(config().companion(fs().required()));
        sign(&mut rig);
        rig.handle(Input::Companion(0, exited(OK)));
        rig.pass(secs(4));
        assert_eq!((rig.vm.state(), rig.vm.companion_end("fs")), (State::Running, Ok(None)));
        let outcome = rig.dies(OK);
        assert!(!outcome.companions[0].is_early && !matches!(outcome.cause, Cause::CompanionEnded(_)), "{outcome}");
    }
}

/// QEMU pauses at its shutdown (`-no-shutdown`), or has only closed its monitor.
#[test]
fn a_companion_is_missed_when_qemu_runs_on() {
    let mut rig = Rig::ready(config().companion(fs().required()));
    rig.shuts_down("guest-shutdown");
    rig.handle(Input::Companion(0, exited(OK)));
    rig.pass(secs(2));
    assert_eq!(rig.vm.state(), State::Running);
    rig.happens("STOP");
    assert_eq!(rig.vm.state(), State::Ending);
    assert!(rig.vm.companion_end("fs").is_ok_and(|end| end.is_some_and(|end| end.is_early)));

    let mut rig = Rig::ready(config().companion(fs().required()));
    rig.closes(Channel::Monitor);
    rig.handle(Input::Companion(0, exited(OK)));
    rig.pass(secs(1));
    assert_eq!(rig.vm.state(), State::Running);
    rig.pass(secs(4));
    assert_eq!(rig.vm.state(), State::Ending);
}

/// A program that is stopped (SIGSTOP) sees all of its deadlines late.
#[test]
fn late_time_takes_no_step_of_the_end_away() {
    let mut rig = Rig::ready(config().companion(bus()).companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Companion(..) | Effect::Remove);
    rig.shutdown(Shutdown::default());
    rig.exits(OK);
    rig.closes_all();
    for step in ["Terminate 0", "Kill 0"] {
        rig.pass(secs(1000));
        assert_eq!(steps(&rig).last().map(String::as_str), Some(step));
    }
    [0, 1].into_iter().for_each(|index| rig.handle(Input::Companion(index, exited(SIGKILL))));
    assert_eq!((steps(&rig).last().map(String::as_str), rig.vm.outcome()), (Some("remove"), None));
    rig.handle(Input::Removed(Ok(())));
    assert!(rig.outcome().faults.is_empty(), "{}", rig.outcome());
}

#[test]
fn companions_do_not_end_while_qemu_is_being_started() {
    let mut rig = Rig::new(config().companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Spawn(_));
    rig.launch();
    rig.shutdown(Shutdown::default());
    rig.pass(secs(5));
    assert_eq!(steps(&rig), ["start 0", "spawn"]);
    rig.handle(Input::Spawned { pid: crate::rig::PID });
    rig.dies(SIGKILL);
    assert_eq!(steps(&rig), ["start 0", "spawn", "Terminate 0", "remove"]);
}

#[test]
fn a_signal_that_was_not_sent_is_one_fault() {
    let mut rig = Rig::ready(config().companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Companion(..));
    let refuse = |rig: &mut Rig| {
        (0..3).for_each(|_| rig.handle(Input::Companion(0, CompanionInput::NotSignalled(crate::rig::fault("signal")))));
    };
    refuse(&mut rig);
    rig.shutdown(Shutdown::default());
    rig.exits(OK);
    rig.closes_all();
    rig.pass(secs(1));
    refuse(&mut rig);
    rig.handle(Input::Companion(0, exited(OK)));
    assert_eq!(rig.outcome().faults.len(), 1, "{}", rig.outcome());
    rig.held = |_| false;
    rig.launch();
}

#[test]
fn a_kill_is_for_the_companions_as_well_at_any_time() {
    for ready in [false, true] {
        let mut rig = Rig::new(config().companion(fs()).companion(bus()));
        rig.held = |effect| matches!(effect, Effect::Companion(_, CompanionEffect::Probe | CompanionEffect::Signal(_)));
        rig.launch();
        if ready {
            rig.handle(Input::Companion(1, CompanionInput::Probed { is_open: true }));
            rig.negotiate(crate::rig::GREETING);
        }
        rig.kill();
        let killed: Vec<_> = steps(&rig).into_iter().filter(|order| order.starts_with("Kill")).collect();
        assert_eq!(killed, ["Kill 1", "Kill 0"]);
        [0, 1].into_iter().for_each(|index| rig.handle(Input::Companion(index, exited(SIGKILL))));
        if ready {
            rig.exits(SIGKILL);
            rig.closes_all();
        }
        assert_eq!(steps(&rig).last().map(String::as_str), Some("remove"));
        assert_eq!(rig.vm.state(), State::Ended);
        assert_eq!(rig.vm.channels(), &[] as &[Channel]);
    }
}

#[test]
fn a_shutdown_before_qemu_is_started_ends_the_companions() {
    let mut rig = Rig::new(config().companion(fs()).companion(bus()));
    rig.failing = |effect| matches!(effect, Effect::Companion(_, CompanionEffect::Probe));
    rig.launch();
    rig.shutdown(Shutdown::default());
    assert!(matches!(rig.failure(), LaunchFailure::Cancelled(_)), "{:?}", rig.failure());
    let last: Vec<_> = steps(&rig).into_iter().filter(|step| !step.starts_with("probe")).collect();
    assert_eq!(last, ["start 0", "start 1", "Terminate 1", "Terminate 0", "remove"]);
}

#[test]
fn an_abandoned_run_does_not_wait_for_companions() {
    let mut rig = Rig::ready(config().companion(fs()));
    rig.held = |effect| matches!(effect, Effect::Companion(..));
    rig.shutdown(Shutdown::default());
    rig.exits(OK);
    rig.closes_all();
    rig.vm.abandon(rig.now);
    rig.serve();
    assert_eq!((rig.vm.state(), steps(&rig).last().unwrap().as_str()), (State::Ended, "remove"));
    assert!(steps(&rig).contains(&"Kill 0".to_string()));
    // The removal has its time: one call abandons one step.
    assert_eq!(rig.outcome().faults.len(), 1, "{}", rig.outcome());
    rig.handle(Input::Companion(0, exited(SIGKILL)));
}

#[test]
fn a_machine_is_launched_again_with_its_companions() {
    let mut rig = Rig::ready(config().companion(fs()));
    for _ in 0..2 {
        rig.shutdown(Shutdown::default());
        rig.exits(OK);
        rig.closes_all();
        rig.pass(secs(1));
        assert_eq!(end(&rig, 0).exit, Some(SIGTERM));
        assert_eq!(rig.vm.companion_pid("fs"), Ok(None));
        rig.launch();
        rig.negotiate(crate::rig::GREETING);
        assert_eq!((rig.vm.companion_end("fs"), rig.vm.companion_pid("fs")), (Ok(None), Ok(Some(COMPANION_PID))));
    }
}

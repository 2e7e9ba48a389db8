//! Tests of machines that are resumed: their process is found, belongs to the machine once it is ready, and is left alone
//! by a launch that fails.

use crate::rig::{GREETING, PID, Rig, SIGKILL, fault, secs};
use qemu_machine_core::{
    Cause, Channel, Config, Effect, ExitStatus, Identity, Input, LaunchFailure, Misuse, Notice, Phase, Prepared, Rung,
    RunningProcess, Shutdown, Signal, State,
};

fn identity() -> Identity {
    let mut identity = Identity::new("b".into(), (PID, 9), "/private/monitor.sock".into(), (1, 2));
    identity.name = "left".into();
    identity.console_logs = vec![("tty".into(), "/logs/tty".into())];
    identity
}

fn config() -> Config {
    Config::resume(identity()).launch_within(secs(30))
}

/// Reports that everything is prepared, and the process that was found.
fn found(rig: &mut Rig) {
    let arguments = vec![b"qemu".to_vec(), b"-device".to_vec(), b"isa-debug-exit".to_vec()];
    let process = Some(Box::new(RunningProcess { pid: PID, arguments }));
    rig.handle(Input::Prepared(Prepared { process, ..Prepared::default() }));
}

/// A machine whose process was found, and whose monitor has not greeted.
fn launching() -> Rig {
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    found(&mut rig);
    rig
}

fn resumed() -> Rig {
    let mut rig = launching();
    rig.negotiate(GREETING);
    assert_eq!((rig.vm.state(), rig.vm.pid()), (State::Running, Some(PID)));
    rig
}

fn place(rig: &Rig, wanted: &Effect) -> Option<usize> {
    rig.effects.iter().position(|effect| effect == wanted)
}

fn is_signalled(rig: &Rig) -> bool {
    rig.effects.iter().any(|effect| matches!(effect, Effect::Signal(_)))
}

#[test]
fn g35_a_resumed_machine_is_not_started_and_has_its_process() {
    let rig = resumed();
    assert!(!rig.effects.iter().any(|effect| matches!(effect, Effect::Spawn(_))), "{:?}", rig.effects);
    assert_eq!(rig.notices, [Notice::Ready, Notice::Gap]);
    assert_eq!(rig.vm.command_line().arguments().len(), 3);
    assert_eq!((rig.vm.name(), rig.vm.is_attached()), ("left", true));
    assert_eq!(rig.vm.console_logs().collect::<Vec<_>>(), [("tty", &b"/logs/tty"[..])]);
}

#[test]
fn g35_the_whole_ladder_is_for_a_resumed_machine() {
    let mut rig = resumed();
    rig.vm.shutdown(rig.now, Shutdown::within(secs(9))).expect("it runs");
    rig.serve();
    rig.pass(secs(6));
    assert_eq!(place(&rig, &Effect::Signal(Signal::Terminate)), Some(rig.effects.len() - 1));
    rig.pass(secs(3));
    assert_eq!(place(&rig, &Effect::Signal(Signal::Kill)), Some(rig.effects.len() - 1));
    rig.exits(SIGKILL);
    rig.closes(Channel::Monitor);
    let outcome = rig.outcome();
    assert_eq!(outcome.rungs, [Rung::Quit, Rung::Terminate, Rung::Kill]);
    assert_eq!((&outcome.cause, outcome.exit), (&Cause::Asked(Rung::Kill), Some(SIGKILL)));
    assert!(place(&rig, &Effect::Remove).is_some() && place(&rig, &Effect::Detach).is_none(), "{:?}", rig.effects);
}

#[test]
fn g35_a_resumed_machine_is_killed() {
    let mut rig = resumed();
    rig.vm.kill(rig.now).expect("it is ours");
    rig.serve();
    assert!(is_signalled(&rig));
    let mut dropped = resumed();
    dropped.vm.kill_or_disconnect(dropped.now);
    dropped.serve();
    assert!(is_signalled(&dropped));
}

#[test]
fn g35_a_resumed_machine_is_left_again() {
    for leave in [qemu_machine_core::Machine::detach, qemu_machine_core::Machine::disconnect] {
        let mut rig = resumed();
        leave(&mut rig.vm, rig.now).expect("it runs");
        rig.serve();
        assert!(place(&rig, &Effect::Detach) < place(&rig, &Effect::Close(Channel::Monitor)), "{:?}", rig.effects);
        assert!(place(&rig, &Effect::Detach).is_some() && !is_signalled(&rig));
        assert_eq!((&rig.outcome().cause, rig.outcome().pid, rig.vm.pid()), (&Cause::Disconnected, Some(PID), None));
    }
}

/// The end of a connection does not end a machine: its process does.
#[test]
fn g35_a_resumed_machine_ends_with_its_process_and_not_with_its_monitor() {
    let mut rig = resumed();
    rig.closes(Channel::Monitor);
    rig.pass(secs(60));
    assert_eq!(rig.vm.state(), State::Running);
    rig.log = b"terminating on signal 15 from pid 1 (init)\n".to_vec();
    rig.exits(ExitStatus::Code(0));
    let outcome = rig.outcome();
    assert_eq!(outcome.exit, Some(ExitStatus::Code(0)));
    assert!(place(&rig, &Effect::Remove).is_some() && place(&rig, &Effect::Detach).is_none(), "{:?}", rig.effects);
}

/// Whatever goes wrong before the machine is ready, it runs on, and its files stay.
#[test]
fn g35_a_launch_that_fails_leaves_the_machine_running() {
    type Step = fn(&mut Rig);
    type Check = fn(&LaunchFailure) -> bool;
    let failures: [(Step, Check); 6] = [
        (|rig| rig.pass(secs(30)), |failure| *failure == LaunchFailure::TimedOut(Phase::Greeting)),
        (|rig| rig.says("HTTP/1.1 400 Bad Request"), |failure| matches!(failure, LaunchFailure::Broken(_))),
        (
            |rig| {
                rig.closes(Channel::Monitor);
                rig.pass(secs(5));
            },
            |failure| *failure == LaunchFailure::Hung(Phase::Greeting),
        ),
        (
            |rig| {
                rig.vm.kill(rig.now).expect("a kill cancels the launch");
                rig.serve();
            },
            |failure| *failure == LaunchFailure::Cancelled(Phase::Greeting),
        ),
        (
            |rig| {
                rig.vm.shutdown(rig.now, Shutdown::default()).expect("a shutdown cancels the launch");
                rig.serve();
            },
            |failure| *failure == LaunchFailure::Cancelled(Phase::Greeting),
        ),
        (
            |rig| {
                rig.vm.kill_or_disconnect(rig.now);
                rig.serve();
            },
            |failure| *failure == LaunchFailure::Cancelled(Phase::Greeting),
        ),
    ];
    for (fails, is_expected) in failures {
        let mut rig = launching();
        fails(&mut rig);
        let failure = rig.vm.launch_failure().expect("the launch fails");
        assert!(is_expected(failure), "{failure}");
        assert_eq!(rig.vm.state(), State::Ended, "{failure}");
        assert!(!is_signalled(&rig), "{:?}", rig.effects);
        let detached = place(&rig, &Effect::Detach);
        assert!(detached.is_some() && detached < place(&rig, &Effect::Remove), "{:?}", rig.effects);
    }
}

#[test]
fn g35_a_monitor_that_cannot_be_opened_leaves_the_machine_running() {
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.failing = |effect| matches!(effect, Effect::Open(_));
    rig.launch();
    found(&mut rig);
    assert!(matches!(rig.vm.launch_failure(), Some(LaunchFailure::Host(_))), "{:?}", rig.vm.launch_failure());
    assert!(!is_signalled(&rig) && place(&rig, &Effect::Detach).is_some(), "{:?}", rig.effects);
}

/// The process ended while no program had the machine. Its monitor cannot be opened, but that is not the reason.
#[test]
fn g35_a_machine_that_died_in_between_reports_its_last_words_and_is_removed() {
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.failing = |effect| matches!(effect, Effect::Open(_));
    rig.log = b"qemu: out of memory\n".to_vec();
    rig.launch();
    let process = Some(Box::new(RunningProcess { pid: PID, arguments: Vec::new() }));
    rig.vm.handle(rig.now, Input::Prepared(Prepared { process, ..Prepared::default() }));
    rig.handle(Input::Exited(ExitStatus::Unknown));
    assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::Exited(Phase::Connecting)));
    let outcome = rig.outcome();
    assert_eq!(outcome.exit, Some(ExitStatus::Unknown));
    assert!(outcome.log.contains("out of memory"), "{outcome}");
    assert!(place(&rig, &Effect::Detach).is_none() && place(&rig, &Effect::Remove).is_some(), "{:?}", rig.effects);
}

/// A host that finds no processes may resume machines all the same, without their signals.
#[test]
fn g35_a_resumed_machine_without_a_process_is_not_killed() {
    let mut rig = Rig::ready(config());
    assert_eq!(rig.vm.kill(rig.now), Err(Misuse::NotOurs));
    assert_eq!(rig.vm.detach(rig.now), Err(Misuse::NotRunning));
    rig.vm.disconnect(rig.now).expect("it runs");
    rig.serve();
    assert!(!is_signalled(&rig) && place(&rig, &Effect::Detach).is_some());
    let mut failed = Rig::new(config());
    failed.held = |effect| matches!(effect, Effect::Prepare(_));
    failed.launch();
    failed.handle(Input::PrepareFailed(fault("resume process 7")));
    assert_eq!(failed.vm.launch_failure(), Some(&LaunchFailure::Host(fault("resume process 7"))));
}

#[test]
fn g35_an_identity_of_a_later_version_is_refused() {
    let mut later = identity();
    later.version = Identity::VERSION + 1;
    let misuse = qemu_machine_core::Machine::new(Config::resume(later)).expect_err("it is refused");
    assert!(matches!(&misuse, Misuse::Config(why) if why.as_str().contains("version 3")), "{misuse}");
}

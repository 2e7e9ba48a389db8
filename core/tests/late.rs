//! Tests of inputs that come twice, late or unexpectedly, which change nothing, and of inputs that never come.

use crate::rig::{GREETING, Rig, SIGKILL, SIGTERM, at, config, fault, secs};
use qemu_machine_core::lifecycle::{self, Lifecycle, LinkEvent, ProcessEvent, Retry, Wiring};
use qemu_machine_core::session;
use qemu_machine_core::session::Session;
use qemu_machine_core::{
    Cause, Channel, Effect, FOREVER, Input, LaunchFailure, Limits, Mark, Moment, Notice, Phase, Rung, Shutdown, Signal,
    State, Wait, WaitError, Why,
};

const QUIT: &str = r#"{"execute":"quit","id":2}"#;

#[test]
fn a_connection_is_opened_once() {
    let greeted = format!("{GREETING}\r\n{{\"return\": {{}}, \"id\": 0}}\r\n");
    let step = |session: Session, received| session.step(Moment::ORIGIN, received, &mut |_| ());
    let ready = step(
        step(Session::new(&Limits::default()), session::Input::Opened),
        session::Input::Received(greeted.as_bytes()),
    );
    assert!(ready.is_ready());
    let again = ready.clone().step(Moment::ORIGIN, session::Input::Opened, &mut |output| panic!("{output:?}"));
    assert_eq!(again, ready);
}

#[test]
fn a_failed_signal_that_was_not_issued_shortens_no_rung() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)));
    rig.handle(Input::Signalled(Signal::Terminate, Err(fault("signal"))));
    assert_eq!((rig.signals(), rig.vm.rungs()), (vec![], &[Rung::Quit][..]));
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Rung(Rung::Quit))));
}

/// The same for a lifecycle that is driven alone, without a machine that filters such inputs.
#[test]
fn a_lifecycle_leaves_a_rung_only_for_a_refusal_of_that_rung() {
    let step = |run: Lifecycle, input| run.step(Moment::ORIGIN, input, &mut |_| ());
    let launch = lifecycle::Input::Launch { until: None, wiring: Wiring::Inherited, retry: Retry::Never, channels: 1 };
    let ready = [
        launch,
        lifecycle::Input::Process(ProcessEvent::Prepared),
        lifecycle::Input::Process(ProcessEvent::Spawned { pid: 1 }),
        lifecycle::Input::Link(LinkEvent::Opened),
        lifecycle::Input::Link(LinkEvent::Greeted),
        lifecycle::Input::Link(LinkEvent::Negotiated),
    ];
    let run = ready.into_iter().fold(Lifecycle::default(), step);
    let quitting = step(run, lifecycle::Input::Shutdown(Shutdown::within(secs(30))));
    assert_eq!(quitting.deadline(), Some((at(secs(20)), Why::Rung(Rung::Quit))));
    assert_eq!(step(quitting.clone(), lifecycle::Input::SignalRefused(Signal::Terminate)), quitting);
    let terminating = step(quitting, lifecycle::Input::RungRefused);
    assert_eq!(terminating.deadline(), Some((at(secs(10)), Why::Rung(Rung::Terminate))));
    let killed = step(terminating, lifecycle::Input::SignalRefused(Signal::Terminate));
    assert_eq!(killed.deadline().map(|(_, why)| why), Some(Why::Reap));
}

fn pressing() -> Rig {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(60)).power_down_again(secs(10)));
    assert_eq!(rig.take_sent(), r#"{"execute":"system_powerdown","id":1}"#);
    assert_eq!(rig.vm.deadline(), Some((at(secs(10)), Why::PressAgain)));
    rig
}

/// If the driver calls so late that the next rung is due, the second press is skipped.
#[test]
fn the_power_button_is_not_pressed_again_on_the_next_rung() {
    let mut rig = pressing();
    rig.replies(1);
    rig.pass(secs(61));
    assert_eq!(rig.take_sent(), QUIT);
    assert_eq!(rig.vm.deadline(), Some((at(secs(81)), Why::Rung(Rung::Quit))));
}

#[test]
fn a_power_button_that_was_refused_is_not_pressed_again() {
    let mut rig = pressing();
    rig.pass(secs(3));
    rig.refuses(1);
    assert_eq!(rig.take_sent(), QUIT);
    assert_eq!(rig.vm.deadline(), Some((at(secs(23)), Why::Rung(Rung::Quit))));
}

/// Another process holds the other end of the monitor open, so it never closes.
#[test]
fn the_drain_of_a_failed_launch_is_bounded() {
    let mut rig = Rig::launched(config());
    rig.pass(secs(1));
    rig.exits(SIGTERM);
    assert_eq!((rig.vm.state(), rig.vm.launch_failure()), (State::Launching(Phase::Greeting), None));
    assert_eq!(rig.vm.deadline(), Some((at(secs(3)), Why::Drain)));
    rig.pass_exactly(secs(2));
    assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::Exited(Phase::Greeting)));
    rig.closes_all();
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Greeting));
}

/// A driver that goes away need not wait for a process that the kernel does not end.
#[test]
fn a_process_that_survives_its_kill_can_be_abandoned() {
    let mut rig = Rig::ready(config());
    rig.vm.abandon(rig.now);
    assert_eq!(rig.vm.state(), State::Running, "it was not killed");
    rig.kill();
    rig.take_effects();
    rig.vm.abandon(rig.now);
    rig.serve();
    assert_eq!(rig.take_effects().first(), Some(&Effect::Close(Channel::Monitor)));
    assert_eq!((rig.vm.state(), rig.outcome().cause), (State::Ended, Cause::Unkillable));
    rig.exits(SIGKILL);
    assert_eq!(rig.outcome().cause, Cause::Unkillable, "the outcome does not change");
}

/// Neither need it wait for the last output, the log, or a file system.
#[test]
fn the_steps_after_the_end_of_the_process_can_be_abandoned() {
    let mut rig = Rig::ready(config());
    rig.held = |effect| matches!(effect, Effect::ReadLog { .. } | Effect::Remove);
    rig.exits(SIGKILL);
    for _ in 0..3 {
        assert_eq!(rig.vm.state(), State::Ending);
        rig.vm.abandon(rig.now);
        rig.serve();
    }
    let outcome = rig.outcome();
    let faults: Vec<_> = outcome.faults.iter().map(|fault| fault.operation.as_str()).collect();
    assert_eq!(faults, ["read the log", "remove the files of the machine"]);
}

/// No input comes after that, so the waits that are over must be announced at once.
#[test]
fn a_run_that_ends_by_being_abandoned_announces_its_waits() {
    let mut rig = Rig::ready(config());
    rig.held = |effect| *effect == Effect::Remove;
    rig.exits(SIGKILL);
    rig.closes_all();
    let id = rig.vm.wait_for_end(rig.now, FOREVER).expect("it is launched");
    while rig.vm.poll_notice().is_some() {}
    assert_eq!(rig.vm.state(), State::Ending);
    rig.vm.abandon(rig.now);
    let notices: Vec<_> = core::iter::from_fn(|| rig.vm.poll_notice()).collect();
    assert_eq!(notices, [Notice::Ended, Notice::Waited(id)]);
}

/// The wait found the event in the queue of its subscription, which the next run empties.
#[test]
fn an_event_that_was_not_taken_is_dropped_with_its_run() {
    let mut rig = Rig::ready(config());
    let id = rig.vm.subscribe(&Mark::default(), [Wait::any_event()]).expect("a subscription");
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).expect("a wait that makes sense");
    rig.happens("STOP");
    let outcome = rig.dies(SIGKILL);
    rig.launch();
    assert_eq!(rig.vm.claim_event(wait), Some(Err(WaitError::Ended(Box::new(outcome)))));
}

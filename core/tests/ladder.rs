//! Tests of the shutdown ladder: the exact time of each rung, and a shutdown in every phase of a launch.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use crate::rig::{GREETING, Rig, SIGKILL, SIGTERM, at, config, secs};
use qemu_machine_core::{
    Cause, Channel, Effect, ExitStatus, LaunchError, LaunchFailure, Phase, Rung, Shutdown, Signal, State, Why,
};

const QUIT: &str = r#"{"execute":"quit","id":1}"#;

#[test]
fn g13_each_rung_has_its_share_of_the_time() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)));
    assert_eq!((rig.take_sent().as_str(), rig.signals()), (QUIT, vec![]));
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Rung(Rung::Quit))));
    rig.pass_exactly(secs(20));
    assert_eq!(rig.signals(), [Signal::Terminate]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(30)), Why::Rung(Rung::Terminate))));
    rig.pass_exactly(secs(10));
    assert_eq!(rig.signals(), [Signal::Terminate, Signal::Kill]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(40)), Why::Reap)));
    assert!(!rig.vm.lifecycle().is_killed(), "the caller did not ask for it");
    assert_eq!(rig.dies(SIGKILL).cause, Cause::Asked(Rung::Kill));
}

#[test]
fn g13_quit_then_kill_leaves_sigterm_out() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::quit_then_kill(secs(5)));
    assert_eq!((rig.take_sent().as_str(), rig.signals()), (QUIT, vec![]));
    assert_eq!(rig.vm.deadline(), Some((at(secs(5)), Why::Rung(Rung::Quit))));
    rig.pass_exactly(secs(5));
    assert_eq!(rig.signals(), [Signal::Kill]);
    let outcome = rig.dies(SIGKILL);
    assert_eq!((outcome.cause, outcome.rungs), (Cause::Asked(Rung::Kill), vec![Rung::Quit, Rung::Kill]));
}

#[test]
fn a_quit_that_is_refused_is_followed_by_sigterm_at_once() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)));
    rig.pass(secs(3));
    rig.refuses(1);
    assert_eq!(rig.signals(), [Signal::Terminate]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(13)), Why::Rung(Rung::Terminate))));
    rig.shuts_down("host-signal");
    assert_eq!(rig.dies(ExitStatus::Code(0)).cause, Cause::Asked(Rung::Terminate));
}

/// The refusal belongs to an earlier rung; SIGTERM has its own time.
#[test]
fn a_late_refusal_of_quit_does_not_shorten_sigterm() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)));
    rig.pass(secs(20));
    assert_eq!(rig.signals(), [Signal::Terminate]);
    rig.refuses(1);
    assert_eq!(rig.signals(), [Signal::Terminate]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(30)), Why::Rung(Rung::Terminate))));
}

#[test]
fn a_late_refusal_of_the_power_button_does_not_shorten_quit() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(5)));
    rig.pass(secs(5));
    rig.refuses(1);
    assert_eq!(rig.signals(), []);
    assert_eq!(rig.vm.deadline(), Some((at(secs(25)), Why::Rung(Rung::Quit))));
}

#[test]
fn the_power_button_comes_first_if_it_is_configured() {
    let how = Shutdown::within(secs(30)).power_down(secs(60));
    assert_eq!(how.total(), secs(90));
    let mut rig = Rig::ready(config());
    rig.shutdown(how);
    assert_eq!(rig.take_sent(), r#"{"execute":"system_powerdown","id":1}"#);
    rig.happens("POWERDOWN");
    rig.replies(1);
    rig.pass_exactly_sending(secs(60));
    assert_eq!(rig.take_sent(), r#"{"execute":"quit","id":2}"#);
    assert_eq!(rig.vm.deadline(), Some((at(secs(80)), Why::Rung(Rung::Quit))));
    let mut refused = Rig::ready(config());
    refused.shutdown(how);
    refused.refuses(1);
    assert!(refused.take_sent().ends_with(r#"{"execute":"quit","id":2}"#));
    let mut obeyed = Rig::ready(config());
    obeyed.shutdown(how);
    obeyed.shuts_down("guest-shutdown");
    assert_eq!(obeyed.dies(ExitStatus::Code(0)).cause, Cause::Asked(Rung::PowerDown));
}

impl Rig {
    /// Time passes to the end of the duration, and nothing is sent until a nanosecond before it.
    fn pass_exactly_sending(&mut self, duration: core::time::Duration) {
        self.pass(duration - core::time::Duration::from_nanos(1));
        assert_eq!(self.take_sent(), "");
        self.pass(core::time::Duration::from_nanos(1));
    }
}

#[test]
fn a_shutdown_without_a_monitor_begins_with_sigterm() {
    let mut rig = Rig::ready(config());
    rig.closes(Channel::Monitor);
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(60)));
    assert_eq!((rig.take_sent().as_str(), rig.signals()), ("", vec![Signal::Terminate]));
}

#[test]
fn a_quit_that_was_accepted_before_is_not_repeated_but_waited_for() {
    let mut rig = Rig::ready(config());
    rig.issue("quit");
    rig.take_sent();
    rig.replies(1);
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(60)));
    assert_eq!((rig.take_sent().as_str(), rig.signals()), ("", vec![]));
    rig.pass_exactly(secs(20));
    assert_eq!(rig.signals(), [Signal::Terminate]);
    let mut gone = Rig::ready(config());
    gone.issue("quit");
    gone.replies(1);
    gone.closes(Channel::Monitor);
    gone.shutdown(Shutdown::within(secs(30)));
    assert_eq!(gone.signals(), [], "the quit was accepted");
    assert_eq!(gone.dies(ExitStatus::Code(0)).cause, Cause::Asked(Rung::Quit));
}

#[test]
fn a_second_shutdown_changes_nothing_and_a_kill_overtakes_it() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)));
    rig.pass(secs(1));
    rig.shutdown(Shutdown::within(secs(3)));
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Rung(Rung::Quit))));
    assert_eq!(rig.take_sent(), QUIT);
    rig.kill();
    rig.kill();
    rig.shutdown(Shutdown::default());
    assert_eq!(rig.signals(), [Signal::Kill]);
    assert!(rig.vm.lifecycle().is_killed());
    assert_eq!(rig.dies(SIGKILL).cause, Cause::Asked(Rung::Kill));
}

/// Both signals came from the ladder, whichever arrived first.
#[test]
fn a_process_that_ends_of_sigterm_while_sigkill_is_sent_was_ended_by_the_caller() {
    for (event, exit) in [(None, SIGTERM), (Some("host-signal"), ExitStatus::Code(0))] {
        let mut rig = Rig::ready(config());
        rig.shutdown(Shutdown::within(secs(30)));
        rig.pass(secs(20));
        rig.pass(secs(10));
        assert_eq!(rig.signals(), [Signal::Terminate, Signal::Kill]);
        event.into_iter().for_each(|reason| rig.shuts_down(reason));
        assert_eq!(rig.dies(exit).cause, Cause::Asked(Rung::Terminate));
    }
}

/// The same for the power button, which the guest obeyed late.
#[test]
fn a_guest_that_powers_off_while_quit_is_sent_obeyed_the_power_button() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(60)));
    rig.pass(secs(60));
    rig.shuts_down("guest-shutdown");
    assert_eq!(rig.dies(ExitStatus::Code(0)).cause, Cause::Asked(Rung::PowerDown));
}

#[test]
fn a_signal_that_cannot_be_sent_is_in_the_outcome() {
    let mut rig = Rig::ready(config());
    rig.failing = |effect| matches!(effect, Effect::Signal(_) | Effect::Remove);
    rig.kill();
    let outcome = rig.dies(SIGKILL);
    assert_eq!(outcome.faults, [crate::rig::fault("oblige"), crate::rig::fault("oblige")]);
}

/// For a shutdown and a kill in each phase: the signals, and the phase in the failure.
#[test]
fn a_launch_can_be_cancelled_in_every_phase() {
    type Held = fn(&Effect) -> bool;
    let preparing: Held = |effect| matches!(effect, Effect::Prepare(_));
    let spawning: Held = |effect| matches!(effect, Effect::Spawn(_));
    let opening: Held = |effect| matches!(effect, Effect::Open(_));
    let nothing: Held = |_| false;
    let cases = [
        (preparing, "", Phase::Starting, false),
        (spawning, "", Phase::Starting, true),
        (opening, "", Phase::Connecting, true),
        (nothing, "", Phase::Greeting, true),
        (nothing, GREETING, Phase::Negotiating, true),
    ];
    for (held, said, phase, is_signalled) in cases {
        for kill in [false, true] {
            let mut rig = Rig::new(config());
            rig.held = held;
            rig.launch();
            rig.says(said);
            if kill {
                rig.kill()
            } else {
                rig.shutdown(Shutdown::within(secs(30)).power_down(secs(9)))
            }
            rig.held = |_| false;
            let waiting: Vec<Effect> = rig.effects.iter().filter(|effect| held(effect)).cloned().collect();
            for effect in waiting {
                rig.answer(&effect);
                rig.serve();
            }
            // A process that executes no program yet has no handler for SIGTERM.
            let is_killed = kill || said.is_empty() && phase == Phase::Starting;
            let signal = if is_killed { Signal::Kill } else { Signal::Terminate };
            assert_eq!(rig.signals(), if is_signalled { vec![signal] } else { vec![] }, "{phase:?}");
            if is_signalled {
                assert_eq!((rig.vm.state(), rig.vm.lifecycle().is_killed()), (State::Ending, kill));
                rig.dies(if is_killed { SIGKILL } else { SIGTERM });
            }
            let rung = if is_killed { Rung::Kill } else { Rung::Terminate };
            let cause = if is_signalled { Cause::Asked(rung) } else { Cause::NotStarted };
            assert_eq!((rig.outcome().cause, rig.vm.state()), (cause, State::Ended));
            match rig.vm.launched() {
                Some(Err(LaunchError::Failed { failure, .. })) => assert_eq!(failure, LaunchFailure::Cancelled(phase)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_process_that_hung_up_during_its_launch_can_be_shut_down() {
    let mut rig = Rig::launched(config());
    rig.closes(Channel::Monitor);
    rig.pass(secs(1));
    rig.shutdown(Shutdown::within(secs(3)));
    assert_eq!(rig.signals(), [Signal::Terminate]);
    rig.pass_exactly(secs(1));
    assert_eq!(rig.signals(), [Signal::Terminate, Signal::Kill]);
}

/// A signal that was not sent has no effect to wait for.
#[test]
fn a_signal_that_cannot_be_sent_is_followed_by_the_next_rung_at_once() {
    let mut rig = Rig::ready(config());
    rig.failing = |effect| matches!(effect, Effect::Signal(Signal::Terminate));
    rig.shutdown(Shutdown::within(secs(30)));
    rig.pass(secs(20));
    assert_eq!(rig.signals(), [Signal::Terminate, Signal::Kill]);
    assert_eq!(rig.dies(SIGKILL).cause, Cause::Asked(Rung::Kill));
}

#[test]
fn the_climbed_rungs_are_readable_until_the_end() {
    let mut rig = Rig::ready(config());
    assert_eq!(rig.vm.rungs(), []);
    rig.shutdown(Shutdown::within(secs(30)));
    assert_eq!(rig.vm.rungs(), [Rung::Quit]);
    rig.pass(secs(20));
    assert_eq!(rig.vm.rungs(), [Rung::Quit, Rung::Terminate]);
    rig.dies(SIGTERM);
    assert_eq!(rig.vm.rungs(), []);
}

#[test]
fn a_launch_failure_is_readable_before_the_end_of_the_run() {
    let mut rig = Rig::launched(config().launch_within(secs(5)));
    assert_eq!(rig.vm.launch_failure(), None);
    rig.pass(secs(5));
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Ending, None));
    assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::TimedOut(Phase::Greeting)));
    rig.dies(SIGKILL);
    rig.launch();
    assert_eq!(rig.vm.launch_failure(), None, "the failure was that of the previous run");
}

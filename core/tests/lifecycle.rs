//! Tests of a run from launch to outcome: phases, flags, deadlines and exits, with exact times in virtual time.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use crate::rig::{GREETING, HANDSHAKE, Rig, SIGKILL, SIGTERM, at, config, fault, secs};
use qemu_machine_core::lifecycle;
use qemu_machine_core::lifecycle::{Lifecycle, Link, LinkEvent, ProcessEvent, Retry, Wiring};
use qemu_machine_core::{
    Cause, Channel, Config, Effect, ExitStatus, FOREVER, Inherited, Input, LaunchFailure, Misuse, Notice, Phase,
    Prepared, Rung, Shutdown, Signal, SignalName, State, Transport, Wait, Why,
};

const READY: &str = r#"{"return": {}, "id": 0}"#;
const MONITOR: Channel = Channel::Monitor;
const CONSOLE: Channel = Channel::Console(0);

fn flags(run: &Lifecycle) -> (bool, bool, bool) {
    (run.is_launched(), run.is_quit_issued(), run.is_killed())
}

#[test]
fn a_run_from_launch_to_outcome() {
    let mut rig = Rig::new(config());
    assert_eq!((rig.vm.state(), rig.vm.launched(), rig.vm.pid()), (State::Idle, None, None));
    rig.log = b"last words\n".to_vec();
    rig.launch();
    assert_eq!((rig.vm.state(), rig.vm.pid()), (State::Launching(Phase::Greeting), Some(crate::rig::PID)));
    assert_eq!(rig.vm.channels(), [MONITOR, CONSOLE]);
    rig.says(GREETING);
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Launching(Phase::Negotiating), None));
    assert_eq!(rig.take_sent(), HANDSHAKE);
    rig.says(READY);
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Running, Some(Ok(()))));
    rig.shutdown(Shutdown::default());
    assert_eq!((rig.vm.state(), rig.take_sent().as_str()), (State::Ending, r#"{"execute":"quit","id":1}"#));
    rig.prints("bye\r\n");
    rig.shuts_down("host-qmp-quit");
    rig.replies(1);
    rig.closes(MONITOR);
    rig.exits(ExitStatus::Code(0));
    assert_eq!(rig.vm.state(), State::Ending, "the console may still print something");
    rig.closes(CONSOLE);
    let outcome = rig.outcome();
    assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Quit), Some(ExitStatus::Code(0))));
    assert_eq!((outcome.log.as_str(), outcome.consoles), ("last words\n", vec![("tty".into(), "bye\r\n".into())]));
    assert_eq!((rig.vm.state(), rig.vm.launched(), rig.vm.pid()), (State::Ended, Some(Ok(())), None));
    assert_eq!(rig.notices, [Notice::Ready, Notice::Printed(0), Notice::Event(0), Notice::Printed(0), Notice::Ended]);
    assert_eq!(rig.order_names(), ["Prepare", "Spawn", "Open(Monitor)", "Open(Console(0))", "ReadLog", "Remove"]);
    assert_eq!(rig.vm.deadline(), None);
}

#[test]
fn the_effects_have_the_configured_values() {
    let rig = Rig::ready(config().name("vm").temporary_directory("/tmp/x").log_directory("/var/log"));
    let Effect::Prepare(preparation) = &rig.effects[0] else { panic!("{:?}", rig.effects) };
    let channels = [(MONITOR, Transport::Pair), (CONSOLE, Transport::Pair)];
    assert_eq!((&preparation.name[..], preparation.channels.as_slice()), (&b"vm"[..], &channels[..]));
    assert_eq!(preparation.base.as_deref(), Some(&b"/tmp/x"[..]));
    assert_eq!(preparation.log_directory.as_deref(), Some(&b"/var/log"[..]));
    let Effect::Spawn(spawn) = &rig.effects[1] else { panic!("{:?}", rig.effects) };
    assert_eq!(spawn.arguments, rig.vm.command_line().arguments());
    assert!(spawn.arguments.contains(&b"socket,fd=4,id=tty".to_vec()));
}

#[test]
fn a_machine_without_a_monitor_is_ready_when_it_is_started() {
    let mut rig = Rig::launched(config().without_monitor());
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Running, Some(Ok(()))));
    assert_eq!(rig.vm.execute(rig.now, &"stop", FOREVER).map(|_| ()), Err(Misuse::NoMonitor));
    rig.shutdown(Shutdown::within(secs(30)));
    assert_eq!(rig.signals(), [Signal::Terminate]);
    assert_eq!(rig.dies(SIGTERM).cause, Cause::Asked(Rung::Terminate));
}

/// Launched: from the negotiation to the end of the clean-up. Quit issued: a `quit` succeeded. Killed: the caller
/// asked.
#[test]
fn the_three_flags_follow_the_rules_of_qemu_machine() {
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Remove);
    assert_eq!(flags(rig.vm.lifecycle()), (false, false, false));
    rig.launch();
    rig.says(GREETING);
    assert_eq!(flags(rig.vm.lifecycle()), (false, false, false));
    rig.says(READY);
    assert_eq!(flags(rig.vm.lifecycle()), (true, false, false));
    rig.issue("quit");
    assert_eq!(flags(rig.vm.lifecycle()), (true, false, false), "not answered yet");
    rig.refuses(1);
    assert_eq!(flags(rig.vm.lifecycle()), (true, false, false), "refused");
    rig.issue("quit");
    rig.replies(2);
    assert_eq!(flags(rig.vm.lifecycle()), (true, true, false));
    rig.kill();
    assert_eq!(flags(rig.vm.lifecycle()), (true, true, true));
    rig.exits(SIGKILL);
    rig.closes_all();
    assert_eq!((rig.vm.state(), flags(rig.vm.lifecycle())), (State::Ending, (true, true, true)), "not cleaned up");
    rig.handle(Input::Removed(Ok(())));
    assert_eq!((rig.vm.state(), flags(rig.vm.lifecycle())), (State::Ended, (false, false, false)));
    rig.launch();
    assert_eq!(flags(rig.vm.lifecycle()), (false, false, false));
}

#[test]
fn a_disowned_quit_counts_as_well() {
    let mut rig = Rig::ready(config());
    let ticket = rig.issue("quit");
    rig.vm.disown(ticket.id());
    rig.replies(1);
    assert!(rig.vm.lifecycle().is_quit_issued());
}

#[test]
fn an_exit_before_readiness_is_reported_with_its_phase() {
    for monitor_first in [false, true] {
        for (phase, said) in [(Phase::Greeting, &[][..]), (Phase::Negotiating, &[GREETING])] {
            let mut rig = Rig::launched(config());
            rig.log = b"qemu: no such device\n".to_vec();
            said.iter().for_each(|line| rig.says(line));
            if monitor_first {
                rig.closes(MONITOR);
                assert_eq!(rig.vm.state(), State::Launching(phase), "the exit of the process will explain it");
                assert_eq!(rig.vm.deadline(), Some((at(secs(5)), Why::HangUp)));
            }
            rig.prints("oops");
            let outcome = rig.dies(ExitStatus::Code(1));
            assert_eq!(rig.failure(), LaunchFailure::Exited(phase));
            assert_eq!((outcome.cause, outcome.log.as_str()), (Cause::Exit(1), "qemu: no such device\n"));
            assert_eq!(outcome.consoles[0].1, "oops");
            assert!(rig.signals().is_empty() && !rig.notices.contains(&Notice::Ready));
        }
    }
}

#[test]
fn an_exit_before_the_monitor_opens_is_reported_as_an_exit() {
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Open(_));
    rig.launch();
    assert_eq!(rig.vm.state(), State::Launching(Phase::Connecting));
    rig.exits(ExitStatus::Code(127));
    rig.closes_all();
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Connecting));
}

#[test]
fn an_exit_of_a_running_machine_is_an_outcome_and_no_failed_launch() {
    for monitor_first in [false, true] {
        let mut rig = Rig::ready(config());
        if monitor_first {
            rig.closes(MONITOR);
            assert_eq!(rig.vm.state(), State::Running, "only the exit of the process ends the run");
        }
        let outcome = rig.dies(ExitStatus::Signal { number: 11, name: SignalName::Segv, core_dumped: true });
        assert_eq!(
            (outcome.cause, rig.vm.launched()),
            (Cause::Signal { number: Some(11), sender: None }, Some(Ok(())))
        );
        assert!(rig.signals().is_empty());
    }
}

/// The last events, the reply to `quit` and console output may still be in the sockets when the exit is reported.
#[test]
fn data_that_arrives_after_the_exit_is_read() {
    let mut rig = Rig::ready(config());
    let quit = rig.issue("quit");
    rig.exits(ExitStatus::Code(0));
    assert_eq!((rig.vm.state(), rig.vm.outcome()), (State::Ending, None));
    rig.shuts_down("host-qmp-quit");
    rig.replies(1);
    rig.prints("halted");
    rig.closes_all();
    assert_eq!(rig.claim(&quit), Some(Ok(1)));
    let outcome = rig.outcome();
    assert_eq!((outcome.cause, outcome.unanswered), (Cause::Asked(Rung::Quit), 0));
    assert_eq!(outcome.consoles[0].1, "halted");
}

/// Another process may hold the other end of a channel for ever.
#[test]
fn channels_are_closed_two_seconds_after_the_exit() {
    let mut rig = Rig::ready(config());
    rig.closes(MONITOR);
    rig.pass(secs(1));
    rig.exits(ExitStatus::Code(0));
    assert_eq!(rig.vm.deadline(), Some((at(secs(3)), Why::Drain)));
    rig.take_effects();
    rig.pass_exactly(secs(2));
    assert_eq!(rig.order_names(), ["Close(Console(0))", "ReadLog", "Remove"]);
    assert_eq!(rig.vm.state(), State::Ended);
}

#[test]
fn a_failed_preparation_or_spawn_means_not_started() {
    for (failing, phase_effects) in [
        ((|effect| matches!(effect, Effect::Prepare(_))) as fn(&Effect) -> bool, &["Prepare", "ReadLog", "Remove"][..]),
        (|effect| matches!(effect, Effect::Spawn(_)), &["Prepare", "Spawn", "ReadLog", "Remove"]),
    ] {
        let mut rig = Rig::new(config());
        rig.failing = failing;
        rig.launch();
        assert_eq!((rig.vm.state(), rig.failure()), (State::Ended, LaunchFailure::Host(fault("oblige"))));
        assert_eq!((rig.outcome().cause, rig.outcome().exit), (Cause::NotStarted, None));
        assert_eq!(rig.order_names(), phase_effects);
    }
}

#[test]
fn a_monitor_that_never_greets_fails_the_launch_at_its_deadline() {
    // The status is unknown when another part of the program reaped the process.
    for status in [SIGKILL, ExitStatus::Unknown] {
        let mut rig = Rig::launched(config().launch_within(secs(7)));
        assert_eq!(rig.vm.deadline(), Some((at(secs(7)), Why::Launch(Phase::Greeting))));
        rig.pass_exactly(secs(7));
        assert_eq!((rig.vm.state(), rig.signals()), (State::Ending, vec![Signal::Kill]));
        assert_eq!(rig.vm.launched(), None, "not before the clean-up");
        assert_eq!(rig.dies(status).cause, Cause::LaunchFailed, "{status:?}");
        assert_eq!(rig.failure(), LaunchFailure::TimedOut(Phase::Greeting));
    }
}

#[test]
fn the_deadline_of_a_launch_covers_every_phase() {
    for (held, phase) in [
        ((|effect| matches!(effect, Effect::Prepare(_))) as fn(&Effect) -> bool, Phase::Starting),
        (|effect| matches!(effect, Effect::Spawn(_)), Phase::Starting),
        (|effect| matches!(effect, Effect::Open(_)), Phase::Connecting),
    ] {
        let mut rig = Rig::new(config());
        rig.held = held;
        rig.launch();
        rig.pass_exactly_quietly(Config::LAUNCH_WITHIN);
        let waiting = rig.effects.iter().rev().find(|effect| held(effect)).cloned();
        if let Some(waiting) = waiting {
            rig.answer(&waiting);
            rig.held = |_| false;
            rig.serve();
        }
        if rig.vm.outcome().is_none() {
            assert_eq!(rig.signals(), [Signal::Kill]);
            rig.dies(SIGKILL);
        }
        assert_eq!(rig.failure(), LaunchFailure::TimedOut(phase));
        assert_eq!(rig.order_names().iter().filter(|name| *name == "Remove").count(), 1);
    }
}

impl Rig {
    /// Like [`pass_exactly`](Rig::pass_exactly), for a deadline that may issue no effect.
    fn pass_exactly_quietly(&mut self, duration: core::time::Duration) {
        let state = self.vm.state();
        self.pass(duration - core::time::Duration::from_nanos(1));
        assert_eq!(self.vm.state(), state);
        self.pass(core::time::Duration::from_nanos(1));
        assert_ne!(self.vm.state(), state);
    }
}

/// The file system on which the log is created does not answer. The host undoes the preparation when it is complete.
#[test]
fn g31_a_run_ends_although_its_preparation_does_not() {
    type End = (fn(&mut Rig), LaunchFailure);
    let ends: [End; 3] = [
        (|rig| rig.pass_exactly_quietly(Config::LAUNCH_WITHIN), LaunchFailure::TimedOut(Phase::Starting)),
        (|rig| rig.kill(), LaunchFailure::Cancelled(Phase::Starting)),
        (|rig| rig.shutdown(Shutdown::default()), LaunchFailure::Cancelled(Phase::Starting)),
    ];
    for (end, failure) in ends {
        let mut rig = Rig::new(config());
        rig.held = |effect| matches!(effect, Effect::Prepare(_));
        rig.launch();
        end(&mut rig);
        assert_eq!((rig.vm.state(), rig.failure()), (State::Ended, failure));
        assert_eq!(rig.order_names(), ["Prepare", "ReadLog", "Remove"]);
        assert_eq!(rig.vm.launch(rig.now), Err(Misuse::NotReaped), "the preparation is still in progress");
        let line = rig.vm.command_line().to_string();
        rig.handle(Input::PrepareFailed(fault("create the log")));
        assert_eq!((rig.vm.state(), rig.vm.command_line().to_string()), (State::Ended, line));
        rig.held = |_| false;
        rig.launch();
        assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
    }
    // A host that has prepared everything after all changes nothing.
    let mut rig = Rig::new(config());
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    rig.kill();
    rig.handle(Input::Prepared(Prepared {
        descriptors: vec![(Inherited::Channel(MONITOR), 99)],
        ..Prepared::default()
    }));
    assert_eq!(rig.vm.state(), State::Ended);
    assert!(!rig.vm.command_line().to_string().contains("99"));
}

/// A file system that does not answer delays the end by ten seconds for each step.
#[test]
fn g31_a_run_ends_although_its_clean_up_does_not() {
    let mut rig = Rig::ready(config());
    rig.held = |effect| matches!(effect, Effect::ReadLog { .. } | Effect::Remove);
    rig.exits(SIGKILL);
    rig.closes_all();
    // The events end, since the monitor has.
    rig.pass(secs(5));
    assert_eq!(rig.vm.deadline(), Some((at(secs(10)), Why::Clean)));
    rig.pass_exactly(secs(5));
    assert_eq!(rig.order_names().last().map(String::as_str), Some("Remove"));
    assert_eq!(rig.vm.state(), State::Ending);
    rig.pass_exactly(secs(10));
    let faults: Vec<_> = rig.outcome().faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "cannot read the log: the file system has not answered",
            "cannot remove the files of the machine: the file system has not answered"
        ]
    );
    for late in [Input::LogRead(b"late"), Input::Removed(Ok(()))] {
        assert_eq!(rig.vm.launch(rig.now), Err(Misuse::NotReaped));
        rig.handle(late);
        assert_eq!(rig.outcome().log, "");
    }
    rig.held = |_| false;
    rig.launch();
    assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
}

#[test]
fn a_launch_may_have_no_deadline() {
    let mut rig = Rig::launched(config().launch_within(FOREVER));
    assert_eq!(rig.vm.deadline(), None);
    rig.pass(secs(1 << 40));
    assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
}

/// The grace period does not extend the deadline of the launch.
#[test]
fn a_process_that_hangs_up_and_does_not_end_is_killed_after_its_grace() {
    for (hangs_up, grace) in [(0, 5), (25, 5), (28, 2)] {
        let mut rig = Rig::launched(config());
        rig.pass(secs(hangs_up));
        rig.closes(MONITOR);
        rig.pass_exactly(secs(grace));
        assert_eq!(rig.signals(), [Signal::Kill]);
        rig.dies(SIGKILL);
        assert_eq!(rig.failure(), LaunchFailure::Hung(Phase::Greeting));
    }
}

#[test]
fn a_process_that_survives_sigkill_is_abandoned() {
    let mut rig = Rig::ready(config());
    rig.kill();
    assert_eq!(rig.vm.deadline(), Some((at(secs(10)), Why::Reap)));
    rig.take_effects();
    rig.pass_exactly(secs(10));
    assert_eq!(rig.order_names(), ["Close(Monitor)", "Close(Console(0))", "ReadLog", "Remove"]);
    assert_eq!((rig.outcome().cause, rig.outcome().exit), (Cause::Unkillable, None));
}

/// Its exit may come at any time. If a new run could begin before it, the exit would count as that of the new process.
#[test]
fn a_process_that_survived_is_waited_for_before_the_next_run() {
    let mut rig = Rig::ready(config());
    rig.kill();
    rig.pass(secs(10));
    assert_eq!(rig.vm.state(), State::Ended);
    assert_eq!(rig.vm.launch(rig.now), Err(Misuse::NotReaped));
    rig.exits(SIGKILL);
    assert_eq!((rig.vm.state(), &rig.vm.outcome().unwrap().cause), (State::Ended, &Cause::Unkillable));
    rig.launch();
    rig.negotiate(GREETING);
    assert_eq!(rig.vm.state(), State::Running);
}

#[test]
fn the_three_parts_step_by_themselves() {
    let mut effects = Vec::new();
    let now = at(secs(0));
    let mut step = |run: Lifecycle, input| run.step(now, input, &mut |output| effects.push(output));
    let run = step(
        Lifecycle::default(),
        lifecycle::Input::Launch { until: None, wiring: Wiring::Inherited, retry: Retry::Never, channels: 1 },
    );
    let run = step(run, lifecycle::Input::Process(ProcessEvent::Prepared));
    let run = step(run, lifecycle::Input::Process(ProcessEvent::Spawned { pid: 1 }));
    assert_eq!(run.link(), Link::Opening);
    let run = step(run, lifecycle::Input::Link(LinkEvent::Opened));
    let run = step(run, lifecycle::Input::Link(LinkEvent::Greeted));
    let run = step(run, lifecycle::Input::Link(LinkEvent::Negotiated));
    assert_eq!((run.link(), run.state()), (Link::Ready, State::Running));
    let run = step(run, lifecycle::Input::Shutdown(Shutdown::within(secs(0))));
    let run = step(run, lifecycle::Input::Process(ProcessEvent::Exited(SIGKILL)));
    let run = step(run, lifecycle::Input::Link(LinkEvent::HungUp));
    let run = step(run, lifecycle::Input::ChannelClosed);
    let run = step(run, lifecycle::Input::LogRead);
    let run = step(run, lifecycle::Input::Removed);
    assert_eq!((run.state(), flags(&run)), (State::Ended, (false, false, false)));
    let rungs = [lifecycle::Output::Climb(Rung::Kill)]; // The other rungs have no time.
    let before =
        [lifecycle::Output::Prepare, lifecycle::Output::Spawn, lifecycle::Output::Open, lifecycle::Output::Ready];
    let after = [lifecycle::Output::ReadLog, lifecycle::Output::Remove, lifecycle::Output::Finish];
    assert_eq!(effects, before.into_iter().chain(rungs).chain(after).collect::<Vec<_>>());
}

#[test]
fn requests_in_the_wrong_state_are_misuse() {
    let mut rig = Rig::new(config());
    let now = rig.now;
    assert_eq!(rig.vm.execute(now, &"stop", FOREVER).map(|_| ()), Err(Misuse::NotLaunched));
    assert_eq!(rig.vm.execute_raw(now, b"{}", FOREVER).map(|_| ()), Err(Misuse::NotLaunched));
    assert_eq!(rig.vm.console_write(now, "tty", b"x"), Err(Misuse::NotLaunched));
    assert_eq!(rig.vm.shutdown(now, Shutdown::default()), Err(Misuse::NotLaunched));
    assert_eq!(rig.vm.kill(now), Err(Misuse::NotLaunched));
    let mark = rig.vm.mark();
    assert_eq!(rig.vm.wait(now, &mark, [Wait::end()], FOREVER), Err(Misuse::NotLaunched));
    for ready in [false, true] {
        rig.launch();
        if ready {
            rig.negotiate(GREETING);
        }
        assert_eq!(rig.vm.launch(now), Err(Misuse::AlreadyLaunched));
        assert_eq!(rig.vm.console_write(now, "nope", b"x"), Err(Misuse::UnknownConsole("nope".into())));
        rig.kill();
        assert_eq!(rig.vm.launch(now), Err(Misuse::AlreadyLaunched));
        rig.dies(SIGKILL);
        assert_eq!(rig.vm.execute(now, &"stop", FOREVER).map(|_| ()), Err(Misuse::Ended));
        assert_eq!(rig.vm.execute_raw(now, b"{}", FOREVER).map(|_| ()), Err(Misuse::Ended));
        assert_eq!(rig.vm.console_write(now, "tty", b"x"), Err(Misuse::Ended));
        assert_eq!((rig.vm.shutdown(now, Shutdown::default()), rig.vm.kill(now)), (Ok(()), Ok(())), "an ended run");
        assert_eq!(rig.vm.poll_effect(), None);
    }
}

#[test]
fn console_input_is_queued_up_to_a_bound() {
    let mut limits = qemu_machine_core::Limits::default();
    limits.console_input = 4;
    let mut rig = Rig::ready(config().limits(limits));
    rig.vm.console_write(rig.now, "tty", b"abc").unwrap();
    assert_eq!(rig.vm.console_write(rig.now, "tty", b"de"), Err(Misuse::ConsoleInputFull(4)));
    assert_eq!(rig.vm.outgoing(CONSOLE), b"abc");
    rig.vm.sent(CONSOLE, 2);
    rig.vm.console_write(rig.now, "tty", b"de").unwrap();
    assert_eq!(rig.vm.outgoing(CONSOLE), b"cde");
    rig.closes(CONSOLE);
    assert_eq!(rig.vm.outgoing(CONSOLE), b"");
}

#[test]
fn a_clock_that_goes_back_counts_as_unchanged() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(10));
    rig.now = at(secs(4));
    rig.kill();
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Reap)));
}

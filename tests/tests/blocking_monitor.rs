//! Tests of calls whose monitor is silent, late or gone while the machine runs.

use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{
    Cause, CommandError, ExitStatus, Liveness, Mark, Shutdown, State, Vm, Wait, WaitError, json,
};
use qemu_machine_core::Progress;
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::leak_check::{bytes, leaving_nothing};
use qemu_machine_tests::scripted::Script;

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-qemu");

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// Deadline of what must not happen in time.
const SHORT: Duration = Duration::from_millis(200);

fn launched(script: Script, scratch: &Path) -> Vm {
    Vm::launch(script.config(SCRIPTED).temporary_directory(bytes(scratch))).unwrap_or_else(|error| panic!("{error}"))
}

/// A shutdown whose `quit` may take as long as a test.
fn orderly() -> Shutdown {
    Shutdown::within(PATIENCE)
}

/// A shutdown with little time for rungs without effect.
fn quick() -> Shutdown {
    Shutdown::within(Duration::from_secs(3))
}

#[test]
fn a_late_reply_reaches_no_other_caller() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().hear().reply("\"late\"").reply("\"in time\"").obey(), scratch);
        assert_eq!(vm.execute_by("first", SHORT), Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
        assert_eq!(vm.execute_by("second", LONG).unwrap(), "in time");
        assert_eq!(vm.execute_by("third", LONG).unwrap(), json!({}));
        let outcome = vm.shutdown(orderly()).unwrap();
        assert_eq!((outcome.cause, outcome.unanswered), (Cause::Asked(Rung::Quit), 1));
    });
}

#[test]
fn two_late_replies_reach_no_other_caller() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().hear().reply("1").hear().reply("2").reply("3").obey(), scratch);
        assert_eq!(vm.execute_by("first", SHORT), Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
        assert_eq!(vm.execute_by("second", SHORT), Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
        assert_eq!(vm.execute_by("third", LONG).unwrap(), 3);
        assert_eq!(vm.shutdown(orderly()).unwrap().unanswered, 2);
    });
}

/// The core sends at most seven in-band commands when the monitor offers out-of-band execution (QEMU, `monitor/qmp.c`,
/// `QMP_REQ_QUEUE_LEN_MAX`). The next one times out unsent.
#[test]
fn a_command_that_had_to_wait_was_not_sent() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().stall(), scratch);
        for _ in 0..7 {
            assert_eq!(
                vm.execute_by("sent", Duration::ZERO),
                Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown))
            );
        }
        assert_eq!(vm.execute_by("unsent", SHORT), Err(CommandError::TimedOut(Progress::Unsent, Liveness::Unknown)));
        vm.kill().unwrap();
    });
}

#[test]
fn an_end_while_a_command_waits() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().print("alas").exit(3), scratch);
        assert_eq!(vm.execute_by("query-status", LONG), Err(CommandError::Disconnected(Progress::Sent)));
        let outcome = vm.wait(LONG).unwrap();
        assert_eq!((&outcome.cause, outcome.exit), (&Cause::Exit(3), Some(ExitStatus::Code(3))));
        assert_eq!((&*outcome.log, outcome.unanswered), ("alas\n", 1));
        assert_eq!((vm.state(), vm.pid()), (State::Ended, None));
        assert!(outcome.pid.is_some(), "{outcome:?}");
        assert_eq!(vm.execute_by("query-status", LONG), Err(CommandError::Disconnected(Progress::Unsent)));
        assert_eq!(vm.shutdown(quick()).unwrap(), outcome);
        assert_eq!(vm.kill().unwrap(), outcome);
    });
}

#[test]
fn an_end_while_another_thread_waits_for_an_event() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().abort(), scratch);
        let other = vm.clone();
        let waiting = std::thread::spawn(move || other.wait_any(&Mark::default(), [Wait::event("NEVER")], LONG));
        assert_eq!(vm.execute_by("abort", LONG), Err(CommandError::Disconnected(Progress::Sent)));
        let Err(WaitError::Ended(outcome)) = waiting.join().unwrap() else { panic!("the wait ends with the machine") };
        assert_eq!(outcome.cause, Cause::Signal { number: Some(6), sender: None });
        let late = vm.wait_any(&Mark::default(), [Wait::event("NEVER")], LONG);
        assert_eq!(late, Err(WaitError::Ended(outcome)));
    });
}

#[test]
fn a_monitor_that_is_closed_under_a_process_that_lives_on() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().event("LAST").hear().hang_up().stall(), scratch);
        assert_eq!(vm.execute_by("hang-up", LONG), Err(CommandError::Disconnected(Progress::Sent)));
        assert_eq!(vm.execute_by("lost", LONG), Err(CommandError::Disconnected(Progress::Unsent)));
        let start = Mark::default();
        assert_eq!(vm.wait_any(&start, [Wait::event("NEVER")], LONG), Err(WaitError::Disconnected));
        // A later wait fails in the same way, and earlier events are still found.
        assert_eq!(vm.wait_any(&start, [Wait::event("NEVER")], LONG), Err(WaitError::Disconnected));
        assert_eq!(vm.wait_any(&start, [Wait::event("LAST")], LONG).map(|hit| hit.index), Ok(0));
        assert_eq!(vm.wait_any(&start, [Wait::event("NEVER"), Wait::end()], SHORT), Err(WaitError::TimedOut));
        assert_eq!(vm.wait(SHORT), Err(WaitError::TimedOut));
        // Without a monitor there is no `quit` to try.
        let outcome = vm.shutdown(quick()).unwrap();
        assert_eq!((outcome.cause, outcome.unanswered), (Cause::Asked(Rung::Terminate), 2));
    });
}

#[test]
fn a_refused_quit_is_followed_by_a_signal() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().refuse("never").stall(), scratch);
        let outcome = vm.shutdown(Shutdown::within(LONG)).unwrap();
        assert_eq!(outcome.cause, Cause::Asked(Rung::Terminate));
    });
}

#[test]
fn an_unanswered_quit_is_followed_by_a_signal() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().stall(), scratch);
        assert_eq!(vm.shutdown(quick()).unwrap().cause, Cause::Asked(Rung::Terminate));
    });
}

#[test]
fn a_quit_that_has_no_effect_is_followed_by_a_signal() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().reply("{}").stall(), scratch);
        assert_eq!(vm.shutdown(quick()).unwrap().cause, Cause::Asked(Rung::Terminate));
    });
}

/// One of the waiting callers polls the descriptors, here the first; it must also observe the deadlines of the others.
#[test]
fn a_caller_with_a_near_deadline_does_not_wait_for_one_with_a_far_deadline() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().hear().reply("1").hear().event("AT LAST").reply("2").obey(), scratch);
        let other = vm.clone();
        let far = std::thread::spawn(move || other.wait_any(&Mark::default(), [Wait::event("AT LAST")], LONG));
        for _ in 0..5 {
            assert_eq!(vm.wait_any(&Mark::default(), [Wait::event("NEVER")], SHORT), Err(WaitError::TimedOut));
        }
        assert_eq!(vm.execute_by("first", LONG).unwrap(), 1);
        assert_eq!(vm.wait(SHORT), Err(WaitError::TimedOut));
        assert!(!far.is_finished());
        assert!(vm.execute_by("second", LONG).is_ok());
        assert!(far.join().unwrap().is_ok());
    });
}

#[test]
fn garbage_fails_the_command_that_waits_and_no_other() {
    leaving_nothing(|scratch| {
        let script = Script::launched().hear().say("{\"return\": nonsense}\r\n").hear().reply("1").reply("2").obey();
        let vm = launched(script, scratch);
        let broken = vm.execute_by("first", LONG);
        assert!(matches!(broken, Err(CommandError::Broken(_))), "{broken:?}");
        assert_eq!(vm.execute_by("second", LONG).unwrap(), 2);
        assert_eq!(vm.shutdown(orderly()).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

#[test]
fn a_running_machine_is_killed_when_dropped() {
    leaving_nothing(|scratch| drop(launched(Script::launched().stall(), scratch)));
}

#[test]
fn a_wait_with_a_zero_deadline_does_not_block() {
    leaving_nothing(|scratch| {
        let vm = launched(Script::launched().event("PAST").stall(), scratch);
        let past = [Wait::event("PAST")];
        assert!(vm.wait_any(&Mark::default(), past.clone(), LONG).is_ok());
        assert!(vm.wait_any(&Mark::default(), past, Duration::ZERO).is_ok());
        assert_eq!(vm.wait(Duration::ZERO), Err(WaitError::TimedOut));
    });
}

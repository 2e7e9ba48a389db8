//! Tests of blocking calls that another thread interrupts by ending the machine, or that share a deadline.

use std::thread;
use std::time::{Duration, Instant};

use qemu_machine_blocking::procedure::{ExecuteAndWait, ProcedureError};
use qemu_machine_blocking::{
    Cause, CommandError, Deadline, FOREVER, Found, Mark, Rung, Shutdown, Vm, Wait, WaitError, until,
};
use qemu_machine_core::Progress;
use qemu_machine_tests::scripted::Script;
use qemu_machine_tests::{PATIENCE, bounded};

fn launched(script: Script) -> Vm {
    Vm::launch(script.config(env!("CARGO_BIN_EXE_scripted-qemu"))).unwrap_or_else(|error| panic!("{error}"))
}

/// Blocks in every kind of call, without deadlines, on a machine that never replies. `end` ends the machine from
/// another thread when both commands are sent.
fn everybody_is_freed(end: impl FnOnce(&Vm), cause: &Cause) {
    let vm = launched(Script::launched().hear().hear().event("HEARD").hear().exit(0));
    let never = || [Wait::event("NEVER")];
    let mut events = vm.events(never()).expect("the process runs");
    thread::scope(|threads| {
        let command = threads.spawn(|| vm.execute_by("slow", FOREVER));
        let procedure = threads.spawn(|| vm.run(ExecuteAndWait::new(&"slower", never()), FOREVER));
        let wait = threads.spawn(|| vm.wait_any(&Mark::default(), never(), FOREVER));
        let or_end = threads.spawn(|| vm.wait_any(&Mark::default(), [Wait::event("NEVER"), Wait::end()], FOREVER));
        let last = threads.spawn(|| vm.wait(FOREVER));
        let next = threads.spawn(|| events.next(FOREVER));
        vm.wait_any(&Mark::default(), [Wait::event("HEARD")], PATIENCE / 2).expect("the script has read both commands");
        end(&vm);
        let lost = CommandError::Disconnected(Progress::Sent);
        assert_eq!(command.join().unwrap(), Err(lost.clone()));
        assert_eq!(procedure.join().unwrap().unwrap_err(), ProcedureError::Command(lost));
        let is_ended = |error: WaitError| matches!(error, WaitError::Ended(outcome) if outcome.cause == *cause);
        assert!(is_ended(wait.join().unwrap().unwrap_err()));
        assert!(matches!(or_end.join().unwrap().unwrap().found, Found::End(outcome) if outcome.cause == *cause));
        assert_eq!(last.join().unwrap().unwrap().cause, *cause);
        assert!(is_ended(next.join().unwrap().unwrap_err()));
    });
}

#[test]
fn a_kill_unblocks_every_waiting_call() {
    bounded(|| everybody_is_freed(|vm| drop(vm.kill().unwrap()), &Cause::Asked(Rung::Kill)));
}

#[test]
fn a_shutdown_unblocks_every_waiting_call() {
    // The script reads the `quit` and exits without a reply.
    bounded(|| everybody_is_freed(|vm| drop(vm.shutdown(Shutdown::default()).unwrap()), &Cause::Exit(0)));
}

#[test]
fn calls_share_a_deadline() {
    bounded(|| {
        let vm = launched(Script::launched().hear().event("EARLIER").stall());
        let before = Instant::now();
        assert_eq!(until(before), Deadline::after(Duration::ZERO), "the time has passed");
        assert_ne!(until(before + PATIENCE), Deadline::after(Duration::ZERO));
        let short = before + Duration::from_millis(100);
        let slow = vm.execute_by("slow", until(short));
        assert!(matches!(slow, Err(CommandError::TimedOut(..))), "{slow:?}");
        // No time is left to wait for events, and earlier events are still found.
        assert_eq!(vm.wait_any(&Mark::default(), [Wait::event("LATER")], until(short)), Err(WaitError::TimedOut));
        assert!(vm.wait_any(&Mark::default(), [Wait::event("EARLIER")], until(short)).is_ok());
    });
}

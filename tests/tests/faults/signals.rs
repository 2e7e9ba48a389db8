//! Tests of SIGSTOP, SIGKILL and SIGSEGV to a real QEMU: before it greets, at rest, while it executes a command, and
//! during a shutdown. A FIFO synchronises: its open returns when QEMU opens the other end (`fifo(7)`).

use std::fs::{File, OpenOptions, remove_file};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{
    Cause, CommandError, Deadline, ExitStatus, LaunchError, LaunchFailure, Mark, Outcome, Shutdown, SignalName, Value,
    Vm, Wait, json,
};
use qemu_machine_core::{Phase, Progress};
use qemu_machine_tests::leak_check::{Scratch, alone, descendants, leaving_nothing, send, stop};
use qemu_machine_tests::qemu;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::{LONG, config, failure};

pub(crate) const FATAL: [(Signal, i32); 2] = [(Signal::KILL, 9), (Signal::SEGV, 11)];

/// Deadline for a stopped process, which does nothing however long it is.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    path
}

/// Starts a QEMU that blocks while it reads its configuration, before it has a monitor.
pub(crate) fn before_its_greeting(
    directory: &Path,
    scratch: &Path,
    within: Duration,
) -> (JoinHandle<Result<Vm, LaunchError>>, u32, File) {
    let path = fifo(directory);
    let config = config(scratch).launch_within(within).args(["-readconfig", path.to_str().unwrap()]);
    let launch = spawn(move || Vm::launch(config));
    // Returns when QEMU opens the FIFO.
    let held = OpenOptions::new().write(true).open(&path).unwrap();
    let all = descendants(std::process::id());
    // On the host for any Unix, a guard is beside it.
    let mut processes = all.iter().filter(|process| qemu().starts_with(&process.name));
    let (Some(process), None) = (processes.next(), processes.next()) else { panic!("there is one QEMU: {all:?}") };
    remove_file(path).unwrap();
    (launch, process.pid, held)
}

#[test]
fn g04_a_signal_before_the_greeting_fails_the_launch_and_is_named() {
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            let elsewhere = Scratch::create();
            let (launch, pid, _held) = before_its_greeting(elsewhere.path(), scratch, LONG);
            send(pid, signal);
            let (failure, outcome) = failure(launch.join().unwrap());
            assert_eq!(failure, LaunchFailure::Exited(Phase::Greeting), "{outcome}");
            assert_eq!(outcome.cause, Cause::Signal { number: Some(number), sender: None });
            assert_ended_by(&outcome, number);
        });
    }
}

#[test]
fn g01_a_process_that_is_stopped_before_the_greeting_is_killed_at_the_deadline() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let (launch, pid, _held) = before_its_greeting(elsewhere.path(), scratch, 3 * SHORT);
        stop(pid);
        let (failure, outcome) = failure(launch.join().unwrap());
        assert_eq!(failure, LaunchFailure::TimedOut(Phase::Greeting), "{outcome}");
        assert_eq!(outcome.cause, Cause::LaunchFailed);
        assert_ended_by(&outcome, 9);
    });
}

/// The wrapper sends the signal to itself, so QEMU is never executed.
#[test]
fn g04_a_wrapper_that_gets_a_signal_fails_the_launch() {
    for (signal, number) in [("STOP", 9), ("KILL", 9), ("SEGV", 11)] {
        leaving_nothing(move |scratch| {
            let itself = format!("ulimit -c 0; kill -{signal} $$; exec \"$@\"");
            let wrapper = ["bash", "-c", &itself, "bash"];
            let (failure, outcome) = failure(Vm::launch(config(scratch).wrapper(wrapper).launch_within(3 * SHORT)));
            let stops = signal == "STOP";
            let expected = [LaunchFailure::Exited(Phase::Greeting), LaunchFailure::TimedOut(Phase::Greeting)];
            assert_eq!(failure, expected[usize::from(stops)], "{outcome}");
            assert_ended_by(&outcome, number);
        });
    }
}

#[test]
fn g14_a_signal_to_a_machine_at_rest_is_its_cause() {
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            let vm = Vm::launch(config(scratch)).unwrap();
            send(vm.pid().unwrap(), signal);
            assert_signalled(&vm.wait(LONG).unwrap(), number);
        });
    }
}

#[test]
fn g01_a_machine_that_is_stopped_and_goes_on_has_lost_nothing() {
    leaving_nothing(|scratch| {
        let vm = Vm::launch(config(scratch)).unwrap();
        let pid = vm.pid().unwrap();
        stop(pid);
        let late = vm.execute_by("query-status", SHORT);
        assert!(matches!(late, Err(CommandError::TimedOut(Progress::Sent, _))), "{late:?}");
        send(pid, Signal::CONT);
        assert!(vm.execute_by("query-version", LONG).unwrap()["qemu"]["major"].is_u64());
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().exit, Some(ExitStatus::Code(0)));
    });
}

/// A machine that executes a command for as long as the file is held.
pub(crate) fn while_a_command_is_in_flight(
    directory: &Path,
    scratch: &Path,
    within: Duration,
) -> (Vm, JoinHandle<Result<Value, CommandError>>, File) {
    let vm = Vm::launch(config(scratch)).unwrap();
    let path = fifo(directory);
    // More than the capacity of a FIFO, 64 KiB (`pipe(7)`).
    let arguments = json!({"val": 0, "size": 1 << 20, "filename": path.to_str().unwrap()});
    let other = vm.clone();
    let command = spawn(move || other.execute_by(("pmemsave", arguments), within));
    // Returns when QEMU opens the FIFO.
    let held = File::open(&path).unwrap();
    remove_file(path).unwrap();
    (vm, command, held)
}

#[test]
fn g14_a_signal_while_a_command_is_in_flight_answers_it() {
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            let elsewhere = Scratch::create();
            let (vm, command, _held) = while_a_command_is_in_flight(elsewhere.path(), scratch, LONG);
            send(vm.pid().unwrap(), signal);
            assert_eq!(command.join().unwrap(), Err(CommandError::Disconnected(Progress::Sent)));
            let outcome = vm.wait(LONG).unwrap();
            assert_signalled(&outcome, number);
            assert_eq!(outcome.unanswered, 1);
        });
    }
}

#[test]
fn g13_a_process_that_is_stopped_in_a_command_is_killed() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let (vm, command, _held) = while_a_command_is_in_flight(elsewhere.path(), scratch, SHORT);
        stop(vm.pid().unwrap());
        assert!(matches!(command.join().unwrap(), Err(CommandError::TimedOut(Progress::Sent, _))));
        let outcome = vm.shutdown(Shutdown::within(SHORT)).unwrap();
        assert_eq!(outcome.cause, Cause::Asked(Rung::Kill), "{outcome}");
        assert_ended_by(&outcome, 9);
    });
}

/// A machine without a guest whose power button was pressed: the shutdown is under way.
pub(crate) fn while_it_is_shut_down(scratch: &Path, patience: Duration) -> (Vm, JoinHandle<Outcome>) {
    let vm = Vm::launch(config(scratch)).unwrap();
    let other = vm.clone();
    let how = Shutdown::within(SHORT).power_down(patience);
    let shutdown = spawn(move || other.shutdown(how).unwrap());
    vm.wait_any(&Mark::default(), [Wait::event("POWERDOWN")], LONG).unwrap();
    (vm, shutdown)
}

#[test]
fn g14_a_signal_during_a_shutdown_is_its_cause() {
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            let (vm, shutdown) = while_it_is_shut_down(scratch, LONG);
            send(vm.pid().unwrap(), signal);
            assert_signalled(&shutdown.join().unwrap(), number);
        });
    }
}

#[test]
fn g13_a_process_that_is_stopped_during_a_shutdown_is_killed() {
    leaving_nothing(|scratch| {
        let (vm, shutdown) = while_it_is_shut_down(scratch, SHORT);
        stop(vm.pid().unwrap());
        let outcome = shutdown.join().unwrap();
        assert_eq!(outcome.cause, Cause::Asked(Rung::Kill), "{outcome}");
        assert_eq!(outcome.rungs, [Rung::PowerDown, Rung::Quit, Rung::Terminate, Rung::Kill]);
    });
}

#[test]
fn g14_a_signal_to_a_machine_is_its_cause_on_smol() {
    // The reactor of smol starts with the first descriptor and stays. Started here, no leak check counts it.
    let alone = alone();
    drop(smol::Async::new(UnixStream::pair().unwrap().0).unwrap());
    drop(alone);
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            // The executor is local, so the driver is gone at the end.
            let executor = smol::LocalExecutor::new();
            let outcome = smol::block_on(executor.run(async {
                let spawn = |driver| executor.spawn(driver).detach();
                let vm = qemu_machine_smol::Vm::launch_with(config(scratch), spawn).await.unwrap();
                stop(vm.pid().unwrap());
                let late = vm.execute_by("query-status", SHORT).await;
                assert!(matches!(late, Err(CommandError::TimedOut(Progress::Sent, _))), "{late:?}");
                send(vm.pid().unwrap(), signal);
                send(vm.pid().unwrap(), Signal::CONT);
                vm.wait(Deadline::after(LONG)).await.unwrap()
            }));
            assert_signalled(&outcome, number);
        });
    }
}

#[test]
fn g14_a_signal_to_a_machine_is_its_cause_on_mio() {
    for (signal, number) in FATAL {
        leaving_nothing(move |scratch| {
            let mut event_loop = qemu_machine_mio::EventLoop::new().unwrap();
            let (registry, tokens) = event_loop.parts();
            let mut vms = [qemu_machine_mio::Vm::launch(config(scratch), registry, tokens).unwrap()];
            event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
            send(vms[0].machine().pid().unwrap(), signal);
            let outcome = event_loop.run(&mut vms, |vms| vms[0].outcome().cloned()).unwrap();
            assert_signalled(&outcome, number);
        });
    }
}

/// QEMU does not handle real-time signals, and their default is to end the process (`signal(7)`).
#[test]
fn g14_a_real_time_signal_is_named() {
    leaving_nothing(|scratch| {
        let vm = Vm::launch(config(scratch)).unwrap();
        let kill = format!("kill -s RTMIN+2 {}", vm.pid().unwrap());
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
        let outcome = vm.wait(LONG).unwrap();
        let Some(ExitStatus::Signal { number, name, core_dumped: false }) = outcome.exit else { panic!("{outcome}") };
        assert_eq!(name, SignalName::RealTime(2));
        assert_eq!(outcome.cause, Cause::Signal { number: Some(number), sender: None });
        assert!(format!("{outcome:#}").contains(&format!("process: signal {number} (SIGRTMIN+2)\n")), "{outcome:#}");
    });
}

fn assert_signalled(outcome: &Outcome, number: i32) {
    assert_eq!(outcome.cause, Cause::Signal { number: Some(number), sender: None }, "{outcome}");
    assert_ended_by(outcome, number);
}

pub(crate) fn assert_ended_by(outcome: &Outcome, number: i32) {
    let name = match number {
        9 => SignalName::Kill,
        11 => SignalName::Segv,
        _ => unreachable!("no test sends signal {number}"),
    };
    assert_eq!(outcome.exit, Some(ExitStatus::Signal { number, name, core_dumped: false }), "{outcome}");
    assert_eq!(outcome.faults, [], "{outcome}");
}

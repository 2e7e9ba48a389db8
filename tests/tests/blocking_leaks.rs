//! Tests that machines leave nothing behind: no process, no descriptor, no file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::scope;
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{Cause, Config, Shutdown, Vm};
use qemu_machine_tests::leak_check::{bytes, leaving_nothing, send};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

fn launch(scratch: &Path) -> Vm {
    let config = Config::new(qemu()).machine("none").temporary_directory(bytes(scratch));
    Vm::launch(config).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_hundred_machines_in_four_threads() {
    leaving_nothing(|scratch| {
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| shut_down(&launch(scratch))));
            }
        });
    });
}

fn shut_down(vm: &Vm) {
    assert_eq!(vm.shutdown(Shutdown::within(PATIENCE)).unwrap().cause, Cause::Asked(Rung::Quit));
}

#[test]
fn g15_a_machine_that_is_dropped() {
    leaving_nothing(|scratch| drop(launch(scratch)));
}

#[test]
fn g15_a_machine_that_is_dropped_by_a_panic() {
    leaving_nothing(|scratch| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _vm = launch(scratch);
            panic!("as a failing test does");
        }));
        assert!(panicked.is_err());
    });
}

#[test]
fn a_machine_that_a_foreign_signal_kills() {
    leaving_nothing(|scratch| {
        let vm = launch(scratch);
        send(vm.pid().unwrap(), Signal::KILL);
        assert_eq!(vm.wait(PATIENCE).unwrap().cause, Cause::Signal { number: Some(9), sender: None });
    });
}

/// The handle of an ended machine holds only memory: no process, no descriptor, no file.
#[test]
fn an_ended_machine_whose_handle_is_still_held() {
    leaving_nothing(|scratch| {
        let vm = launch(scratch);
        shut_down(&vm);
        assert_eq!(scratch.read_dir().unwrap().count(), 0);
        assert!(vm.execute_by("query-status", Duration::ZERO).is_err());
    });
}

#[test]
fn g15_a_machine_that_is_dropped_by_another_thread() {
    leaving_nothing(|scratch| {
        let vm = launch(scratch);
        std::thread::spawn(move || drop(vm)).join().unwrap();
    });
}

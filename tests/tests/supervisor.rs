//! Tests that a machine ends with the program that launched it, and not before.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{Cause, Config, Shutdown, Vm};
use qemu_machine_tests::leak_check::{Scratch, Watched};
use qemu_machine_tests::{PATIENCE, bounded, qemu};

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// A program that launched a machine.
struct Launcher(Child);

impl Launcher {
    /// Starts the program, and returns it with its child processes when it has launched the machine.
    fn start(scratch: &Scratch, wrapper: &[&str]) -> (Self, Vec<Watched>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command.arg(scratch.path()).args(wrapper).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut launcher = Self(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(launcher.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let watched = line.split_whitespace().map(|pid| Watched::new(pid.parse().unwrap()).unwrap());
        let watched = watched.collect();
        (launcher, watched)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The kill fails only if the program has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a program, and asserts that all its child processes end, and how many there are. Behind a wrapper one of them is
/// a guard.
fn ends_with_its_program(wrapper: &'static [&'static str], count: usize) {
    bounded(move || {
        let scratch = Scratch::create();
        let (mut launcher, processes) = Launcher::start(&scratch, wrapper);
        assert_eq!(processes.len(), count);
        launcher.kill();
        processes.iter().for_each(|process| process.assert_ends_within(LONG));
    });
}

#[test]
fn g15_a_machine_ends_with_its_program() {
    // On the host for any Unix, each machine has a guard.
    ends_with_its_program(&[], if cfg!(qemu_machine_portable) { 2 } else { 1 });
}

#[test]
fn g15_a_machine_behind_a_wrapper_that_becomes_it_ends_with_its_program() {
    ends_with_its_program(&["env", "A=B"], 2);
}

/// Behind a wrapper that stays, `setpriv` lets QEMU end with the wrapper.
#[test]
fn g15_a_machine_behind_a_wrapper_that_passes_its_end_on_ends_with_its_program() {
    ends_with_its_program(&["timeout", "60", "setpriv", "--pdeathsig", "KILL"], 3);
}

#[test]
fn g15_a_machine_outlives_the_thread_that_launched_it() {
    bounded(|| {
        let launched = spawn(|| Vm::launch(Config::new(qemu()).machine("none")));
        let vm = launched.join().unwrap().unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..100 {
            assert_eq!(vm.execute_by("query-status", LONG).unwrap()["running"], true);
        }
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

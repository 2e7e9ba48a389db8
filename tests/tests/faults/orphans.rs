//! Tests of a killed program: its machine ends as well, in whatever phase it is.

use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;
use std::process::Stdio;

use qemu_machine_blocking::Vm;
use qemu_machine_tests::bounded;
use qemu_machine_tests::leak_check::{Scratch, Watched, alone, stop};

use crate::child::{again, is_inside};
use crate::signals::{before_its_greeting, while_a_command_is_in_flight, while_it_is_shut_down};
use crate::{LONG, config};

/// Directory for the files of the program: a program that is killed removes none.
const PLACE: &str = "QEMU_MACHINE_FAULTS_PLACE";

/// Precedes the process id of the machine, in a line that the test harness may have begun.
const MACHINE: &str = "machine: ";

/// Runs `begin` in a child process, kills the child, and asserts that the machine ends. `begin` returns the process id
/// of the machine, and a value that stays alive.
fn ends_with_its_program<T>(test: &'static str, begin: impl FnOnce(&Path) -> (u32, T)) {
    if is_inside(test) {
        let (pid, _kept) = begin(Path::new(&std::env::var_os(PLACE).expect("a place")));
        println!("{MACHINE}{pid}");
        // Blocks until it is killed, or its parent is gone.
        stdin().read_exact(&mut [0]).expect_err("stdin is closed without input");
        return;
    }
    let _alone = alone();
    bounded(move || {
        let place = Scratch::create();
        let mut command = again(test, &[]);
        command.env(PLACE, place.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        // The child is killed also when the test panics.
        let _watched = Watched::new(program.id()).unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let pid = lines
            .find_map(|line| line.unwrap().split_once(MACHINE)?.1.parse().ok())
            .expect("the child prints the process id");
        let machine = Watched::new(pid).unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
        machine.assert_ends_within(LONG);
    });
}

#[test]
fn g15_before_it_greets() {
    ends_with_its_program("orphans::g15_before_it_greets", |place| {
        let (launch, pid, held) = before_its_greeting(place, place, LONG);
        (pid, (launch, held))
    });
}

#[test]
fn g15_while_it_executes_a_command() {
    ends_with_its_program("orphans::g15_while_it_executes_a_command", |place| {
        let (vm, command, held) = while_a_command_is_in_flight(place, place, LONG);
        (vm.pid().unwrap(), (vm, command, held))
    });
}

#[test]
fn g15_while_it_is_shut_down() {
    ends_with_its_program("orphans::g15_while_it_is_shut_down", |place| {
        let (vm, shutdown) = while_it_is_shut_down(place, LONG);
        (vm.pid().unwrap(), (vm, shutdown))
    });
}

#[test]
fn g15_while_it_is_stopped() {
    ends_with_its_program("orphans::g15_while_it_is_stopped", |place| {
        let vm = Vm::launch(config(place)).unwrap();
        let pid = vm.pid().unwrap();
        stop(pid);
        (pid, vm)
    });
}

//! Tests of logs with a limit: the disk space stays bounded while QEMU writes, and the end of the log is exact.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qemu_machine_blocking::{Cause, Config, Rung, Shutdown, Vm};
use qemu_machine_tests::appended::Appended;
use qemu_machine_tests::leak_check::{Scratch, alone, bytes, leaving_nothing};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use serde_json::json;

const LIMIT: u64 = 64 * 1024;

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"]).log_limit(LIMIT)
}

/// Runs a test twice: the thread `qemu-log` and its descriptors exist from the first run on, and the second one must
/// leave nothing behind.
fn twice(test: fn(&Path)) {
    {
        let _alone = alone();
        bounded(move || test(Scratch::create().path()));
    }
    leaving_nothing(test);
}

/// With this, QEMU writes each command to its log, and a kilobyte about its arguments and its reply (QEMU,
/// `monitor/trace-events` and `qapi/trace-events`).
const TRACE: [&str; 4] = ["-trace", "handle_qmp_command", "-trace", "visit_*"];

/// The commands that the tests execute: their traces are many times the limit.
const COMMANDS: u32 = 1000;

/// Executes commands that fail, each with its number.
fn fill(vm: &Vm) {
    for number in 1..=COMMANDS {
        vm.execute_by(("qom-get", json!({"path": "/", "property": format!("n{number}")})), PATIENCE).unwrap_err();
    }
}

/// Returns the numbers of the commands in a log. The first line may be cut.
fn numbers(log: &str) -> Vec<u32> {
    let lines = log.lines().filter_map(|line| line.split_once(r#""property": "n"#));
    lines.map(|(_, rest)| rest.split_once('"').expect("a line is whole").0.parse().unwrap()).collect()
}

fn orderly() -> Shutdown {
    Shutdown::within(PATIENCE)
}

#[test]
fn the_log_of_each_command_is_bounded_and_its_end_is_exact() {
    twice(|scratch| {
        let vm = Vm::launch(config().args(TRACE).temporary_directory(bytes(scratch)))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(vm.log_path(), None);
        let log = Appended::open(&PathBuf::from(format!("/proc/{}/fd/2", vm.pid().unwrap())));
        fill(&vm);
        log.wait_until(|file| file.blocks() * 512 <= 2 * LIMIT);
        let text = String::from_utf8(vm.log(usize::MAX).unwrap()).unwrap();
        let first = COMMANDS + 1 - u32::try_from(numbers(&text).len()).unwrap();
        assert_eq!(numbers(&text), (first..=COMMANDS).collect::<Vec<_>>());
        assert!(text.len() as u64 >= LIMIT / 2, "{}", text.len());
        let outcome = vm.shutdown(orderly()).unwrap();
        assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
        assert!(outcome.log.contains(r#"req: {"execute": "quit""#));
        assert_eq!(numbers(&outcome.log).last(), Some(&COMMANDS));
        drop(vm);
        log.wait_until_closed();
    });
}

/// A process that only writes fills the log as fast as the disk space of many limits is freed.
#[test]
fn a_flood_is_bounded_on_each_file_system() {
    twice(|scratch| {
        for directory in [scratch, Path::new("/dev/shm")] {
            let kept = tempfile::tempdir_in(directory).unwrap();
            let flood = config().wrapper(["sh", "-c", r#"yes flood >&2 & exec "$@""#, "sh"]);
            let vm = Vm::launch(flood.temporary_directory(bytes(scratch)).log_directory(bytes(kept.path())))
                .unwrap_or_else(|error| panic!("{error}"));
            let log = Appended::open(&vm.log_path().unwrap());
            let (mut before, mut removals) = (0, 0);
            log.wait_until(|file| {
                removals += u32::from(file.blocks() < before);
                before = file.blocks();
                removals == 20
            });
            vm.execute("query-status").unwrap();
            let outcome = vm.shutdown(orderly()).unwrap();
            drop(vm);
            log.wait_until_closed();
            // The first line and the last one may be cut.
            let mut lines: Vec<&str> = outcome.log.lines().skip(1).collect();
            lines.pop();
            assert!(lines.len() > 1000 && lines.iter().all(|line| *line == "flood"), "{} lines", lines.len());
            log.wait_until(|file| file.blocks() * 512 <= 2 * LIMIT);
        }
    });
}

#[test]
fn a_detached_machine_is_bounded_while_its_program_runs() {
    twice(|scratch| {
        let config = config().args(TRACE).temporary_directory(bytes(scratch));
        let vm = Vm::launch(config.outlive_parent()).unwrap_or_else(|error| panic!("{error}"));
        let log = Appended::open(&vm.log_path().unwrap());
        let identity = vm.identity().unwrap();
        vm.detach().unwrap();
        drop(vm);
        let (vm, _gap) = Vm::resume(identity, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        fill(&vm);
        log.wait_until(|file| file.blocks() * 512 <= 2 * LIMIT);
        vm.shutdown(orderly()).unwrap();
        drop(vm);
        // The bound ends with the process, of which this handle is not the parent.
        log.wait_until_closed();
    });
}

/// A launch that fails leaves no bound behind.
#[test]
fn the_bound_ends_with_a_failed_launch() {
    twice(|scratch| {
        let kept = tempfile::tempdir_in(scratch).unwrap();
        let directory = Appended::open(kept.path());
        let failing = config().args(["-device", "nonexistent"]).log_directory(bytes(kept.path()));
        Vm::launch(failing.temporary_directory(bytes(scratch))).unwrap_err();
        directory.wait_until_closed();
    });
}

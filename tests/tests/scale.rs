//! Tests of many machines in one program: the threads and descriptors that they cost, and that nothing of them is left.
//!
//! The figures are those of the example `scale`. The environment variable `QEMU_MACHINE_MACHINES` sets how many machines
//! there are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::cargo::cargo;
use serde_json::Value;

/// How many machines run at once, without the environment variable.
const MACHINES: u64 = 100;

/// The most descriptors that the machines share: those of the supervisor, and of a runtime.
const SHARED: f64 = 8.0;

/// The most memory of this program for each machine, in bytes.
const MEMORY: f64 = 128.0 * 1024.0;

/// The example, built now: an old executable would test old code.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Built with the features of the whole workspace, it is mostly built already.
        let built = cargo(&["build", "--workspace", "--example", "scale", "--message-format", "json"]);
        let mut messages = built.lines().filter_map(|line| line.parse::<Value>().ok());
        let built = messages.find(|message| message["target"]["name"] == "scale").expect("cargo built it");
        PathBuf::from(built["executable"].as_str().expect("an example has an executable"))
    })
}

fn machines() -> u64 {
    let machines = std::env::var("QEMU_MACHINE_MACHINES").ok();
    machines.map_or(MACHINES, |machines| machines.parse().expect("a number of machines"))
}

/// Runs the machines on one runtime, and returns the figures by what they count.
fn figures(runtime: &'static str) -> BTreeMap<String, f64> {
    // The machines of one runtime load the processors enough.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (program, machines) = (program(), machines());
    let output = bounded_by(Duration::from_secs(300 + 2 * machines), move || {
        Command::new(program).args([&*machines.to_string(), runtime]).output().expect("it was built")
    });
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    let figure = |line: &str| {
        let (value, what) = line.strip_prefix(runtime)?.trim_start().split_once(' ')?;
        Some((what.to_owned(), value.parse().ok()?))
    };
    printed.lines().filter_map(figure).collect()
}

/// Asserts the counts of one runtime, and the bound on its memory, which are the same for any number of machines.
fn assert_counts(runtime: &'static str, threads: u32, descriptors: u32) {
    let figures = figures(runtime);
    let figure = |what: &str| *figures.get(what).unwrap_or_else(|| panic!("{what}: {figures:#?}"));
    assert_eq!(figure("threads"), f64::from(threads), "{figures:#?}");
    let opened = f64::from(descriptors) * machines() as f64;
    assert!((opened..=opened + SHARED).contains(&figure("descriptors for all machines")), "{figures:#?}");
    assert!(figure("bytes of memory of this program for each machine") <= MEMORY, "{figures:#?}");
    for nothing in ["machines that did not end by `quit`", "processes left", "files left"] {
        assert_eq!(figure(nothing), 0.0, "{nothing}: {figures:#?}");
    }
    // Those of the supervisor and of the reactor of async-io.
    assert!(figure("descriptors left") <= 5.0, "{figures:#?}");
}

/// The threads are those of the caller and the supervisor. The descriptors are the process, its monitor and its log, and the
/// two of a poller.
#[test]
fn many_machines_of_blocking_calls_share_two_threads() {
    assert_counts("blocking", 2, 5);
}

/// The registry of the loop is the fourth descriptor, in a copy of each machine.
#[test]
fn many_machines_of_one_loop_share_two_threads() {
    assert_counts("mio", 2, 4);
}

#[test]
fn many_machines_in_tasks_of_tokio_share_two_threads() {
    assert_counts("tokio", 2, 3);
}

/// One more is the reactor of async-io.
#[test]
fn many_machines_in_tasks_of_smol_share_three_threads() {
    assert_counts("smol", 3, 3);
}

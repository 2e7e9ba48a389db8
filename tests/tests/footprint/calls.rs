//! Tests of the number of system calls of a command, by the difference between few and many commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Error;
use std::path::PathBuf;
use std::process::Command;

use super::{CLIENT, memory::Server};
use crate::client::BATCH;
use qemu_machine_tests::null::Wealth;

const FEW: usize = 160;
const MANY: usize = 1600;

/// How often each row is measured. On a busy machine a run of few commands may find every reply there already, and waits
/// less often than usual; a run of many may wait more often. A call that each command makes is in every run.
const ROUNDS: usize = 3;

/// The rows whose calls are counted on one thread. Their supervisor polls every few milliseconds, however many commands
/// there are.
const ON_ONE_THREAD: [&str; 3] = ["threads", "loop", "batch"];

/// The system calls by name: those of all threads, or those of the thread that sends the commands.
fn calls(row: &str, commands: usize) -> BTreeMap<String, usize> {
    let server = Server::start(Wealth::default());
    let trace: PathBuf = server.directory().join("calls");
    // A process that is started counts until it executes its program (`strace(1)`, --detach-on).
    let client = Command::new("strace")
        .args(["-f", "-qq", "-b", "execve", "-e", "signal=none", "-e", "trace=all", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().expect("the test has an executable"))
        .args([CLIENT, row, &commands.to_string()])
        .arg(server.address())
        .status()
        .unwrap_or_else(|error: Error| panic!("strace is needed (apt-get install strace): {error}"));
    assert!(client.success(), "{client}");
    let trace = fs::read_to_string(trace).expect("strace wrote");
    let calls: Vec<(&str, &str)> = trace.lines().filter_map(call).collect();
    let sends = |thread: &str| calls.iter().filter(|(other, name)| *other == thread && *name == "sendto").count() > 9;
    let carries = |thread: &str| !ON_ONE_THREAD.contains(&row) || sends(thread);
    let mut counts = BTreeMap::new();
    let threads: Vec<&str> = {
        let mut all: Vec<&str> = calls.iter().map(|(thread, _)| *thread).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter(|thread| carries(thread)).collect()
    };
    for (_, name) in calls.iter().filter(|(thread, _)| threads.contains(thread)) {
        *counts.entry((*name).to_string()).or_default() += 1;
    }
    counts
}

/// The thread and the name of a call. `strace` writes an interrupted call in two lines; the second is not counted.
fn call(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    (!name.contains(' ')).then_some((thread, name))
}

/// Returns how many calls whose name contains a text each command needs, as [`for_each_of`].
fn for_each(row: &str) -> impl Fn(&str) -> f64 {
    for_each_of(row, FEW, MANY)
}

/// Returns how many calls whose name contains a text each command needs, or each launch: the difference between the most
/// that a few took and the least that many took. The empty text stands for all calls.
fn for_each_of(row: &str, few: usize, many: usize) -> impl Fn(&str) -> f64 {
    let units = (many - few) as f64;
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (calls(row, few), calls(row, many))).collect();
    let names: BTreeSet<String> = rounds.iter().flat_map(|(few, _)| few.keys().cloned()).collect();
    let each = move |name: &str| {
        let count = |counts: &BTreeMap<String, usize>| {
            counts.iter().filter(|(other, _)| other.contains(name)).map(|(_, count)| *count).sum::<usize>()
        };
        let few = rounds.iter().map(|(few, _)| count(few)).max().unwrap_or_default();
        let many = rounds.iter().map(|(_, many)| count(many)).min().unwrap_or_default();
        (many as f64 - few as f64) / units
    };
    let names = names.iter().map(|name| (each(name), name)).filter(|(count, _)| *count > 0.05);
    let frequent: Vec<_> = names.map(|(count, name)| format!("{name} {count:.2}")).collect();
    println!("{row}, calls for each: {}", frequent.join(", "));
    each
}

/// Tolerance for calls that locks and timers cause now and then.
const SLACK: f64 = 0.1;

/// Three calls: send, wait, receive. The wait is an epoll because the caller also reads the consoles while it waits: a
/// guest stops when its consoles are not read.
pub(crate) fn on_threads() {
    let calls = for_each("threads");
    assert!((calls("sendto") - 1.0).abs() < SLACK && (calls("recvmsg") - 1.0).abs() < SLACK);
    assert!(calls("") <= 3.0 + SLACK, "{}", calls(""));
}

pub(crate) fn in_a_loop() {
    let calls = for_each("loop");
    assert!((calls("sendto") - 1.0).abs() < SLACK && (calls("recvmsg") - 1.0).abs() < SLACK);
    assert!(calls("") <= 3.0 + SLACK, "{}", calls(""));
}

/// The most futexes of a command whose reply passes from one thread to another: each of two threads waits and wakes, and
/// again when it finds a lock taken. On a quiet machine there are two.
const FUTEXES: f64 = 6.0;

/// Asserts that a command of a task takes this many calls at most beside futexes, of which this many are waits.
fn in_a_task(row: &str, others: f64, waits: f64) {
    let calls = for_each(row);
    assert!((calls("sendto") - 1.0).abs() < SLACK && (calls("recvmsg") - 1.0).abs() < SLACK);
    assert!(calls("epoll") - calls("epoll_ctl") <= waits + SLACK, "{}", calls("epoll"));
    assert!(calls("") - calls("futex") <= others + SLACK, "{}", calls("") - calls("futex"));
    assert!(calls("futex") <= FUTEXES, "{}", calls("futex"));
}

/// Send, receive, re-arm the interest in more input, and five for a turn of smol's reactor. With two futexes there are ten
/// calls. On a busy machine the reactor sometimes has a second turn, because the driver's task woke the caller's task.
pub(crate) fn on_smol() {
    in_a_task("smol", ON_SMOL, 2.0);
}

/// On one thread there are eleven calls, of which three are futexes, when the thread of the reactor waits, as it does on a
/// quiet machine. Otherwise the reactor has two turns. Any two tasks on that reactor pay as much.
pub(crate) fn on_one_thread_of_smol() {
    in_a_task("smol_local", ON_SMOL, 2.0);
}

/// The reactor has a thread of its own, which wakes tokio's. With two futexes there are twelve calls.
pub(crate) fn on_smol_on_tokio() {
    in_a_task("smol_on_tokio", ON_SMOL, 2.0);
}

/// Three calls, and two turns of smol's reactor. A third turn is not needed, and a driver that spins takes hundreds.
const ON_SMOL: f64 = 14.0;

/// Send, wait, receive. The driver and the caller are two tasks on one thread, which wake each other without a call.
pub(crate) fn on_tokio_current() {
    in_a_task("tokio_current", 3.0, 1.0);
}

pub(crate) fn on_tokio_multi() {
    in_a_task("tokio_multi", 3.0, 1.0);
}

pub(crate) fn in_a_batch() {
    let calls = for_each("batch");
    assert!(calls("sendto") * BATCH as f64 <= 1.0 + SLACK, "{}", calls("sendto"));
}

/// The most calls of a launch on threads and of its end by `quit`, those of the new process before its program included.
/// There are 308; how often a wait returns varies by a few.
const LAUNCH: f64 = 325.0;

/// A launch costs processor time by its calls. Beside the process, two threads are started, for operations on files. Not
/// counted are the calls whose number depends on this program: the tries of the directories in `PATH`, and those for each
/// open descriptor.
pub(crate) fn of_a_launch() {
    let calls = for_each_of("launch", 1, 5);
    assert!((calls("clone") - 3.0).abs() < SLACK, "{}", calls("clone"));
    let counted = calls("") - calls("execve") - calls("fcntl");
    assert!(counted > 100.0 && counted <= LAUNCH, "{counted}");
}

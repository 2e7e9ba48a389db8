//! Tests of the number of system calls of a command, by the difference between few and many commands.

use std::collections::BTreeMap;
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

/// The system calls of the threads that carry commands, by name. The supervisor is not counted: it polls every few
/// milliseconds, however many commands there are.
fn calls(row: &str, commands: usize) -> BTreeMap<String, usize> {
    let server = Server::start(Wealth::default());
    let trace: PathBuf = server.directory().join("calls");
    let client = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-e", "trace=all", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().expect("the test has an executable"))
        .args([CLIENT, row, &commands.to_string()])
        .arg(server.address())
        .status()
        .unwrap_or_else(|error: Error| panic!("strace is needed (apt-get install strace): {error}"));
    assert!(client.success(), "{client}");
    let trace = fs::read_to_string(trace).expect("strace wrote");
    let calls: Vec<(&str, &str)> = trace.lines().filter_map(call).collect();
    let carries = |thread: &str| calls.iter().filter(|(other, name)| *other == thread && *name == "sendto").count() > 9;
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

/// Returns how many calls whose name contains a text each command needs: the difference between the most that few commands
/// and the least that many commands took. The empty text stands for all calls.
fn for_each(row: &str) -> impl Fn(&str) -> f64 {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (calls(row, FEW), calls(row, MANY))).collect();
    println!("{row}: {rounds:?}");
    move |name| {
        let count = |counts: &BTreeMap<String, usize>| {
            counts.iter().filter(|(other, _)| other.contains(name)).map(|(_, count)| *count).sum::<usize>()
        };
        let few = rounds.iter().map(|(few, _)| count(few)).max().unwrap_or_default();
        let many = rounds.iter().map(|(_, many)| count(many)).min().unwrap_or_default();
        (many as f64 - few as f64) / (MANY - FEW) as f64
    }
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

/// Thirteen calls: send, receive, re-arm the interest in more input, and twice five for smol's reactor. The reactor
/// polls once because the driver's task woke the caller's task, and once to wait. Any two tasks on that reactor pay as
/// much.
pub(crate) fn in_a_task() {
    let calls = for_each("task");
    assert!((calls("sendto") - 1.0).abs() < SLACK && (calls("recvmsg") - 1.0).abs() < SLACK);
    assert!(calls("epoll_pwait") <= 2.0 + SLACK, "{}", calls("epoll_pwait"));
    assert!(calls("") <= 13.0 + SLACK, "{}", calls(""));
}

pub(crate) fn in_a_batch() {
    let calls = for_each("batch");
    assert!(calls("sendto") * BATCH as f64 <= 1.0 + SLACK, "{}", calls("sendto"));
}

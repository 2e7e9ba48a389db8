//! Tests of the system calls of a command, and of the memory for a long reply and for idle connections.
//!
//! Each client is a process of its own, so that nothing else is counted: this program with other arguments, under
//! `strace` where calls are counted. The program has no test harness, whose threads would be counted too.

mod calls;
mod client;
mod memory;

use std::alloc::System;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;

use qemu_machine_tests::{PATIENCE, bounded_by};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts the bytes of the whole process, because threads of the host and of executors allocate too.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The argument that makes this process a client. The row, the task and the address of the server follow.
const CLIENT: &str = "--client";

/// The tests, each with its name.
const PROOFS: [(&str, fn()); 11] = [
    ("a_command_on_threads_takes_three_calls", calls::on_threads),
    ("a_command_in_a_loop_takes_three_calls", calls::in_a_loop),
    ("a_command_on_smol_takes_few_calls", calls::on_smol),
    ("a_command_on_one_thread_of_smol_takes_few_calls", calls::on_one_thread_of_smol),
    ("a_command_on_smol_takes_few_calls_when_tokio_drives", calls::on_smol_on_tokio),
    ("a_command_on_one_thread_of_tokio_takes_three_calls", calls::on_tokio_current),
    ("a_command_on_threads_of_tokio_takes_three_calls", calls::on_tokio_multi),
    ("a_batch_in_a_loop_is_sent_at_once", calls::in_a_batch),
    ("a_launch_takes_few_calls", calls::of_a_launch),
    ("a_reply_of_16_mb_takes_its_own_memory_and_little_more", memory::of_a_long_reply),
    ("an_idle_connection_takes_little_memory", memory::of_idle_connections),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [CLIENT, row, task, address] = *arguments {
        client::act(row, task, Path::new(address));
        return ExitCode::SUCCESS;
    }
    // As in Rust's test harness, arguments filter the tests by name.
    let wanted = |name: &str| arguments.iter().filter(|word| !word.starts_with('-')).all(|word| name.contains(word));
    let mut code = ExitCode::SUCCESS;
    for (name, proof) in PROOFS.into_iter().filter(|(name, _)| wanted(name)) {
        let verdict = if catch_unwind(|| bounded_by(PATIENCE, proof)).is_ok() {
            "ok"
        } else {
            code = ExitCode::FAILURE;
            "FAILED"
        };
        println!("proof {name} ... {verdict}");
    }
    code
}

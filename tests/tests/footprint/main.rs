//! Proves what a client asks of the system: calls for a command, and memory for what is long, many or idle.
//!
//! Each client is a process of its own, so that nothing else is counted: this one, with other arguments. It runs under
//! `strace` where calls are counted. That needs no harness of Rust's, and none can be in between.

mod calls;
mod client;
mod memory;

use std::path::Path;
use std::time::Duration;

use qemu_machine_tests::bounded_by;

/// Behind it stand the row, the task and where the server listens: this process is a client.
const CLIENT: &str = "--client";

/// What is proven, under its name.
const PROOFS: [(&str, fn()); 6] = [
    ("a_command_on_threads_takes_three_calls", calls::on_threads),
    ("a_command_in_a_loop_takes_three_calls", calls::in_a_loop),
    ("a_command_in_a_task_takes_few_calls", calls::in_a_task),
    ("a_batch_in_a_loop_is_sent_at_once", calls::in_a_batch),
    ("a_reply_of_16_mb_takes_its_own_memory_and_little_more", memory::of_a_long_reply),
    ("an_idle_connection_takes_little_memory", memory::of_idle_connections),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [CLIENT, row, task, address] = *arguments {
        return client::act(row, task, Path::new(address));
    }
    // As with Rust's harness: a word says which.
    let wanted = |name: &str| arguments.iter().filter(|word| !word.starts_with('-')).all(|word| name.contains(word));
    for (name, proof) in PROOFS.into_iter().filter(|(name, _)| wanted(name)) {
        bounded_by(Duration::from_secs(60), proof);
        println!("proof {name} ... ok");
    }
}

//! Stories of the capabilities of Python's `QEMUMachine`, on every runtime with the real QEMU.
//!
//! The name of a story begins with the number of its capability: 1 to 12 and 17 to 19 the launch, 13 and 14
//! descriptors, 15 and 16 consoles, 20 to 24 and 33 to 35 commands and events, 25 to 31 the end, 32 machines of other
//! programs, 36 logging, 37 the guest agent, 38 qtest. The others are in [`crate::real`], in [`crate::subscriptions`]
//! and in the files beside this suite.

mod attach;
mod commands;
mod consoles;
mod descriptors;
mod ends;
mod host;
mod start;

use std::path::Path;
use std::time::Duration;

use qemu_machine_core::{Config, Deadline};
use qemu_machine_tests::qemu;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(45));

/// A machine without devices, which is ready after a few milliseconds.
fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

/// The arguments of a process, as the kernel reports them (`proc(5)`).
fn cmdline(pid: u32) -> Vec<String> {
    let all = std::fs::read(format!("/proc/{pid}/cmdline")).expect("the process lives");
    all.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The target of a descriptor of a process.
fn link(pid: u32, descriptor: impl std::fmt::Display) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).expect("the descriptor is open");
    link.to_string_lossy().into_owned()
}

/// The targets of all descriptors of a process.
fn links(pid: u32) -> Vec<String> {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    // A descriptor may be closed during the listing.
    all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// The process group of a process.
fn group(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, behind_the_name) = stat.rsplit_once(')').expect("the name is in parentheses");
    behind_the_name.split_whitespace().nth(2).and_then(|group| group.parse().ok()).expect("the group is a number")
}

fn bytes(path: &Path) -> &[u8] {
    qemu_machine_tests::leak_check::bytes(path)
}

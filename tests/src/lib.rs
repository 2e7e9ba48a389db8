//! Shared parts of the tests: guests, a scripted QEMU, a simulated world, and guards against hangs and leaks.
#![allow(clippy::exhaustive_enums, reason = "no other crate depends on the tests")]

pub mod appended;
pub mod cargo;
pub mod frozen;
pub mod guest;
pub mod leak_check;
pub mod lease;
pub mod linux;
pub mod null;
pub mod player;
pub mod pss;
pub mod scripted;
pub mod sources;
pub mod torture;
pub mod world;

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::Duration;

/// The deadline of a test. A test takes seconds on an idle machine, and minutes beside eight busy loops on two processors;
/// the deadline only ends one that hangs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Returns the program name of the real QEMU.
///
/// # Panics
///
/// If QEMU is not on the `PATH`: a test that needs QEMU fails, and is not skipped.
#[must_use]
pub fn qemu() -> &'static str {
    installed("qemu-system-x86_64")
}

/// Returns the name of a program of the real QEMU, which emulates one architecture.
///
/// # Panics
///
/// As [`qemu`].
#[must_use]
pub fn installed(program: &'static str) -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    assert!(found, "{program} is missing: run `tests/setup true`");
    program
}

/// Returns the path of the real virtiofsd: a part of QEMU up to Debian 12, and of the package `virtiofsd` since then.
///
/// # Panics
///
/// If it is not installed.
#[must_use]
pub fn virtiofsd() -> &'static str {
    let places = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    let found = places.into_iter().find(|place| std::path::Path::new(place).is_file());
    found.unwrap_or_else(|| panic!("virtiofsd is missing: run `tests/setup true`"))
}

/// Returns whether the kernel reports the exit status of a process that is no child: from Linux 6.15 on.
///
/// # Panics
///
/// If the version of the kernel cannot be read.
#[must_use]
pub fn has_status_of_others() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel has a version");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Runs a test that may hang, for at most [`PATIENCE`].
///
/// # Panics
///
/// If the test panics, or does not return in time. In the latter case its thread goes on until this process ends.
pub fn bounded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    bounded_by(PATIENCE, test)
}

/// Runs a test that may hang, for at most `limit`.
///
/// # Panics
///
/// As [`bounded`].
pub fn bounded_by<T: Send + 'static>(limit: Duration, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = spawn(move || {
        let result = test();
        // This fails only when the receiver has timed out and is gone.
        let _ = sender.send(());
        result
    });
    match receiver.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("the test did not return within {limit:?}"),
        // The test returned, or it panicked and dropped the sender.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// The README, whose programs are doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

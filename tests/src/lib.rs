//! The parts that tests share: what they run, and how they are kept from hanging and from leaving things behind.
#![allow(clippy::exhaustive_enums, reason = "nobody depends on what proves")]

pub mod cargo;
pub mod cpio;
pub mod guest;
pub mod leak_check;
pub mod linux;
pub mod null;
pub mod player;
pub mod scripted;
pub mod sources;
pub mod torture;
pub mod world;

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::Duration;

/// How long one test may take. Each takes seconds on a quiet machine; the bound only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The real QEMU.
///
/// # Panics
///
/// When it is not on the `PATH`: a test that needs it fails and is not skipped.
#[must_use]
pub fn qemu() -> &'static str {
    const NAME: &str = "qemu-system-x86_64";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(NAME).is_file());
    assert!(found, "{NAME} is missing: apt-get install qemu-system-x86");
    NAME
}

/// Runs a test that would fail by hanging, for at most [`PATIENCE`].
///
/// # Panics
///
/// When the test does, and when it is not over in time. What it started ends with this process then.
pub fn bounded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    bounded_by(PATIENCE, test)
}

/// Runs a test that would fail by hanging, for at most so long.
///
/// # Panics
///
/// As [`bounded`].
pub fn bounded_by<T: Send + 'static>(limit: Duration, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = spawn(move || {
        let result = test();
        // Nobody is left to take it when the time was up.
        let _ = sender.send(());
        result
    });
    match receiver.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("not over after {limit:?}"),
        // It is over, or it panicked and so dropped its end.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// The programs of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

//! Decides what is fuzzed: ordinary functions of bytes that panic where something is not as it should be.
//!
//! `core/fuzz` runs them with bytes that a fuzzer makes up, and the stable test beside this with those that it found
//! worth keeping.

pub(crate) mod command_line;
mod framing;
mod host;
mod machine;
mod matcher;
mod message;
mod peer;
mod record;
mod session;
pub(crate) mod shell;
mod tape;

use tape::Tape;

/// Panics where something is not as it should be.
type Target = fn(&[u8]);

/// Each target by its name.
pub(crate) const ALL: [(&str, Target); 7] = [
    ("framing", framing::run),
    ("session", session::run),
    ("machine", machine::run),
    ("matcher", matcher::run),
    ("command_line", command_line::run),
    ("message", message::run),
    ("record", record::run),
];

/// Runs the target of this name.
///
/// # Panics
///
/// When something is not as it should be, or there is no such target.
pub(crate) fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.iter().find(|(other, _)| *other == name).expect("a target");
    target(data);
}

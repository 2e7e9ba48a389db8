//! Fuzz targets: functions of bytes that panic when a property does not hold.
//!
//! `core/fuzz` runs them with the inputs of a fuzzer, and the stable test beside this module with its corpora.

pub(crate) mod command_line;
mod framing;
mod host;
pub(crate) mod long;
mod matcher;
mod message;
mod peer;
mod record;
mod session;
pub(crate) mod shell;
mod tape;
pub(crate) mod world;

use tape::Tape;

/// A fuzz target. It panics when a property does not hold.
type Target = fn(&[u8]);

/// All targets by name.
pub(crate) const ALL: [(&str, Target); 7] = [
    ("framing", framing::run),
    ("session", session::run),
    ("world", world::run),
    ("matcher", matcher::run),
    ("command_line", command_line::run),
    ("message", message::run),
    ("record", record::run),
];

/// Runs the target of this name.
///
/// # Panics
///
/// When a property does not hold, or there is no such target.
pub(crate) fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.iter().find(|(other, _)| *other == name).expect("a target");
    target(data);
}

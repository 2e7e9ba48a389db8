//! Decides nothing: what is fuzzed is told in the tests of the core, where every build replays it.

#[path = "../../tests/fuzzed/targets/mod.rs"]
mod targets;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    targets::run(name, data);
}

//! Fuzz targets, included from the tests of the core, which replay the corpora in every build.

#[path = "../../tests/fuzzed/targets/mod.rs"]
mod targets;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    targets::run(name, data);
}

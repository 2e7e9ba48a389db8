//! Fuzz targets, included from the tests of the core, which replay the corpora in every build.

use std::path::Path;

#[path = "../../tests/fuzzed/targets/mod.rs"]
mod targets;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    targets::run(name, data);
}

/// Writes the long inputs of the target of this name to the directory `FUZZ_SEEDS_TO`, if that is set.
///
/// # Panics
///
/// When a file cannot be written.
pub fn write_seeds(name: &str) {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS_TO") else { return };
    for (seed, data) in targets::long::seeds(name) {
        std::fs::write(Path::new(&directory).join(seed), data).expect("the directory can be written");
    }
}

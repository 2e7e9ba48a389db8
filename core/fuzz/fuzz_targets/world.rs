//! Fuzz target `world`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("world"), |data: &[u8]| run("world", data));

//! Fuzz target `matcher`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("matcher"), |data: &[u8]| run("matcher", data));

//! Fuzz target `session`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("session"), |data: &[u8]| run("session", data));

//! Fuzz target `record`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("record"), |data: &[u8]| run("record", data));

//! Fuzz target `machine`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("machine"), |data: &[u8]| run("machine", data));

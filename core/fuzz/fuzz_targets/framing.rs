//! Fuzz target `framing`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("framing"), |data: &[u8]| run("framing", data));

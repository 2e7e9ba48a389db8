//! Fuzz target `message`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("message"), |data: &[u8]| run("message", data));

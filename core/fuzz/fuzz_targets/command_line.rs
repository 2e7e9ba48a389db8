//! Fuzz target `command_line`.
#![no_main]

use qemu_machine_fuzz::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("command_line"), |data: &[u8]| run("command_line", data));

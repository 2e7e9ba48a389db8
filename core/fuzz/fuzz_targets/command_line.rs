//! Fuzz target `command_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| qemu_machine_fuzz::run("command_line", data));

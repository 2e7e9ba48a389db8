//! Fuzz target `message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| qemu_machine_fuzz::run("message", data));

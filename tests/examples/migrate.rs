//! Example: migrates a running machine, with its state, from one QEMU to another.
//!
//! `cargo run --package qemu-machine-tests --example migrate`

use std::error::Error;
use std::time::Duration;

use qemu_machine_blocking::procedure::Migrate;
use qemu_machine_blocking::{Config, Mark, Shutdown, Vm, Wait};
use qemu_machine_tests::guest::{GREETING, ImageFile, arguments};

const WITHIN: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    // A guest of 64 KiB, which prints a greeting and then echoes its input. A migration needs the same configuration on
    // both sides.
    let image = ImageFile::create()?;
    let guest =
        || Config::new("qemu-system-x86_64").args(["-accel", "tcg"]).args(arguments(image.path())).serial("tty");

    let here = Vm::launch(guest())?;
    let begun = here.wait_any(&Mark::default(), [Wait::text("tty", GREETING)], WITHIN)?;
    println!("here:  {}", echo(&here, &begun.mark, "one")?);

    // The target has the same configuration, and waits for the state instead of booting. `defer` makes QEMU listen only
    // when `Migrate::listen` runs.
    let there = Vm::launch(guest().args(["-incoming", "defer"]))?;
    let directory = tempfile::tempdir()?;
    let address = format!("unix:{}", directory.path().join("migration").display());
    println!("there: {:?}", there.run(Migrate::listen(&address), WITHIN)?);
    println!("here:  {:?}", here.run(Migrate::to(&address), WITHIN)?);
    println!("there: {:?}", there.run(Migrate::arrival(), WITHIN)?);

    // The guest continues on the target, and has not booted again.
    println!("there: {}", echo(&there, &Mark::default(), "two")?);
    println!("here:  running: {}, {}", here.execute("query-status")?["running"], here.shutdown(Shutdown::default())?);
    println!("there: running: {}, {}", there.execute("query-status")?["running"], there.shutdown(Shutdown::default())?);
    Ok(())
}

/// Types a word and a dot, waits for the echo, and returns everything that the guest has printed since a mark.
fn echo(vm: &Vm, since: &Mark, word: &str) -> Result<String, Box<dyn Error>> {
    vm.console_write("tty", format!("{word}."))?;
    vm.wait_any(since, [Wait::text("tty", format!("{word}."))], WITHIN)?;
    Ok(String::from_utf8_lossy(&vm.console("tty", since)?).trim().to_owned())
}

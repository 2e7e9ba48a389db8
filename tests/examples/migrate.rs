//! Moves a machine that runs from one QEMU to another, with what it is doing.
//!
//! `cargo run --package qemu-machine-tests --example migrate`

use std::error::Error;
use std::time::Duration;

use qemu_machine_blocking::procedure::Migrate;
use qemu_machine_blocking::{Config, Mark, Shutdown, Vm, Wait};
use qemu_machine_tests::guest::{GREETING, ImageFile, arguments};

const WITHIN: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    // A guest of 64 KiB, which greets and then echoes what is typed. Yours is configured alike on both sides as well.
    let image = ImageFile::create()?;
    let guest =
        || Config::new("qemu-system-x86_64").args(["-accel", "tcg"]).args(arguments(image.path())).serial("tty");

    let here = Vm::launch(guest())?;
    let begun = here.wait_any(&Mark::default(), [Wait::text("tty", GREETING)], WITHIN)?;
    println!("here:  {}", echo(&here, &begun.mark, "one")?);

    // The other side is the same machine, which waits for its state instead of booting. It is told when to listen.
    let there = Vm::launch(guest().args(["-incoming", "defer"]))?;
    let directory = tempfile::tempdir()?;
    let address = format!("unix:{}", directory.path().join("migration").display());
    println!("there: {:?}", there.run(Migrate::listen(&address), WITHIN)?);
    println!("here:  {:?}", here.run(Migrate::to(&address), WITHIN)?);
    println!("there: {:?}", there.run(Migrate::arrival(), WITHIN)?);

    // It goes on there, and has not booted again.
    println!("there: {}", echo(&there, &Mark::default(), "two")?);
    println!("here:  {}, {}", here.execute("query-status")?["status"], here.shutdown(Shutdown::default())?);
    println!("there: {}, {}", there.execute("query-status")?["status"], there.shutdown(Shutdown::default())?);
    Ok(())
}

/// Types a word and a dot, and gives what the guest has printed since a position.
fn echo(vm: &Vm, since: &Mark, word: &str) -> Result<String, Box<dyn Error>> {
    vm.console_write("tty", format!("{word}."))?;
    vm.wait_any(since, [Wait::text("tty", format!("{word}."))], WITHIN)?;
    Ok(String::from_utf8_lossy(&vm.console("tty", since)?).trim().to_owned())
}

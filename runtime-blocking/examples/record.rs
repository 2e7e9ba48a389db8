//! Program that writes the record of a short run to a file, for a bug report or for tests without a QEMU.
//!
//!     cargo run --package qemu-machine-blocking --example record -- FILE

use std::error::Error;
use std::{env, fs};

use qemu_machine_blocking::{Config, Shutdown, Vm};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("usage: record FILE")?;
    let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none", "-S"]).recorded())?;
    println!("{}", vm.execute("query-status")?);
    vm.execute("cont")?;
    let outcome = vm.shutdown(Shutdown::default())?;
    let record = outcome.record.ok_or("the machine was not recorded")?;
    fs::write(file, &*record)?;
    Ok(())
}

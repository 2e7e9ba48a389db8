//! Prints a record as people read it, and says whether the run in it comes out the same when it is lived again.
//!
//!     cargo run --package qemu-machine-core --example timeline -- RECORD

use std::error::Error;
use std::{env, fs};

use qemu_machine_core::record::Record;

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("usage: timeline RECORD")?;
    let record: Record = fs::read_to_string(file)?.parse()?;
    print!("{:#}", record.timeline());
    match record.replay() {
        Ok(machine) => println!("replayed: {:?}", machine.state()),
        Err(diverged) => println!("not replayed: {diverged}"),
    }
    Ok(())
}

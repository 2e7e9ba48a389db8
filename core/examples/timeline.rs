//! Example that prints the timeline of a record, replays the record, and reports whether the replay agrees.
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

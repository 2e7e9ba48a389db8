//! Example that prints the timeline of a record, replays the record, and reports whether the replay agrees. With `--report`
//! it prints a page of HTML instead.
//!
//!     cargo run --package qemu-machine-core --example timeline -- [--report] RECORD

use std::error::Error;
use std::{env, fs};

use qemu_machine_core::record::Record;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (file, is_page) = match &*arguments {
        [option, file] if option == "--report" => (file, true),
        [file] => (file, false),
        _ => return Err("usage: timeline [--report] RECORD".into()),
    };
    let record: Record = fs::read_to_string(file)?.parse()?;
    if is_page {
        print!("{}", record.report());
        return Ok(());
    }
    print!("{:#}", record.timeline());
    match record.replay() {
        Ok(machine) => println!("replayed: {:?}", machine.state()),
        Err(diverged) => println!("not replayed: {diverged}"),
    }
    Ok(())
}

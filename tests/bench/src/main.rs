//! Decides what the bench is: every workload on every client, beside the bare socket, in one run.
//!
//! ```text
//! cargo run --release --manifest-path tests/bench/Cargo.toml                 all of it, into speed.md and speed.svg
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --quick      a tenth of it, to the standard output
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --rounds 3   in so many rounds, and builds nothing
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --one blocking "turns 400000"   for a profiler
//! ```
//!
//! Servers and clients are processes of their own on one and the same processor: between two, what is measured is how
//! long a processor takes to wake up. Each round has every client once, so that what else the machine does meets all of
//! them, and what is told are medians, and ratios to the bare socket in the same run.

mod clients;
mod connections;
mod decode;
mod goals;
mod launch;
mod meter;
mod page;
mod plan;
mod plot;
mod rounds;
mod server;
mod size;

use std::io;

/// Behind it stand the client, the workload and where the server listens: this process is a client.
const CLIENT: &str = "--client";
/// Behind it stands what the server has to give: this process is one, on its standard input.
const SERVER: &str = "--server";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [CLIENT, client, workload, address] => clients::act(client, &workload.parse()?, address.as_ref()),
        [SERVER, workload] => server::serve(&workload.parse()?),
        [] => {
            let mut found = rounds::all(plan::Plan::whole())?;
            // Building takes minutes more.
            page::write(&found)?;
            found.extend(sizes()?);
            page::write(&found)
        }
        ["--size"] => {
            print!("{}", page::table(&sizes()?.collect(), plan::Workload::Size));
            Ok(())
        }
        ["--rounds", rounds] => {
            let rounds = rounds.parse().map_err(io::Error::other)?;
            page::write(&rounds::all(plan::Plan { rounds, ..plan::Plan::whole() })?)
        }
        ["--quick"] => {
            print!("{}", page::text(&rounds::all(plan::Plan::quick())?)?);
            Ok(())
        }
        ["--one", client, workload] => {
            let taken = rounds::one(client, workload.parse()?)?;
            println!("{taken:?}");
            Ok(())
        }
        _ => Err(io::Error::other(format!("what is this? {arguments:?}"))),
    }
}

/// What each client costs to build.
fn sizes() -> io::Result<impl Iterator<Item = ((plan::Workload, &'static str), meter::Taken)>> {
    Ok(size::all()?.into_iter().map(|(client, taken)| ((plan::Workload::Size, client), taken)))
}

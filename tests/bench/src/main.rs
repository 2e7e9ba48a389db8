//! Benchmark of all clients: every workload on every client and on the bare socket, in one run.
//!
//! ```text
//! cargo run --release --manifest-path tests/bench/Cargo.toml                 everything, into speed.md and the pictures
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- templates    those of templates, and into templates.svg
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --quick      a small part, to the standard output
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --rounds 3   as a whole run, without the builds
//! cargo run --release --manifest-path tests/bench/Cargo.toml -- --one blocking "turns 400000"   for a profiler
//! ```
//!
//! Servers and clients are separate processes on one processor: on two, the time of a processor to wake up would
//! dominate the result. Only the workloads of templates use all: a guest runs beside its client. Each round runs every
//! client once, so that other load on the machine affects all of them; and all is measured in three runs. A time is
//! the least of the rounds of a run, and each number the median of the runs. The goals have the spread of the runs beside
//! them.

mod clients;
mod connections;
mod decode;
mod goals;
mod launch;
mod meter;
mod page;
mod picture;
mod plan;
mod plot;
mod rounds;
mod server;
mod size;
mod templates;

use std::io;

/// The option that makes this process a client. The client, the workload and the address of the server follow.
const CLIENT: &str = "--client";
/// The option that makes this process a server, for the socket on its standard input. The workload follows.
const SERVER: &str = "--server";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [CLIENT, client, workload, address] => clients::act(client, &workload.parse()?, address.as_ref()),
        [SERVER, workload] => server::serve(&workload.parse()?),
        [] => {
            let mut runs = rounds::all(&plan::Plan::whole())?;
            // The builds take some minutes more, so write the other results first.
            page::write(&runs)?;
            let sizes: rounds::Found = sizes()?.collect();
            runs.iter_mut().for_each(|found| found.extend(sizes.iter().map(|(key, taken)| (*key, *taken))));
            page::write(&runs)
        }
        ["--size"] => {
            print!("{}", page::table(&sizes()?.collect(), plan::Workload::Size));
            Ok(())
        }
        ["--rounds", rounds] => {
            let rounds = rounds.parse().map_err(io::Error::other)?;
            page::write(&rounds::all(&plan::Plan { rounds, ..plan::Plan::whole() })?)
        }
        ["--quick"] => {
            print!("{}", page::text(&rounds::all(&plan::Plan::quick())?)?);
            Ok(())
        }
        ["templates"] => page::write_templates(&rounds::all(&plan::Plan::templates())?),
        ["--one", client, workload] => {
            let taken = rounds::one(client, workload.parse()?)?;
            println!("{taken:?}");
            Ok(())
        }
        _ => Err(io::Error::other(format!("unknown arguments {arguments:?}"))),
    }
}

/// Measures the cost of the build with each client.
fn sizes() -> io::Result<impl Iterator<Item = ((plan::Workload, &'static str), meter::Taken)>> {
    Ok(size::all()?.into_iter().map(|(client, taken)| ((plan::Workload::Size, client), taken)))
}

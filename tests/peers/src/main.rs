//! Matrix of QMP clients and misbehaving peers: runs each client against each peer.
//!
//! ```text
//! cargo run --release --manifest-path tests/peers/Cargo.toml                        all cells, as a page of Markdown
//! cargo run --release --manifest-path tests/peers/Cargo.toml -- --only NAME         one line, step by step
//! ```
//!
//! Each cell is a process of its own with a deadline, so that a client may hang or panic. The peer is another process,
//! and a Unix socket connects the two.

mod cell;
mod clients;
mod left_out;
mod page;
mod verdict;

use std::io::{self, Write};

use qemu_machine_tests::scripted::SCRIPT;
use qemu_machine_tests::torture::{self, Torture};

use clients::Client;

/// The option that makes this process one cell. The client and the name of the peer follow.
const CELL: &str = "--cell";
/// The option that plays one peer only. The name of the peer follows.
const ONLY: &str = "--only";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [SCRIPT, ..] => qemu_machine_tests::player::play(),
        [CELL, client, name] => cell::play(Client::named(client)?, &named(name)?)?,
        [ONLY, name] => one(&named(name)?)?,
        [] => page::all(peers())?,
        _ => return Err(io::Error::other(format!("unknown arguments {arguments:?}; usage: [--only NAME]"))),
    }
    Ok(())
}

/// Returns all peers.
fn peers() -> Vec<Torture> {
    [torture::all(), torture::heavy()].concat()
}

fn named(name: &str) -> io::Result<Torture> {
    let found = peers().into_iter().find(|torture| torture.name == name);
    found.ok_or_else(|| io::Error::other(format!("no peer is named {name}")))
}

/// Prints the steps and the verdict of each client with one peer.
fn one(torture: &Torture) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}\nright: {:?}", torture.name, torture.plays, torture.tells)?;
    for client in Client::ALL {
        let seen = cell::watch(client, torture)?;
        writeln!(out, "\n{}: {}", client.name(), verdict::of(client, torture, &seen))?;
        seen.steps.iter().try_for_each(|(step, answer)| writeln!(out, "    {step}: {answer}"))?;
        write!(out, "{}", seen.words)?;
    }
    Ok(())
}

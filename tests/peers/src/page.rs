//! Page of the matrix: Markdown with an introduction, the table and the descriptions of the peers.

use std::io::{self, Write};
use std::process::Command;
use std::thread;

use qemu_machine_tests::torture::Torture;

use crate::cell;
use crate::clients::Client;
use crate::left_out;
use crate::verdict::{self, Verdict};

const HEADER: &str = "\
# Other QMP clients with the same misbehaving peers

A peer is a script for a QEMU whose monitor misbehaves. `tests/src/torture/` has the scripts, each with the transcript
that the runtimes of this repository must report (`heavy.rs` there has some that only run here). Here the same scripts
run against other clients. Each cell is a process of its own, and its peer is another process behind a Unix socket.
Every client does the same: it connects, and sends the commands `first`, `second` and `last`, each regardless of the
result of the one before. A name may begin with the number of a promise in [the list of promises](../promises.md).

The first command prints this page. The second prints one row step by step, with the output of each client:

```sh
cargo run --locked --release --manifest-path tests/peers/Cargo.toml > tests/peers/MATRIX.md
cargo run --locked --release --manifest-path tests/peers/Cargo.toml -- --only NAME
```

The cells:

- *right*: each step had the right answer, or an error where there is no right answer.
- *no connection*, *error (step)*, *connection lost (step)*: an error where there is a right answer. The caller is
  notified, but loses more than necessary: a lost connection answers no later step either.
- ***wrong answer***: a step had the answer of another step, or an answer where the peer gave no valid one. ***accepts
  it as a monitor***: the client connected to a peer that did not greet or negotiate. ***panic***, ***crash***: the
  program ended.
- *raw escape sequences (step)*: the text of the error has control characters of the peer, which reach the terminal or
  the log on which the caller prints it.
- ***hang***: no answer until the matrix killed the process, after some seconds. Each client has the deadlines that its
  own interface accepts. `qapi` accepts none; `qmp` accepts one for the reply to a command, but none for the connection
  or for writing. A caller can add deadlines (a read timeout of the socket, `tokio::time::timeout`); the state of the
  connection after them is not tested.
- *-*: only an id can show that a reply belongs to no command, or is a repetition, and the client sends no ids. QEMU
  replies in order, so ids matter only when something goes wrong. (On tokio, `qapi` would send ids to a QEMU that offers
  `oob`, as this one does; version 0.15.0 does not recognise the offer.)

The matrix is no judgement of these crates. The peers and transcripts were written for the promises of this repository.
No QEMU behaves like most of the peers, and the other crates may promise other things. If a cell is unfair, please
report it.
";

/// Prints the page.
pub fn all(peers: Vec<Torture>) -> io::Result<()> {
    let (tortures, others): (Vec<_>, Vec<_>) = peers.into_iter().partition(left_out::is_in);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{HEADER}\nRun on {}, with `qemu-machine-blocking` of this checkout, `qapi` 0.15.0 (its",
        today()?.trim()
    )?;
    writeln!(out, "blocking client, and its tokio client) and `qmp` 0.1.1:\n")?;
    let names: Vec<_> = Client::ALL.iter().map(|client| client.name()).collect();
    writeln!(out, "| peer | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    let mut columns = Client::ALL.map(|_| Vec::new());
    for torture in &tortures {
        let verdicts = row(torture)?;
        let cells: Vec<_> = verdicts.iter().map(Verdict::to_string).collect();
        writeln!(out, "| `{}` | {} |", torture.name, cells.join(" | "))?;
        columns.iter_mut().zip(verdicts).for_each(|(column, verdict)| column.push(verdict));
    }
    sums(&mut out, &columns)?;
    writeln!(
        out,
        "\nPeers that are left out, because a verdict would be unfair:\n\n{}",
        left_out::reasons(&others).join("\n")
    )?;
    writeln!(out, "\nThe peers:\n")?;
    tortures.iter().try_for_each(|torture| writeln!(out, "- `{}`: {}", torture.name, torture.plays))
}

/// Runs the cells of one row of the table, in parallel.
fn row(torture: &Torture) -> io::Result<Vec<Verdict>> {
    thread::scope(|cells| {
        let watch = |client| cells.spawn(move || Ok(verdict::of(client, torture, &cell::watch(client, torture)?)));
        let cells = Client::ALL.map(watch);
        let panicked = || io::Error::other("the matrix itself panicked");
        cells.into_iter().map(|cell| cell.join().unwrap_or_else(|_| Err(panicked()))).collect()
    })
}

type Kind = (&'static str, fn(&Verdict) -> bool);

fn sums(out: &mut impl Write, columns: &[Vec<Verdict>]) -> io::Result<()> {
    let kinds: [Kind; 4] = [
        ("right", |verdict| *verdict == Verdict::Right),
        ("an error instead", |verdict| matches!(verdict, Verdict::Unforgiving(_))),
        ("**wrong, hang or panic**", |verdict| matches!(verdict, Verdict::Wrong(_))),
        ("-", |verdict| *verdict == Verdict::Nothing),
    ];
    kinds.iter().try_for_each(|(kind, is_of_it)| {
        let count = |column: &Vec<Verdict>| column.iter().filter(|verdict| is_of_it(verdict)).count().to_string();
        let counts: Vec<_> = columns.iter().map(count).collect();
        writeln!(out, "| {kind}: of {} | {} |", columns[0].len(), counts.join(" | "))
    })
}

fn today() -> io::Result<String> {
    let date = Command::new("date").arg("+%F").output()?;
    String::from_utf8(date.stdout).map_err(io::Error::other)
}

//! Decides how the matrix is written: a page of Markdown, with what one must know to judge it.

use std::io::{self, Write};
use std::process::Command;
use std::thread;

use qemu_machine_tests::torture::{self, Torture};

use crate::cell;
use crate::clients::Client;
use crate::left_out;
use crate::verdict::{self, Verdict};

const HEADER: &str = "\
# The same misbehaving peers, played to other clients

A peer is a script that plays a QEMU which misbehaves at its monitor: `tests/src/torture/` has them, each with the
transcript that our own runtimes must tell of it. Here the same scripts are played to other clients. Each cell is a
process of its own, with the peer in another one at the end of a Unix socket. Every client does the same: it connects,
and sends the commands `first`, `second` and `last`, each whatever became of the one before. A number before a name is
that of a promise in [a list](../promises.md).

This page is printed by the program, and one line of it, step by step, with what each client said:

```sh
cargo run --locked --release --manifest-path tests/peers/Cargo.toml > tests/peers/MATRIX.md
cargo run --locked --release --manifest-path tests/peers/Cargo.toml -- --only NAME
```

How to read it:

- *right*: each step had the right answer, or an error where there is no right one.
- *no connection*, *error (step)*, *connection lost (step)*: an error where there is a right answer. The caller learns of
  it, but loses more than it must: a connection that is lost answers no later step either.
- ***wrong answer***: a step had an answer that is not its own, or one where the peer gave none. ***takes it for a
  monitor***: it connected to what never greeted or negotiated. ***panic***, ***crash***: the program ended.
- ***hang***: no answer until the matrix ended the process, after seconds. Each client has the deadlines that its own
  interface takes. `qapi` takes none, and `qmp` one for the reply to a command, not for the connection or for writing. A
  caller can bring one from outside (a read timeout of the socket, `tokio::time::timeout`); what becomes of the
  connection then is not tried.
- *-*: it is the id by which one can tell what the peer says to nobody, or twice, and the client sends none. QEMU answers
  in order, so that it does not need one before something goes wrong. (`qapi` would send ids on tokio to a QEMU that
  offers `oob`, as this one does; version 0.15.0 does not see the offer.)

What it is not: a judgement of these crates. We wrote the peers and the transcripts, for what we promise; most of them
no QEMU ever plays, and the others may have promised other things. Who finds a cell that is unfair is asked to say so.
";

/// All of it.
pub fn all() -> io::Result<()> {
    let (tortures, others): (Vec<_>, Vec<_>) = torture::all().into_iter().partition(left_out::is_in);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{HEADER}\nPlayed on {}, to `qemu-machine-blocking` as it is here, to `qapi` 0.15.0 (its",
        today()?.trim()
    )?;
    writeln!(out, "blocking client, and the one for tokio) and to `qmp` 0.1.1:\n")?;
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
    writeln!(out, "\nLeft out, because it would not be fair:\n\n{}", left_out::reasons(&others).join("\n"))?;
    writeln!(out, "\nWhat the peers play:\n")?;
    tortures.iter().try_for_each(|torture| writeln!(out, "- `{}`: {}", torture.name, torture.plays))
}

/// The cells of one line, at the same time.
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

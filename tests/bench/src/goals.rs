//! Goals of the benchmark, each with the reason why it may be missed.

use std::fmt::Write as _;

use crate::meter::Taken;
use crate::plan::{Reading, Workload};
use crate::rounds::Found;

/// A goal: an upper bound for a value that is computed from the results.
struct Goal {
    what: &'static str,
    most: f64,
    value: fn(&Found) -> Option<f64>,
    /// The reason where the goal is missed.
    limit: &'static str,
}

/// Returns the CPU time of a launch with `blocking` above that with `raw`, in milliseconds, by a program of so many MiB.
fn launch_above_raw(found: &Found, memory: usize) -> Option<f64> {
    let launch = |workload| matches!(workload, Workload::Launch(_, other) if other == memory);
    let launches = found.keys().find(|(workload, _)| launch(*workload))?.0.units() as f64;
    Some((taken(found, "blocking", launch)?.cpu - taken(found, "raw", launch)?.cpu) * 1e3 / launches)
}

/// Returns the cost of the last workload of a kind with one client.
fn taken(found: &Found, client: &str, wanted: impl Fn(Workload) -> bool) -> Option<Taken> {
    found.iter().rfind(|((workload, other), _)| *other == client && wanted(*workload)).map(|(_, taken)| *taken)
}

fn cpu(found: &Found, client: &str, limit: &str, wanted: fn(Workload) -> bool) -> Option<f64> {
    Some(taken(found, client, wanted)?.cpu / taken(found, limit, wanted)?.cpu)
}

fn wall(found: &Found, client: &str, limit: &str, wanted: fn(Workload) -> bool) -> Option<f64> {
    Some(taken(found, client, wanted)?.wall / taken(found, limit, wanted)?.wall)
}

fn turns(workload: Workload) -> bool {
    matches!(workload, Workload::Turns(_))
}

fn qemu(workload: Workload) -> bool {
    matches!(workload, Workload::Qemu(_))
}

fn flood(workload: Workload) -> bool {
    matches!(workload, Workload::Flood(_))
}

fn schema(workload: Workload) -> bool {
    matches!(workload, Workload::Large(bytes, _, Reading::WithRawReply) if bytes < 1 << 20)
}

fn many_connections(workload: Workload) -> bool {
    matches!(workload, Workload::Connections(connections, _) if connections >= 50)
}

fn template(workload: Workload) -> bool {
    matches!(workload, Workload::Template(_))
}

fn machines(workload: Workload) -> bool {
    matches!(workload, Workload::Machines(20))
}

/// The clients on tokio's reactor.
const ON_TOKIO: [&str; 2] = ["tokio current", "tokio multi"];
/// All clients of this library.
const OURS: [&str; 5] = ["blocking", "mio", "smol", "tokio current", "tokio multi"];
/// The other clients.
const OTHERS: [&str; 4] = ["qapi", "qapi+BufWriter", "qapi tokio", "qmp"];

/// Returns the largest of these values. `None` if one is unknown.
fn largest(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    values.into_iter().collect::<Option<Vec<f64>>>()?.into_iter().max_by(f64::total_cmp)
}

/// Returns the cost of commands in flight.
fn in_flight(found: &Found, client: &str, depth: usize) -> Option<Taken> {
    taken(found, client, |workload| matches!(workload, Workload::InFlight(other, _) if other == depth))
}

/// Returns the CPU time of the slower client on tokio, as a multiple of that of the faster other client on tokio.
fn on_tokio(found: &Found, depth: usize) -> Option<f64> {
    let cpu = |client| Some(in_flight(found, client, depth)?.cpu);
    let faster = ["qapi tokio", "qmp"].into_iter().filter_map(cpu).min_by(f64::total_cmp)?;
    Some(largest(ON_TOKIO.map(cpu))? / faster)
}

/// Returns the CPU time of a command with so many threads, as a multiple of that with one.
fn on_threads(found: &Found, threads: usize) -> Option<f64> {
    Some(in_flight(found, "blocking", threads)?.cpu / in_flight(found, "blocking", 1)?.cpu)
}

/// Returns the time of commands in batches, as a multiple of that of raw.
fn in_a_batch(found: &Found, client: &str, depth: usize) -> Option<f64> {
    Some(in_flight(found, client, depth)?.wall / in_flight(found, "raw", depth)?.wall)
}

/// The clients that send a batch and need no executor of smol's.
const BATCHES: [&str; 4] = ["blocking batch", "mio batch", "tokio current batch", "tokio multi batch"];

const BATCH_LIMIT: &str = "as with `mio` above: the calls are as few as those of raw (a gate counts them), and the rest is \
                           the work of the library for each command";

const GOALS: &[Goal] = &[
    Goal {
        what: "a command with `blocking`, CPU time × raw epoll",
        most: 1.1,
        value: |found| cpu(found, "blocking", "raw epoll", turns),
        limit: "the timeout of the wait is a tenth of raw; the third call costs nothing measurable, because a client \
                that sleeps in one call need not sleep in the other. The rest is this library: ids, deadlines and the \
                lock, the clock, the envelope (`profile.md`)",
    },
    Goal {
        what: "a command with `mio`, CPU time × raw epoll",
        most: 1.1,
        value: |found| cpu(found, "mio", "raw epoll", turns),
        limit: "the calls are the same three, with a timeout; the rest is ids and deadlines, the clock, and the \
                envelope (`profile.md`)",
    },
    Goal {
        what: "a command with `blocking`, CPU time × the best other client",
        most: 1.0,
        value: |found| largest(OTHERS.map(|other| cpu(found, "blocking", other, turns))),
        limit: "`qapi` with a buffered writer sends no id, knows no deadline and cannot be shared by threads: it waits in \
                the call that receives, and reads the next line as the reply",
    },
    Goal {
        what: "a command with `smol`, CPU time × raw",
        most: 2.0,
        value: |found| cpu(found, "smol", "raw", turns),
        limit: "two tasks, one for the caller and one for the driver; between them smol's executor polls once more. A \
                bare loop on async-io, with one task, is in the table",
    },
    Goal {
        what: "a command with `tokio current` and `tokio multi`, CPU time × raw",
        most: 1.6,
        value: |found| largest(ON_TOKIO.map(|client| cpu(found, client, "raw", turns))),
        limit: "two tasks, as with `smol`; the other clients on tokio take as long or longer (the next row)",
    },
    Goal {
        what: "a command with `tokio current` and `tokio multi`, CPU time × the better of `qapi tokio` and `qmp`",
        most: 1.0,
        value: |found| on_tokio(found, 1),
        limit: "a tie: three quarters of the time is the kernel's, for both. The fewer calls of this library (3 for 4.5) \
                pay for the deadline of each command, with which each wait has a timeout; the others have none",
    },
    Goal {
        what: "16 in flight with `tokio current` and `tokio multi`, CPU time × the better of `qapi tokio` and `qmp`; a \
               future for each command in all",
        most: 1.0,
        value: |found| on_tokio(found, 16),
        limit: "",
    },
    Goal { what: "the same with 64 in flight", most: 1.0, value: |found| on_tokio(found, 64), limit: "" },
    Goal {
        what: "a command with `blocking` by 16 threads, CPU time × that by one",
        most: 1.3,
        value: |found| on_threads(found, 16),
        limit: "one of the runs; how often a thread sleeps is counted by a gate (1.2 times a command at most)",
    },
    Goal { what: "the same by 64 threads", most: 1.3, value: |found| on_threads(found, 64), limit: "" },
    Goal {
        what: "a command to QEMU with `blocking`, time × raw",
        most: 1.02,
        value: |found| wall(found, "blocking", "raw", qemu),
        limit: "noise: the request is the same, and QEMU takes twenty times as long as the client",
    },
    Goal {
        what: "the same, time × the best other client",
        most: 1.0 / 1.15,
        value: |found| largest(OTHERS.map(|other| wall(found, "blocking", other, qemu))),
        limit: "`qapi` with a buffered writer sends no id, and so fewer bytes",
    },
    Goal {
        what: "16 in flight with `mio`, a ticket for each command, time × raw, which sends and receives all at once",
        most: 1.0 / 0.65,
        value: |found| wall(found, "mio", "raw", |workload| matches!(workload, Workload::InFlight(16, _))),
        limit: "all work of the library is for each command, where raw sends and receives all at once: ids and \
                deadlines take a fifth, the envelope and the slice of the reply an eighth each, then encoding and \
                the clock",
    },
    Goal {
        what: "64 in flight with `mio`, the same way, time × raw",
        most: 1.0 / 0.65,
        value: |found| wall(found, "mio", "raw", |workload| matches!(workload, Workload::InFlight(64, _))),
        limit: "as with 16; raw, which parses nothing, gets faster with each command more, and the library is at its \
                cost for one reply",
    },
    Goal {
        what: "16 in a batch with `blocking`, `mio` and on tokio, time × raw, which sends and receives all at once",
        most: 1.34,
        value: |found| largest(BATCHES.map(|client| in_a_batch(found, client, 16))),
        limit: BATCH_LIMIT,
    },
    Goal {
        what: "the same with `smol`",
        most: 1.34,
        value: |found| in_a_batch(found, "smol batch", 16),
        limit: BATCH_LIMIT,
    },
    Goal {
        what: "64 in a batch with each runtime, the same way",
        most: 1.34,
        value: |found| largest(BATCHES.into_iter().chain(["smol batch"]).map(|client| in_a_batch(found, client, 64))),
        limit: BATCH_LIMIT,
    },
    Goal {
        what: "events with `mio`, CPU time × raw",
        most: 10.0,
        value: |found| cpu(found, "mio", "raw", flood),
        limit: "each event is parsed and retained, where raw only counts line feeds at the speed of memory",
    },
    Goal {
        what: "events with `mio`, CPU time × raw+serde",
        most: 1.0,
        value: |found| cpu(found, "mio", "raw+serde", flood),
        limit: "reading the envelope takes 35 % of the time, less than raw+serde needs for it. The rest is what raw+serde \
                does not do: matching, numbering and retaining each event, lines as slices of a shared buffer, handing it \
                over (`profile.md`)",
    },
    Goal {
        what: "events with `blocking`, `smol` and on tokio, CPU time × raw+serde",
        most: 1.1,
        value: |found| largest(OURS.map(|client| cpu(found, client, "raw+serde", flood))),
        limit: "as with `mio`, and a lock for each event that is taken, or a task",
    },
    Goal {
        what: "events parsed from memory, CPU time × serde_json's `Value`",
        most: 1.0 / 3.0,
        value: |found| cpu(found, "core", "serde value", |workload| matches!(workload, Workload::Decode(_))),
        limit: "noise: the parser of the envelope takes two thirds, and is nearly twice as fast as serde_json; a \
                third is splitting lines",
    },
    Goal {
        what: "events lost with `blocking`, `mio`, `smol` and on tokio together",
        most: 0.0,
        value: |found| {
            let lost = |client| {
                Some(
                    found.iter().find(|((workload, other), _)| flood(*workload) && *other == client)?.0.0.units()
                        as f64
                        - taken(found, client, flood)?.count,
                )
            };
            OURS.map(lost).into_iter().sum()
        },
        limit: "",
    },
    Goal {
        what: "207 KB not decoded, CPU time × raw+serde",
        most: 1.1,
        value: |found| cpu(found, "blocking", "raw+serde", schema),
        limit: "the copy from the read buffer into the message, which raw+serde makes too",
    },
    Goal {
        what: "207 KB decoded as a value with each runtime, CPU time × raw+serde",
        most: 1.05,
        value: |found| {
            let value = |workload| matches!(workload, Workload::Large(bytes, _, Reading::Value) if bytes < 1 << 20);
            largest(OURS.map(|client| cpu(found, client, "raw+serde", value)))
        },
        limit: "glibc's malloc: it returns the memory of each value to the kernel and gets it again page by page, which \
                raw+serde is spared by where its blocks are; and it takes locks in a process with a second thread. Where \
                it returns nothing, all are as fast as raw+serde with as many threads (`profile.md`)",
    },
    Goal {
        what: "16 MB not decoded, peak memory × the message",
        most: 1.15,
        value: |found| {
            let large = |workload| matches!(workload, Workload::Large(16_777_216, _, Reading::WithRawReply));
            Some(taken(found, "blocking", large)?.peak / (16.0 * 1024.0))
        },
        limit: "",
    },
    Goal {
        what: "pieces of 64 bytes, CPU time for 16 MB × for 1 MB",
        most: 17.0,
        value: |found| {
            let sized = |bytes| move |workload| workload == Workload::Dribble(bytes);
            Some(taken(found, "blocking", sized(16 << 20))?.cpu / taken(found, "blocking", sized(1 << 20))?.cpu)
        },
        limit: "noise: a test counts the scanned bytes, and they are exactly those received",
    },
    Goal {
        what: "a launch and its end with `blocking`, CPU ms above raw",
        most: 0.5,
        value: |found| launch_above_raw(found, 0),
        limit: "two commands that start the guest, the check of the peer, and a log; raw does without",
    },
    Goal {
        what: "the same by a program of 4 GiB",
        most: 0.5,
        value: |found| launch_above_raw(found, 4096),
        limit: "as above",
    },
    Goal {
        what: "KB for one of many connections with `blocking`",
        most: 4.0,
        value: |found| Some(taken(found, "blocking", many_connections)?.count),
        limit: "two are the machine itself, with its configuration and its run as plain values; half a KB is the \
                last message and its reply",
    },
    Goal {
        what: "KB for one of many connections with `smol`",
        most: 6.0,
        value: |found| Some(taken(found, "smol", many_connections)?.count),
        limit: "as with `blocking`, and the memory of smol's executor and reactor",
    },
    Goal {
        what: "KB for one of many connections with `tokio current` and `tokio multi`",
        most: 5.5,
        value: |found| {
            let count = |client| taken(found, client, many_connections).map(|taken| taken.count);
            ON_TOKIO.into_iter().filter_map(count).max_by(f64::total_cmp)
        },
        limit: "as with `blocking`, and the memory of tokio's tasks and reactor",
    },
    Goal {
        what: "a command on all connections at once with `mio`, CPU time × raw",
        most: 1.3,
        value: |found| cpu(found, "mio", "raw", many_connections),
        limit: "as a command with `mio`; and raw waits for each reply in the call that receives it, or finds it there",
    },
    Goal {
        what: "a clone until its guest runs, time × the launch of the same command line",
        most: 1.5,
        value: |found| wall(found, "load", "launch", template),
        limit: "noise: a run has four clones",
    },
    Goal {
        what: "a clone to the first answer of its guest, time × the launch of the same command line",
        most: 1.5,
        value: |found| wall(found, "clone", "launch", template),
        limit: "the load takes a third of a launch (the row above). The rest is QEMU with TCG, which translates the code of the \
                guest again: 1,500 blocks up to the echo of a letter, since a clone begins with an empty cache",
    },
    Goal {
        what: "30 clones to their first answers, one after another, time × a boot",
        most: 1.0,
        value: |found| Some(30.0 * wall(found, "clone", "boot", template)?),
        limit: "as above; a boot of this Linux takes a few seconds",
    },
    Goal {
        what: "the PSS of the guests of 20 clones × that of 20 boots",
        most: 0.1,
        value: |found| Some(taken(found, "clones", machines)?.count / taken(found, "boots", machines)?.count),
        limit: "",
    },
    Goal {
        what: "the same, with the whole file of the template added to the clones",
        most: 0.1,
        value: |found| {
            let Taken { peak: file, count: clones, .. } = taken(found, "clones", machines)?;
            Some((clones + file) / taken(found, "boots", machines)?.count)
        },
        limit: "",
    },
];

/// Returns the table of the goals, with the values that were reached: the median of the runs, and their spread. A goal
/// is reached when all runs reach it.
pub fn text(runs: &[Found]) -> String {
    let mut text = String::from(
        "## Goals\n\n| goal | at most | reached, of all runs | reason where missed |\n|---|---|---|---|\n",
    );
    for Goal { what, most, value, limit } in GOALS {
        let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(largest)) = (values.first(), values.last()) else { continue };
        let limit = if largest <= most { "" } else { *limit };
        let spread = if runs.len() > 1 { format!(" ({least:.2} to {largest:.2})") } else { String::new() };
        let _ = writeln!(text, "| {what} | {most:.2} | {:.2}{spread} | {limit} |", values[values.len() / 2]);
    }
    text
}

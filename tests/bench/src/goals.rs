//! Decides what was aimed at, and says beside each aim that was missed what limits it.

use std::fmt::Write as _;

use crate::meter::Taken;
use crate::plan::{Reading, Workload};
use crate::rounds::Found;

/// One aim: at most so much of what was found.
struct Goal {
    what: &'static str,
    most: f64,
    value: fn(&Found) -> Option<f64>,
    /// What limits it, where it is not reached.
    limit: &'static str,
}

/// What one client took for the last workload of a kind.
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

const GOALS: [Goal; 18] = [
    Goal {
        what: "a command on threads, processor × raw",
        most: 1.05,
        value: |found| cpu(found, "blocking", "raw", turns),
        limit: "the timeout of the wait and the header of a message are a tenth of raw; the third call itself is nothing \
                that can be seen, for who sleeps in one call need not sleep in the other. The rest is ours: ids, \
                deadlines and the lock, the clock, the envelope (`profile.md`)",
    },
    Goal {
        what: "a command in a loop, processor × raw epoll",
        most: 1.05,
        value: |found| cpu(found, "mio", "raw epoll", turns),
        limit: "the calls are the same three, with a timeout; the rest is the keeping of ids and deadlines, the clock, and \
                the envelope (`profile.md`)",
    },
    Goal {
        what: "a command in a task, processor × a bare loop on async-io",
        most: 1.05,
        value: |found| cpu(found, "smol", "async-io", turns),
        limit: "two tasks, the one that asks and the one that drives, between which smol's executor looks once more",
    },
    Goal {
        what: "a command to QEMU on threads, time × raw",
        most: 1.0,
        value: |found| wall(found, "blocking", "raw", qemu),
        limit: "noise: the request is the same, and QEMU takes twenty times as long as we do",
    },
    Goal {
        what: "the same, time × the best of the others",
        most: 1.0 / 1.2,
        value: |found| {
            let best = ["qapi", "qapi+BufWriter", "qapi tokio", "qmp"].into_iter();
            best.filter_map(|other| wall(found, "blocking", other, qemu)).max_by(f64::total_cmp)
        },
        limit: "qapi with a buffer sends no id, and so fewer bytes",
    },
    Goal {
        what: "16 in flight in a loop, time × raw",
        most: 1.0 / 0.65,
        value: |found| wall(found, "mio", "raw", |workload| matches!(workload, Workload::InFlight(16, _))),
        limit: "all that is ours is for each command, where raw sends and receives all at once: ids and deadlines take a \
                fifth, the envelope and the slice that a reply is an eighth each, then encoding and the clock",
    },
    Goal {
        what: "64 in flight in a loop, time × raw",
        most: 1.0 / 0.65,
        value: |found| wall(found, "mio", "raw", |workload| matches!(workload, Workload::InFlight(64, _))),
        limit: "as with 16; raw, which reads nothing, gets faster with each more, and we are at what an answer costs",
    },
    Goal {
        what: "events in a loop, processor × raw",
        most: 10.0,
        value: |found| cpu(found, "mio", "raw", flood),
        limit: "each is read and kept, where raw only counts line feeds at the speed of memory; and a copy of each, so that \
                the read that it came with can go",
    },
    Goal {
        what: "events in a loop, processor × raw+serde",
        most: 3.0,
        value: |found| cpu(found, "mio", "raw+serde", flood),
        limit: "",
    },
    Goal {
        what: "events read in memory, processor × serde_json's `Value`",
        most: 1.0 / 3.0,
        value: |found| cpu(found, "core", "serde value", |workload| matches!(workload, Workload::Decode(_))),
        limit: "noise: what reads the envelope is nearly twice as fast as serde_json, and takes two thirds; a third is cutting lines",
    },
    Goal {
        what: "events lost, on threads, in a loop and in a task",
        most: 0.0,
        value: |found| {
            let lost = |client| {
                Some(
                    found.iter().find(|((workload, other), _)| flood(*workload) && *other == client)?.0.0.units()
                        as f64
                        - taken(found, client, flood)?.count,
                )
            };
            Some(lost("blocking")? + lost("mio")? + lost("smol")?)
        },
        limit: "",
    },
    Goal {
        what: "207 KB left unread, processor × raw+serde",
        most: 1.1,
        value: |found| cpu(found, "blocking", "raw+serde", schema),
        limit: "the copy from the read into the message, which the limit makes too",
    },
    Goal {
        what: "16 MB left unread, memory × the message",
        most: 1.15,
        value: |found| {
            let large = |workload| matches!(workload, Workload::Large(16_777_216, _, Reading::WithRawReply));
            Some(taken(found, "blocking", large)?.peak / (16.0 * 1024.0))
        },
        limit: "",
    },
    Goal {
        what: "64 bytes at a time, processor for 16 MB × for 1 MB",
        most: 17.0,
        value: |found| {
            let sized = |bytes| move |workload| workload == Workload::Dribble(bytes);
            Some(taken(found, "blocking", sized(16 << 20))?.cpu / taken(found, "blocking", sized(1 << 20))?.cpu)
        },
        limit: "noise: the bytes looked at are counted by a test, and are exactly those that came",
    },
    Goal {
        what: "a launch on threads to the end, ms of processor above raw",
        most: 0.5,
        value: |found| {
            let launch = |workload| matches!(workload, Workload::Launch(_));
            let launches = found.keys().find(|(workload, _)| launch(*workload))?.0.units() as f64;
            Some((taken(found, "blocking", launch)?.cpu - taken(found, "raw", launch)?.cpu) * 1e3 / launches)
        },
        limit: "a fork, which copies the tables of all memory, for a hook before exec ties the process to us; raw does \
                without. And a private directory and a log",
    },
    Goal {
        what: "KB for one of many connections on threads",
        most: 4.0,
        value: |found| Some(taken(found, "blocking", many_connections)?.count),
        limit: "two are the machine itself, with its configuration and its run as plain values; half is the last message \
                and its reply",
    },
    Goal {
        what: "KB for one of many connections in a task",
        most: 6.0,
        value: |found| Some(taken(found, "smol", many_connections)?.count),
        limit: "as on threads, and what smol's executor and reactor hold",
    },
    Goal {
        what: "a command on all connections at once in a loop, processor × raw",
        most: 1.3,
        value: |found| cpu(found, "mio", "raw", many_connections),
        limit: "as a command in a loop; and raw waits for each reply in the call that receives it, or finds it there",
    },
];

/// The goals, each with what was reached.
pub fn text(found: &Found) -> String {
    let mut text = String::from("## Goals\n\n| at most | | reached | what limits it |\n|---|---|---|---|\n");
    for Goal { what, most, value, limit } in GOALS {
        let Some(value) = value(found) else { continue };
        let limit = if value <= most { "" } else { limit };
        let _ = writeln!(text, "| {what} | {most:.2} | {value:.2} | {limit} |");
    }
    text
}

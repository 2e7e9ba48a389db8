//! Plan of the benchmark: the workloads, and the clients of each.

use std::fmt;
use std::io;
use std::str::FromStr;

/// A workload. Its text is the argument of the client and server processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Commands, one after another: their number.
    Turns(usize),
    /// Commands to the real QEMU, one after another: their number.
    Qemu(usize),
    /// Commands in flight: the depth, and the total number.
    InFlight(usize, usize),
    /// Events after a reply: their number.
    Flood(usize),
    /// Long replies: their size in bytes, their number, and whether they are decoded.
    Large(usize, usize, Reading),
    /// A reply in pieces of 64 bytes: its size in bytes.
    Dribble(usize),
    /// Launches of the real QEMU, each to its end: their number, and the memory of the client in MiB before.
    Launch(usize, usize),
    /// Connections: their number, and the number of rounds of one command on all of them at once.
    Connections(usize, usize),
    /// Events that are parsed from memory: their number.
    Decode(usize),
    /// A guest that is booted once, up to its first answer: the number of clones.
    Template(usize),
    /// Resets of a guest, each up to its first answer: their number.
    Resets(usize),
    /// Machines of the same guest that run at the same time: their number.
    Machines(usize),
    /// The build of a program. No client process runs this.
    Size,
}

/// Whether a reply is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    WithRawReply,
    Value,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Turns(count) => write!(f, "turns {count}"),
            Self::Qemu(count) => write!(f, "qemu {count}"),
            Self::InFlight(depth, count) => write!(f, "in-flight {depth} {count}"),
            Self::Flood(events) => write!(f, "flood {events}"),
            Self::Large(bytes, times, Reading::WithRawReply) => write!(f, "large {bytes} {times}"),
            Self::Large(bytes, times, Reading::Value) => write!(f, "value {bytes} {times}"),
            Self::Dribble(bytes) => write!(f, "dribble {bytes}"),
            Self::Launch(times, memory) => write!(f, "launch {times} {memory}"),
            Self::Connections(connections, rounds) => write!(f, "connections {connections} {rounds}"),
            Self::Decode(events) => write!(f, "decode {events}"),
            Self::Template(times) => write!(f, "template {times}"),
            Self::Resets(times) => write!(f, "resets {times}"),
            Self::Machines(machines) => write!(f, "machines {machines}"),
            Self::Size => f.write_str("size"),
        }
    }
}

impl FromStr for Workload {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let unknown = || io::Error::other(format!("no workload is `{text}`"));
        let words: Vec<&str> = text.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse().ok()).ok_or_else(unknown);
        Ok(match words[0] {
            "turns" => Self::Turns(number(1)?),
            "qemu" => Self::Qemu(number(1)?),
            "in-flight" => Self::InFlight(number(1)?, number(2)?),
            "flood" => Self::Flood(number(1)?),
            "large" => Self::Large(number(1)?, number(2)?, Reading::WithRawReply),
            "value" => Self::Large(number(1)?, number(2)?, Reading::Value),
            "dribble" => Self::Dribble(number(1)?),
            "launch" => Self::Launch(number(1)?, number(2)?),
            "connections" => Self::Connections(number(1)?, number(2)?),
            "decode" => Self::Decode(number(1)?),
            "template" => Self::Template(number(1)?),
            "resets" => Self::Resets(number(1)?),
            "machines" => Self::Machines(number(1)?),
            "size" => Self::Size,
            _ => return Err(unknown()),
        })
    }
}

/// All clients that send commands, the limits first.
pub const CLIENTS: [&str; 13] = [
    "raw",
    "raw epoll",
    "raw+serde",
    "async-io",
    "blocking",
    "mio",
    "smol",
    "tokio current",
    "tokio multi",
    "qapi",
    "qapi+BufWriter",
    "qapi tokio",
    "qmp",
];

impl Workload {
    /// Returns the title on the page.
    pub fn title(self) -> String {
        const MB: f64 = 1048576.0;
        match self {
            Self::Turns(count) => format!("{count} commands, one after another (`query-status`)"),
            Self::Qemu(count) => format!("{count} commands to the real QEMU, one after another"),
            Self::InFlight(depth, count) => format!(
                "{count} commands, {depth} in flight: `raw` sends all at once, `blocking` uses a thread for each, `mio` a \
                 ticket, the async clients a future, and those with `batch` one batch for all"
            ),
            Self::Flood(events) => format!("{events} events after a reply; count: received events"),
            Self::Large(bytes, _, Reading::WithRawReply) => {
                format!("a reply of {:.1} MB, not decoded", bytes as f64 / MB)
            }
            Self::Large(bytes, _, Reading::Value) => {
                format!("a reply of {:.1} MB, decoded as a value", bytes as f64 / MB)
            }
            Self::Dribble(bytes) => format!("a reply of {:.0} MB in pieces of 64 bytes", bytes as f64 / MB),
            Self::Launch(_, memory) => {
                let from = if memory > 0 { format!(", by a program of {memory} MiB") } else { String::new() };
                format!("a launch of QEMU up to a working monitor, then `quit` and the exit{from}")
            }
            Self::Connections(connections, _) => format!(
                "{connections} connections, a command on all at once (`blocking`: in turn); count: KB per connection"
            ),
            Self::Decode(events) => format!("{events} events parsed from memory"),
            Self::Template(_) => {
                "a Linux that is booted once: the launch of QEMU with the command line of a clone, a command, a clone \
                 until its guest runs, a clone to its first answer, a boot to its first answer"
                    .to_string()
            }
            Self::Resets(_) => "resets of a booted Linux, each to its first answer".to_string(),
            Self::Machines(machines) => {
                format!(
                    "{machines} machines of the same Linux; KB of the memory of their guests: the proportional set size \
                     (PSS) of all together, and the file of the template beside it, of which the clones map some pages"
                )
            }
            Self::Size => "the build of a program that sends one command".to_string(),
        }
    }

    /// Returns the number of units: commands, events or replies.
    pub fn units(self) -> usize {
        match self {
            Self::Turns(count)
            | Self::Qemu(count)
            | Self::InFlight(_, count)
            | Self::Flood(count)
            | Self::Decode(count) => count,
            Self::Large(_, times, _) | Self::Launch(times, _) | Self::Template(times) | Self::Resets(times) => times,
            Self::Dribble(_) | Self::Machines(_) | Self::Size => 1,
            Self::Connections(connections, rounds) => connections * rounds,
        }
    }

    /// Returns the number of its rounds in a run with so many. Boots take seconds, so workloads with boots have one round.
    /// Workloads shorter than half a second, from which a goal is computed, have three times as many.
    pub fn rounds(self, base: usize) -> usize {
        match self {
            Self::Machines(_) | Self::Resets(_) | Self::Template(_) => 1,
            Self::Turns(_) | Self::InFlight(..) => 3 * base,
            Self::Large(bytes, ..) if bytes < MB => 3 * base,
            _ => base,
        }
    }

    /// Returns the clients of this workload, the limit first.
    pub fn clients(self) -> &'static [&'static str] {
        match self {
            Self::Turns(_) => &CLIENTS,
            Self::Qemu(_) => &[
                "raw",
                "blocking",
                "mio",
                "smol",
                "tokio current",
                "tokio multi",
                "qapi",
                "qapi+BufWriter",
                "qapi tokio",
                "qmp",
            ],
            Self::InFlight(..) => &[
                "raw",
                "raw+serde",
                "blocking",
                "mio",
                "smol",
                "tokio current",
                "tokio multi",
                "blocking batch",
                "mio batch",
                "smol batch",
                "tokio current batch",
                "tokio multi batch",
                "qapi tokio",
                "qmp",
            ],
            Self::Flood(_) => &[
                "raw",
                "raw+serde",
                "blocking",
                "mio",
                "smol",
                "tokio current",
                "tokio multi",
                "qapi",
                "qapi tokio",
                "qmp",
            ],
            Self::Large(_, _, Reading::WithRawReply) => {
                &["raw", "raw+serde", "blocking", "mio", "smol", "tokio current", "tokio multi"]
            }
            Self::Large(_, _, Reading::Value) => &[
                "raw",
                "raw+serde",
                "raw+serde, 2 threads",
                "blocking",
                "mio",
                "smol",
                "tokio current",
                "tokio multi",
                "qapi",
                "qapi tokio",
                "qmp",
            ],
            Self::Dribble(_) => &[
                "raw",
                "raw+serde",
                "blocking",
                "mio",
                "smol",
                "tokio current",
                "tokio multi",
                "qapi",
                "qapi tokio",
                "qmp",
            ],
            Self::Launch(..) => &["raw", "blocking", "mio", "smol", "tokio current", "tokio multi"],
            Self::Connections(..) => {
                &["raw", "blocking", "mio", "smol", "tokio current", "tokio multi", "qapi tokio", "qmp"]
            }
            Self::Decode(_) => &["serde value", "raw+serde", "core"],
            Self::Template(_) => &["launch", "command", "load", "clone", "boot"],
            Self::Resets(_) => &["loadvm", "clone", "loadvm on each processor", "clone on each processor"],
            Self::Machines(_) => &["boots", "clones"],
            Self::Size => &[
                "raw+serde",
                "core",
                "blocking",
                "mio",
                "smol",
                "smol without smol",
                "tokio",
                "qapi",
                "qapi tokio",
                "qmp",
            ],
        }
    }
}

/// The workloads of a run, the base number of their rounds, and the number of runs. Rounds differ by what happens on the
/// machine within seconds, runs by what happens within minutes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workloads: Vec<Workload>,
    pub rounds: usize,
    pub runs: usize,
}

const MB: usize = 1 << 20;

impl Plan {
    pub fn whole() -> Self {
        use Workload::{Connections, Decode, Dribble, Flood, InFlight, Large, Launch, Qemu, Turns};
        let mut workloads =
            vec![Turns(20_000), Qemu(3000), Flood(1_000_000), Launch(8, 0), Launch(8, 4096), Decode(340_000)];
        workloads.extend([1, 4, 16, 64].map(|depth| InFlight(depth, 20_032)));
        workloads.extend([Reading::WithRawReply, Reading::Value].map(|reading| Large(207 << 10, 100, reading)));
        for size in [1, 2, 4, 8, 16] {
            workloads.extend([Reading::WithRawReply, Reading::Value].map(|reading| Large(size * MB, 1, reading)));
        }
        workloads.extend([1, 4, 16].map(|size| Dribble(size * MB)));
        workloads.extend(
            [(1, 5000), (10, 500), (100, 50), (500, 10)].map(|(connections, rounds)| Connections(connections, rounds)),
        );
        workloads.extend(Self::templates().workloads);
        Self { workloads, rounds: 3, runs: 3 }
    }

    /// The workloads of templates alone.
    pub fn templates() -> Self {
        Self {
            workloads: vec![Workload::Template(4), Workload::Resets(20), Workload::Machines(20)],
            rounds: 3,
            runs: 1,
        }
    }

    pub fn quick() -> Self {
        use Workload::{Connections, Decode, Dribble, Flood, InFlight, Large, Launch, Qemu, Turns};
        let mut workloads =
            vec![Turns(2000), Qemu(300), Flood(50_000), Launch(1, 0), Decode(34_000), InFlight(16, 2048)];
        workloads.extend([Reading::WithRawReply, Reading::Value].map(|reading| Large(207 << 10, 5, reading)));
        workloads.extend([Dribble(MB), Connections(50, 10)]);
        Self { workloads, rounds: 1, runs: 1 }
    }
}

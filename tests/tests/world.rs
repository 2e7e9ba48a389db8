//! Tests of the simulated worlds: each seed is one world, and a machine keeps its promises in all of them.
//!
//! `QEMU_MACHINE_SCHEDULES` sets how many worlds there are, and `QEMU_MACHINE_SEED` the first seed. To repeat a
//! failure, set the seed that it names, and one schedule.

use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};

use qemu_machine_tests::world::{Seen, check, run};

/// The default number of worlds: a build without optimisation takes a quarter of a minute on two processors.
const SCHEDULES: u64 = 2_000;

/// How often each thing must happen in that many worlds.
const OFTEN: u64 = 4;

/// Everything that must happen.
const COVERED: [&str; 58] = [
    "SIGKILL needed",
    "SIGTERM ignored",
    "SIGTERM needed",
    "as many in-band commands as may be",
    "clock went back",
    "closed by order",
    "command disconnected",
    "command not understood",
    "command refused",
    "command returned",
    "command timed out before its turn",
    "command timed out, and QEMU is busy",
    "command timed out, and QEMU is stuck",
    "command timed out on the wire",
    "console input full",
    "died before the greeting",
    "died before the reply to the negotiation",
    "died in the middle of its output",
    "disowned",
    "doubled reply",
    "end of all channels before the exit",
    "event before the greeting",
    "event before the reply to the negotiation",
    "exit before the end of a channel",
    "hung up in the launch",
    "last words behind the exit",
    "late reply",
    "launch cancelled",
    "launch failed on the host",
    "launch refused",
    "launch timed out",
    "main loop stuck",
    "monitor closed under a process that lives on",
    "negotiation ignored",
    "negotiation refused",
    "no launch beside the last process",
    "open of a console failed",
    "open of the monitor failed",
    "out of band, past others",
    "out of band, past seven and a main loop that is stuck",
    "partial send",
    "power button obeyed",
    "power button pressed again",
    "prepare failed",
    "process stopped",
    "quit",
    "relaunch",
    "remove failed",
    "signal failed",
    "spawn failed",
    "too many commands",
    "unkillable",
    "wait: end",
    "wait: ended before",
    "wait: event",
    "wait: no event can come",
    "wait: text",
    "wait: timed out",
];

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

fn seeds() -> Range<u64> {
    let first = number("QEMU_MACHINE_SEED", 0);
    first..first + number("QEMU_MACHINE_SCHEDULES", SCHEDULES)
}

/// The sum of all worlds, which run once for all tests.
static SEEN: LazyLock<Seen> = LazyLock::new(|| {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let mut seen = Seen::default();
    scope(|scope| {
        let workers = available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&seeds, &next))).collect();
        for thread in threads {
            seen.add(&thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    println!("seeds {seeds:?} saw:\n{seen}");
    seen
});

/// Checks one seed after the other, until there are none or one fails.
fn work(seeds: &Range<u64>, next: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !seeds.contains(&seed) {
            return seen;
        }
        let transcript = catch_unwind(|| check(seed)).unwrap_or_else(|panic| {
            // One failure is enough: the other threads stop.
            next.store(seeds.end, Ordering::Relaxed);
            resume_unwind(panic)
        });
        seen.add(&transcript.seen);
    }
}

#[test]
fn schedules_agree_and_keep_the_promises() {
    LazyLock::force(&SEEN);
}

#[test]
fn everything_happens_often() {
    if seeds().count() < SCHEDULES as usize {
        println!("too few schedules to see everything");
        return;
    }
    let rare: Vec<_> = COVERED.iter().filter(|what| SEEN.count(what) < OFTEN).collect();
    assert!(rare.is_empty(), "too rare in {:?}: {rare:?}", seeds());
}

#[test]
fn another_seed_is_another_world() {
    let (one, other) = (run(1), run(2));
    assert_ne!(one.lines[1..], other.lines[1..]);
    assert!(one.lines.len() > 10, "{:?}", one.lines);
}

//! Exhaustive exploration of the states that a machine with two commands can reach. Every state is checked against the
//! promises, and the table and the drawing of the states in the docs are compared with the result.

mod diagram;
mod key;
mod table;
mod world;

use std::collections::{HashMap, VecDeque};

use qemu_machine_core::{Address, Config, Identity, Limits, Monitor, Peer, State};
use table::Name;
use world::{Step, World};

/// The explored states, and where each step leads.
struct Graph {
    found: Vec<Found>,
    edges: Vec<Vec<(Step, usize)>>,
}

/// Summary of a world whose steps were taken. Half a million whole worlds would fill the memory of a small machine.
struct Found {
    state: State,
    name: Name,
}

impl Found {
    fn of(world: &World) -> Self {
        Self { state: world.machine.state(), name: table::name(world) }
    }
}

/// The worlds that the threads expand at a time. Each has a dozen successors of some kilobytes.
const BATCH: usize = 1024;

/// A step, the world after it, and the key of that.
type Successor = (Step, World, String);

/// Returns the successors of each of these worlds, in their order.
fn expand_all(worlds: Vec<World>) -> Vec<Vec<Successor>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = worlds.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let expanders = worlds.chunks(share).map(|share| scope.spawn(|| share.iter().map(expand).collect::<Vec<_>>()));
        let expanders: Vec<_> = expanders.collect();
        expanders.into_iter().flat_map(|expander| expander.join().expect("every promise is kept")).collect()
    })
}

fn expand(world: &World) -> Vec<Successor> {
    let successor = |step: Step| {
        let mut next = world.clone();
        next.take(&step);
        let key = key::of(&next);
        (step, next, key)
    };
    world.steps().into_iter().map(successor).collect()
}

impl Graph {
    /// Returns all states that can be reached in one run.
    fn explore(config: Config, commands: usize) -> Self {
        let first = World::new(config, commands);
        let mut known = HashMap::from([(key::of(&first), 0)]);
        let (mut found, mut edges, mut queue) = (vec![Found::of(&first)], Vec::new(), VecDeque::from([first]));
        while !queue.is_empty() {
            for next in expand_all(queue.drain(..queue.len().min(BATCH)).collect()) {
                let out = next.into_iter().map(|(step, next, key)| {
                    let target = *known.entry(key).or_insert_with(|| {
                        found.push(Found::of(&next));
                        queue.push_back(next);
                        found.len() - 1
                    });
                    (step, target)
                });
                edges.push(out.collect());
            }
        }
        Self { found, edges }
    }

    /// Asserts that each state reaches the end with nothing but time and outstanding completions.
    fn assert_all_end(&self) {
        let mut ends: Vec<bool> = self.found.iter().map(|found| found.state == State::Ended).collect();
        let leads = |ends: &[bool], out: &[(Step, usize)]| {
            out.iter().any(|(step, target)| step.comes_by_itself() && ends[*target])
        };
        loop {
            let more: Vec<usize> = (0..ends.len()).filter(|at| !ends[*at] && leads(&ends, &self.edges[*at])).collect();
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|at| ends[at] = true);
        }
        for (found, ends) in self.found.iter().zip(ends) {
            let rests = matches!(found.state, State::Idle | State::Running);
            assert!(ends || rests, "the run cannot end from {:?}", found.name);
        }
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    // Without history and log: the number of stored events and bytes makes no other state.
    (limits.events, limits.last_words, limits.log) = (0, 0, 0);
    limits
}

/// The four combinations of monitor and process, one machine that can be detached, one that is resumed, the three whose
/// launch retries, and the number of commands. A dialled monitor differs from an inherited one only before the first
/// command, so one command is enough there.
fn configs() -> [(&'static str, Config, usize); 9] {
    let path = || Address::unix("/m");
    let identity = Identity::new("boot".into(), (1, 1), "/m".into(), (1, 1));
    [
        ("inherited", Config::new("qemu").autostart().limits(limits()), 2),
        ("dialled", Config::new("qemu").autostart().monitor(Monitor::At(path())).limits(limits()), 1),
        ("kept", Config::new("qemu").autostart().outlive_parent().limits(limits()), 0),
        ("resumed", Config::resume(identity).limits(limits()), 0),
        ("absent", Config::new("qemu").autostart().without_monitor().limits(limits()), 2),
        ("foreign", Config::attach(Peer::Dial(path())).limits(limits()), 2),
        ("awaited", Config::attach(Peer::Dial(path())).wait_for_listener().limits(limits()), 1),
        ("listening", Config::attach(Peer::Listen(path())).limits(limits()), 1),
        ("trusted", Config::new("qemu").autostart().monitor(Monitor::At(path())).trust_peer().limits(limits()), 0),
    ]
}

/// [`World::take`] checks the promises after every step.
#[test]
fn every_state_keeps_the_promises() {
    let explore = |(name, config, commands)| {
        let graph = Graph::explore(config, commands);
        let steps: usize = graph.edges.iter().map(Vec::len).sum();
        println!("{name}: {} states, {steps} steps", graph.found.len());
        graph.assert_all_end();
        graph
    };
    let graphs: Vec<_> = std::thread::scope(|threads| {
        let explorers: Vec<_> = configs().into_iter().map(|config| threads.spawn(move || explore(config))).collect();
        explorers.into_iter().map(|explorer| explorer.join().expect("every promise is kept")).collect()
    });
    table::assert_current(&graphs);
}

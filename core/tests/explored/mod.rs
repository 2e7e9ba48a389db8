//! Exploration of the states that a machine with two commands can reach. Every state is checked against the promises, and
//! the table and the drawing of the states in the docs are compared with the result.

mod diagram;
mod key;
mod table;
mod world;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use key::Key;
use qemu_machine_core::{Address, Config, Identity, Limits, Monitor, Peer, State};
use table::{Leads, Name};
use world::{Step, World};

/// The states that are explored of each configuration: more than enough for every transition of the table. Another number
/// or `all` in `QEMU_MACHINE_STATES` replaces it. All of them take a processor ten minutes.
const STATES: usize = 6_000;

/// Returns the number of states to explore. The docs are written from all of them.
fn most() -> usize {
    let all = std::env::var_os("UPDATE_DOCS").map(|_| "all".into());
    match all.or_else(|| std::env::var("QEMU_MACHINE_STATES").ok()).as_deref() {
        None => STATES,
        Some("all") => usize::MAX,
        Some(number) => number.parse().expect("a number"),
    }
}

/// The found states, and where the steps lead.
#[derive(Default)]
struct Graph {
    found: Vec<Found>,
    /// The worlds that are not explored yet, with the numbers of their states. Those behind a transition of the table
    /// that is new come first, so that a part of the states is enough to find all transitions.
    queue: VecDeque<(usize, World)>,
    known: Known,
    leads: Leads,
    steps: usize,
}

/// Summary of a world. Half a million whole worlds would fill the memory of a small machine.
struct Found {
    state: State,
    name: Name,
    /// The states that follow without the caller or QEMU acting, if this one is explored.
    own: Option<Vec<usize>>,
}

/// The worlds that the threads expand at a time.
const BATCH: usize = 256;

/// The numbers of the states that were found.
type Known = HashMap<Key, usize>;

/// The state that follows on a step. Most are known, and their worlds are dropped at once.
enum Next {
    Known(usize),
    New(Key, Box<World>),
}

/// Returns the steps of each of these worlds, and where they lead.
fn expand_all(worlds: Vec<(usize, World)>, known: &Known) -> Vec<(usize, Vec<(Step, Next)>)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = worlds.len().div_ceil(threads);
    let expand = |(number, world): &(usize, World)| (*number, expand(world, known));
    std::thread::scope(|scope| {
        let expand_share = |share| scope.spawn(move || Vec::from_iter(<[(usize, World)]>::iter(share).map(expand)));
        let expanders: Vec<_> = worlds.chunks(share).map(expand_share).collect();
        expanders.into_iter().flat_map(|expander| expander.join().expect("every promise is kept")).collect()
    })
}

fn expand(world: &World, known: &Known) -> Vec<(Step, Next)> {
    let follow = |step: Step| {
        let mut next = world.clone();
        next.take(&step);
        let key = key::of(&next);
        let next = known.get(&key).map_or_else(|| Next::New(key, Box::new(next)), |number| Next::Known(*number));
        (step, next)
    };
    world.steps().into_iter().map(follow).collect()
}

impl Graph {
    /// Returns the states that can be reached in one run, those of which the steps are known up to this number.
    fn explore(config: Config, commands: usize, most: usize) -> Self {
        let mut graph = Self::default();
        let first = World::new(config, commands);
        graph.find(key::of(&first), &first);
        graph.queue.push_back((0, first));
        let mut explored = 0;
        while !graph.queue.is_empty() && explored < most {
            let worlds: Vec<_> = graph.queue.drain(..graph.queue.len().min(BATCH).min(most - explored)).collect();
            explored += worlds.len();
            for (from, steps) in expand_all(worlds, &graph.known) {
                graph.connect(from, steps);
            }
        }
        graph
    }

    /// Returns the number of the state with this key, and whether it is new.
    fn find(&mut self, key: Key, world: &World) -> (usize, bool) {
        let number = self.found.len();
        match self.known.entry(key) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                vacant.insert(number);
                self.found.push(Found { state: world.machine.state(), name: table::name(world), own: None });
                (number, true)
            }
        }
    }

    /// Adds the steps from a state, and queues the states that are new.
    fn connect(&mut self, from: usize, steps: Vec<(Step, Next)>) {
        let mut own = Vec::new();
        self.steps += steps.len();
        for (step, next) in steps {
            let (to, world) = match next {
                Next::Known(number) => (number, None),
                Next::New(key, world) => match self.find(key, &world) {
                    (number, true) => (number, Some(*world)),
                    (number, false) => (number, None),
                },
            };
            let is_new = self.leads.add(&self.found[from].name, &step, &self.found[to].name);
            match world {
                Some(world) if is_new => self.queue.push_front((to, world)),
                Some(world) => self.queue.push_back((to, world)),
                None => {}
            }
            if step.comes_by_itself() {
                own.push(to);
            }
        }
        self.found[from].own = Some(own);
    }

    /// Asserts that each state reaches the end, or one that is not explored, with nothing but time and outstanding
    /// completions.
    fn assert_all_end(&self) {
        let mut ends: Vec<bool> =
            self.found.iter().map(|found| found.state == State::Ended || found.own.is_none()).collect();
        loop {
            let leads = |at: &usize| self.found[*at].own.iter().flatten().any(|to| ends[*to]);
            let more: Vec<usize> = (0..ends.len()).filter(|at| !ends[*at] && leads(at)).collect();
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|at| ends[at] = true);
        }
        for (found, ends) in self.found.iter().zip(ends) {
            assert!(ends || rests(found.state), "the run cannot end from {:?}", found.name);
        }
        self.queue.iter().for_each(|(number, world)| {
            assert!(comes_to_rest(world.clone()), "the run cannot end from {:?}", self.found[*number].name);
        });
    }
}

/// Returns whether a machine may stay in this state for ever.
fn rests(state: State) -> bool {
    matches!(state, State::Ended | State::Idle | State::Running)
}

/// Returns whether the machine comes to rest when each effect succeeds, and otherwise time passes.
fn comes_to_rest(mut world: World) -> bool {
    // The longest way has some dozen steps.
    (0..200).any(|_| {
        if let Some(step) = world.steps().into_iter().find(Step::comes_by_itself) {
            world.take(&step);
        }
        rests(world.machine.state())
    })
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
    let most = most();
    let explore = |(name, config, commands)| {
        let graph = Graph::explore(config, commands, most);
        let left = graph.queue.len();
        println!("{name}: {} states, {left} of them not explored, {} steps", graph.found.len(), graph.steps);
        graph.assert_all_end();
        graph
    };
    let graphs: Vec<_> = std::thread::scope(|threads| {
        let explorers: Vec<_> = configs().into_iter().map(|config| threads.spawn(move || explore(config))).collect();
        explorers.into_iter().map(|explorer| explorer.join().expect("every promise is kept")).collect()
    });
    table::assert_current(graphs.into_iter().map(|graph| graph.leads));
}

//! Property test that compares subscriptions with a naive model, for any order of events, reads and relaunches.

use std::collections::VecDeque;

use crate::rig::ticks::limits;
use crate::rig::{GREETING, Rig, SIGKILL, config, secs};
use proptest::prelude::*;
use proptest::sample::Index;
use qemu_machine_core::{Mark, SubscriptionId, Wait, WaitError};

/// How many events fit in the history.
const REMEMBERED: usize = 5;
/// How many events fit in one queue.
const QUEUED: usize = 3;

/// A naive model of a subscription.
struct Naive {
    id: SubscriptionId,
    names: &'static str,
    queue: VecDeque<char>,
    missed: u64,
    forgotten: u64,
}

impl Naive {
    fn offer(&mut self, name: char) {
        if self.names.contains(name) {
            self.queue.push_back(name);
        }
        if self.queue.len() > QUEUED {
            self.queue.pop_front();
            self.missed += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Happen(char),
    Subscribe { names: &'static str, from: Index },
    Next(Index),
    Unsubscribe(Index),
    Relaunch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => "[ABC]".prop_map(|name| Step::Happen(name.chars().next().unwrap())),
        4 => (prop::sample::select(vec!["ABC", "A", "AB"]), any::<Index>())
            .prop_map(|(names, from)| Step::Subscribe { names, from }),
        6 => any::<Index>().prop_map(Step::Next),
        1 => any::<Index>().prop_map(Step::Unsubscribe),
        1 => Just(Step::Relaunch),
    ]
}

/// A machine, with the models of its subscriptions.
struct Compared {
    rig: Rig,
    /// The marks of all runs, each with the number of events of the present run before it.
    marks: Vec<(Mark, usize)>,
    past: Vec<char>,
    naive: Vec<Naive>,
}

impl Compared {
    fn new() -> Self {
        let rig = Rig::ready(config().limits(limits(REMEMBERED, QUEUED)));
        Self { marks: vec![(rig.vm.mark(), 0)], rig, past: Vec::new(), naive: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Happen(name) => {
                self.rig.tick(*name, 0);
                self.past.push(*name);
                self.marks.push((self.rig.vm.mark(), self.past.len()));
                self.naive.iter_mut().for_each(|naive| naive.offer(*name));
            }
            Step::Subscribe { names, from } => self.subscribe(names, from),
            Step::Next(which) if !self.naive.is_empty() => {
                let naive = which.get_mut(&mut self.naive);
                let expected = naive.queue.pop_front().map(String::from).ok_or(WaitError::TimedOut);
                assert_eq!(self.rig.next(naive.id, secs(0)), Some(expected));
            }
            Step::Unsubscribe(which) if !self.naive.is_empty() => {
                let naive = self.naive.swap_remove(which.index(self.naive.len()));
                self.rig.vm.unsubscribe(naive.id);
            }
            Step::Relaunch => self.relaunch(),
            Step::Next(_) | Step::Unsubscribe(_) => {}
        }
    }

    fn subscribe(&mut self, names: &'static str, from: &Index) {
        let (mark, before) = from.get(&self.marks);
        let id = self.rig.subscribe(mark, names.chars().map(Wait::event));
        let forgotten = self.past.len().saturating_sub(REMEMBERED);
        let mut naive =
            Naive { id, names, queue: VecDeque::new(), missed: 0, forgotten: forgotten.saturating_sub(*before) as u64 };
        self.past[forgotten.max(*before)..].iter().for_each(|name| naive.offer(*name));
        self.naive.push(naive);
    }

    fn relaunch(&mut self) {
        self.rig.dies(SIGKILL);
        self.rig.launch();
        self.rig.negotiate(GREETING);
        self.past.clear();
        self.marks.iter_mut().for_each(|(_, before)| *before = 0);
        for naive in &mut self.naive {
            naive.queue.clear();
            (naive.missed, naive.forgotten) = (0, 0);
        }
    }

    fn check(&self) {
        let vm = &self.rig.vm;
        for naive in &self.naive {
            let counted = (vm.missed_events(naive.id), vm.evicted_events(naive.id));
            assert_eq!(counted, (naive.missed, naive.forgotten));
            let mut copy = vm.clone();
            let queued = std::iter::from_fn(|| copy.next_event(naive.id)).map(|event| event.name().to_string());
            assert_eq!(queued.collect::<String>(), naive.queue.iter().collect::<String>());
        }
    }
}

proptest! {
    /// After every step, each subscription has the queue and the counts of its model.
    #[test]
    fn subscriptions_agree_with_a_naive_model(steps in prop::collection::vec(step(), 0..60)) {
        let mut compared = Compared::new();
        for step in &steps {
            compared.take(step);
            compared.check();
        }
    }
}

//! Model test of descriptors: every command gets its own, in order, however commands with and without one, in and out
//! of band, are sent, answered and disowned.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::rig::{Rig, config, secs};
use proptest::prelude::*;
use proptest::sample::Index;
use qemu_machine_core::session::Session;
use qemu_machine_core::wire::Encoded;
use qemu_machine_core::{Channel, CommandId, Descriptor, FOREVER, OutOfBand};

const MONITOR: Channel = Channel::Monitor;

#[derive(Clone, Debug)]
enum Step {
    Issue {
        carries: bool,
        out_of_band: bool,
        within: Option<u64>,
    },
    Send(usize),
    /// QEMU executes the next in-band command, or any out-of-band one.
    Execute(Option<usize>),
    Disown(Index),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let issue = (any::<bool>(), prop::bool::weighted(0.3), prop::option::of(1_u64..9));
    prop_oneof![
        6 => issue.prop_map(|(carries, out_of_band, within)| Step::Issue { carries, out_of_band, within }),
        4 => (1_usize..60).prop_map(Step::Send),
        5 => prop::option::weighted(0.3, 0_usize..9).prop_map(Step::Execute),
        1 => any::<Index>().prop_map(Step::Disown),
        1 => (1_u64..5).prop_map(Step::Pass),
    ]
}

/// A command as QEMU has read it: its id, its number, and whether it takes a descriptor.
type Read = (u16, u32, bool);

/// QEMU's side of a conversation. It keeps only the last descriptor, until a command takes it (measured with QEMU
/// 7.2.22).
#[derive(Default)]
struct Qemu {
    held: Option<u32>,
    half: String,
    in_band: VecDeque<Read>,
    out_of_band: Vec<Read>,
    last: Option<u32>,
}

impl Qemu {
    fn hears(&mut self, bytes: &[u8], descriptor: Option<u32>) {
        self.held = descriptor.or(self.held);
        self.half.push_str(std::str::from_utf8(bytes).unwrap());
        while let Some(end) = self.half.find('}') {
            let command: String = self.half.drain(..=end).collect();
            // {"execute":"take-7","id":3}
            let (head, id) = command.trim_end_matches('}').rsplit_once(':').unwrap();
            let (what, number) = match head.split('"').nth(3).unwrap() {
                // A heartbeat: no step issued it.
                "query-yank" => ("query", "0"),
                issued => issued.split_once('-').unwrap(),
            };
            let read = (id.parse().unwrap(), number.parse().unwrap(), what == "take");
            if head.contains("exec-oob") {
                self.out_of_band.push(read);
            } else {
                assert!(self.last < Some(read.1), "in band, {} came after {:?}", read.1, self.last);
                self.last = Some(read.1);
                self.in_band.push_back(read);
            }
        }
    }

    /// Executes a command, which must get its own descriptor. Returns the id of its reply.
    fn executes(&mut self, which: Option<usize>) -> Option<u16> {
        let (id, number, takes) = match which {
            Some(_) if self.out_of_band.is_empty() => return None,
            Some(index) => self.out_of_band.swap_remove(index % self.out_of_band.len()),
            None => self.in_band.pop_front()?,
        };
        if takes {
            assert_eq!(self.held.take(), Some(number), "a command got the wrong descriptor, or none");
        }
        Some(id)
    }
}

struct World {
    rig: Rig,
    qemu: Qemu,
    issued: Vec<(CommandId, Arc<u32>)>,
    /// The commands that may have no answer, or an answer that is no reply.
    disowned: BTreeSet<CommandId>,
}

impl World {
    fn new(out_of_band: bool) -> Self {
        let rig = if out_of_band { Rig::ready_oob(config()) } else { Rig::ready(config()) };
        Self { rig, qemu: Qemu::default(), issued: Vec::new(), disowned: BTreeSet::new() }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Issue { carries, out_of_band, within } => {
                self.issue(*carries, *out_of_band && self.rig.vm.session().out_of_band(), *within);
            }
            Step::Send(count) => self.send(*count),
            Step::Execute(which) => drop(self.execute(*which)),
            Step::Disown(index) if !self.issued.is_empty() => {
                let id = self.issued[index.index(self.issued.len())].0;
                self.rig.vm.disown(id);
                self.disowned.insert(id);
            }
            Step::Disown(_) => {}
            Step::Pass(seconds) => self.rig.pass(secs(*seconds)),
        }
    }

    fn issue(&mut self, carries: bool, out_of_band: bool, within: Option<u64>) {
        let number = Arc::new(self.issued.len() as u32);
        let name = format!("{}-{number}", if carries { "take" } else { "go" });
        let command = if out_of_band { Encoded::command(&OutOfBand(name)) } else { Encoded::command(&name) };
        let mut command = command.expect("a command");
        if carries {
            command = command.with_descriptor(Descriptor::new(number.clone()));
        }
        let deadline = within.map_or(FOREVER, |seconds| secs(seconds).into());
        let id = self.rig.vm.send(self.rig.now, &command, deadline).expect("a command");
        self.rig.serve();
        self.disowned.extend(within.map(|_| id));
        self.issued.push((id, number));
    }

    /// Sends as many bytes as the socket accepts, at most up to the next descriptor.
    fn send(&mut self, count: usize) {
        let outgoing = self.rig.vm.outgoing(MONITOR);
        let bytes = outgoing[..count.min(outgoing.len())].to_vec();
        let carried = self.rig.vm.outgoing_descriptor(MONITOR).and_then(|carried| carried.get::<Arc<u32>>());
        let carried = carried.filter(|_| !bytes.is_empty()).map(|number| **number);
        self.qemu.hears(&bytes, carried);
        self.rig.vm.sent(MONITOR, bytes.len());
    }

    fn execute(&mut self, which: Option<usize>) -> bool {
        let executed = self.qemu.executes(which);
        executed.into_iter().for_each(|id| self.rig.replies(id));
        executed.is_some()
    }

    /// Sends and executes everything. A deadlocked command would remain.
    fn finish(&mut self) {
        while self.rig.vm.session().commands() > 0 {
            while !self.rig.vm.outgoing(MONITOR).is_empty() {
                self.send(usize::MAX);
            }
            let executed = [Some(0), None].map(|which| self.execute(which));
            assert_ne!(executed, [false; 2], "a command waits for no other command");
        }
    }
}

proptest! {
    #[test]
    fn every_command_gets_its_own_descriptor(out_of_band in any::<bool>(), steps in prop::collection::vec(any_step(), 0..150)) {
        let mut world = World::new(out_of_band);
        for step in &steps {
            world.apply(step);
            let depth = if out_of_band { Session::IN_BAND_DEPTH } else { usize::MAX };
            prop_assert!(world.qemu.in_band.len() <= depth);
        }
        world.finish();
        for (id, number) in &world.issued {
            prop_assert_eq!(Arc::strong_count(number), 1, "a descriptor is kept after its command");
            let answered = world.rig.times_answered(*id);
            prop_assert!(answered == 1 || answered == 0 && world.disowned.contains(id), "{:?}: {}", id, answered);
            let answer = world.rig.vm.take(*id);
            prop_assert!(world.disowned.contains(id) || answer.is_some_and(|answer| answer.is_ok()));
        }
    }
}

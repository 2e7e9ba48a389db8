//! Exhaustive and random tests of interleaved commands: a reply reaches its own command and no other.

use std::rc::Rc;

use crate::rig::{Rig, config, is_thorough, secs};
use proptest::prelude::*;
use qemu_machine_core::{CommandError, Liveness, Progress, Ticket};

/// A command of an interleaving, and its state.
#[derive(Clone)]
struct Track {
    ticket: Rc<Ticket<&'static str>>,
    id: u16,
    is_cancelled: bool,
    is_replied: bool,
}

#[derive(Clone)]
struct World {
    rig: Rig,
    tracks: Vec<Track>,
    late: u64,
}

impl World {
    fn new(rig: Rig) -> Self {
        Self { rig, tracks: Vec::new(), late: 0 }
    }

    fn issue(&mut self) {
        let ticket = Rc::new(self.rig.issue("query-status"));
        let id = self.rig.take_ids()[0];
        let in_flight = self.tracks.iter().any(|track| !track.is_replied && track.id == id);
        assert!(!in_flight, "an id is reused only after its reply");
        self.tracks.push(Track { ticket, id, is_cancelled: false, is_replied: false });
    }

    fn cancel(&mut self, index: usize) {
        self.rig.vm.disown(self.tracks[index].ticket.id());
        self.tracks[index].is_cancelled = true;
    }

    fn reply(&mut self, index: usize) {
        self.rig.replies(self.tracks[index].id);
        self.tracks[index].is_replied = true;
        self.late += u64::from(self.tracks[index].is_cancelled);
        for (other, track) in self.tracks.iter().enumerate() {
            let own = other == index && !track.is_cancelled;
            assert_eq!(self.rig.claim(&track.ticket), own.then_some(Ok(u64::from(track.id))));
        }
        let counters = self.rig.vm.session().counters();
        assert_eq!((counters.late, counters.unmatched), (self.late, 0));
    }

    /// Explores every continuation to its end. Returns the number of ends.
    fn explore(self, commands: usize) -> usize {
        let mut ends = 0;
        let mut branch = |step: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            step(&mut world);
            ends += world.explore(commands);
        };
        if self.tracks.len() < commands {
            branch(&|world| world.issue());
        }
        for (index, track) in self.tracks.iter().enumerate().filter(|(_, track)| !track.is_replied) {
            branch(&|world| world.reply(index));
            if !track.is_cancelled {
                branch(&|world| world.cancel(index));
            }
        }
        if ends == 0 {
            assert_eq!(self.rig.vm.session().commands(), 0);
            return 1;
        }
        ends
    }
}

/// Replies come in any order, as those to out-of-band commands do. Three commands have interleavings enough for each place
/// in a queue: the first, the last and one between. With `QEMU_MACHINE_STATES=all` there are four, which takes a processor
/// half a minute.
#[test]
fn g02_every_interleaving_of_commands_with_cancellations() {
    // The numbers are those of a count by recursion. A single command is answered, or disowned and then answered.
    assert_eq!(World::new(Rig::ready(config())).explore(1), 2);
    assert_eq!(World::new(Rig::ready(config())).explore(2), 23);
    assert_eq!(World::new(Rig::ready(config())).explore(3), 680);
    if is_thorough() {
        assert_eq!(World::new(Rig::ready(config())).explore(4), 38_465);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Issues a command with a deadline of this many seconds.
    Issue(u64),
    Disown(prop::sample::Index),
    Pass(u64),
    Reply(prop::sample::Index),
    /// QEMU sends a reply again.
    Double(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..5).prop_map(Step::Issue),
        1 => any::<prop::sample::Index>().prop_map(Step::Disown),
        1 => (1_u64..4).prop_map(Step::Pass),
        4 => any::<prop::sample::Index>().prop_map(Step::Reply),
        1 => any::<prop::sample::Index>().prop_map(Step::Double),
    ]
}

/// The answer that a command must have by now. `None` means no answer yet.
type Expected = Option<Result<u64, CommandError>>;

/// Independent model of a conversation: the commands in flight with their ids, and the answer of every command.
#[derive(Default)]
struct Account {
    tickets: Vec<(Ticket<&'static str>, Expected)>,
    /// The id on the wire, the index of the ticket, and the deadline. `None` means disowned or timed out.
    flying: Vec<(u16, usize, Option<u64>)>,
    landed: Vec<u16>,
    now: u64,
    late: u64,
    unmatched: u64,
}

impl Account {
    fn apply(&mut self, rig: &mut Rig, step: &Step) {
        match step {
            Step::Issue(seconds) => {
                let ticket = rig.issue_within("query-status", secs(*seconds));
                let id = rig.take_ids()[0];
                self.flying.push((id, self.tickets.len(), Some(self.now + seconds)));
                self.tickets.push((ticket, None));
            }
            Step::Disown(index) if !self.flying.is_empty() => {
                let at = index.index(self.flying.len());
                let (_, ticket, until) = &mut self.flying[at];
                // A command that timed out has its answer, and keeps it.
                if until.take().is_some() {
                    rig.vm.disown(self.tickets[*ticket].0.id());
                }
            }
            Step::Pass(seconds) => {
                self.now += seconds;
                rig.pass(secs(*seconds));
                for (_, ticket, until) in &mut self.flying {
                    if until.is_some_and(|until| until <= self.now) {
                        *until = None;
                        self.tickets[*ticket].1 = Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
                    }
                }
            }
            Step::Reply(index) if !self.flying.is_empty() => {
                let (id, ticket, until) = self.flying.remove(index.index(self.flying.len()));
                rig.replies(id);
                self.landed.push(id);
                match until {
                    Some(_) => self.tickets[ticket].1 = Some(Ok(u64::from(id))),
                    None => self.late += 1,
                }
            }
            Step::Double(index) if !self.landed.is_empty() => {
                let id = *index.get(&self.landed);
                // If the id is in use again, a repeated reply would count as its reply; ids rest before reuse to avoid
                // that.
                if self.flying.iter().all(|(other, ..)| *other != id) {
                    rig.replies(id);
                    self.unmatched += 1;
                }
            }
            Step::Disown(_) | Step::Reply(_) | Step::Double(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn g02_every_command_gets_its_own_answer(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut rig = Rig::ready(config());
        let mut account = Account::default();
        for step in &steps {
            account.apply(&mut rig, step);
            let counters = rig.vm.session().counters();
            prop_assert_eq!((counters.late, counters.unmatched), (account.late, account.unmatched));
            prop_assert_eq!(rig.vm.session().commands(), account.flying.len());
        }
        for (ticket, expected) in account.tickets {
            prop_assert_eq!(rig.times_answered(ticket.id()), usize::from(expected.is_some()));
            prop_assert_eq!(rig.claim(&ticket), expected);
        }
    }
}

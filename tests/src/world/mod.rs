//! Simulated world in virtual time: a machine with its driver, a QEMU, a host and a caller, all generated from one
//! seed.
//!
//! The world is as sans-IO as the core: a queue of timed events, and a driver that follows the core's contract exactly.
//! A check that fails reports the seed, which reproduces the same world.

mod bounds;
mod caller;
mod ending;
mod host;
mod ledger;
mod plan;
mod promises;
mod qemu;
mod random;
mod request;
mod scene;
mod seen;
mod speech;
mod timeline;
mod verdict;
mod waiting;
mod witness;

use speech::PeerMessage;
use std::time::Duration;

use qemu_machine_core::{Channel, CommandId, Input, Machine, Moment, Notice, State, WaitId};

use bounds::Bounds;
use caller::Caller;
use host::Host;
use ledger::{AnswerContext, Ledger};
use plan::Fate;
use qemu::Qemu;
use scene::{LocalEnd, Scene};
use timeline::What;
use waiting::Over;
use witness::Witness;

pub use seen::Seen;

/// The bound on the steps of a world. A world takes some thousands; one that reaches this bound would never end.
const MOST: usize = 200_000;

/// What happened in a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Every effect, input, request and reply, with its time in microseconds.
    pub lines: Vec<String>,
    /// The number of occurrences of each situation.
    pub seen: Seen,
    /// The first check that failed; `None` means that all promises were kept.
    pub broken: Option<String>,
}

/// Runs the world of this seed.
#[must_use]
pub fn run(seed: u64) -> Transcript {
    happen(World::new(seed, false)).0
}

/// Runs a world, and returns its transcript and its machine.
fn happen(mut world: World) -> (Transcript, Machine) {
    world.scene.after(Duration::ZERO, What::Act);
    while world.step() {}
    world.check_rest();
    let Scene { lines, seen, broken, .. } = world.scene;
    (Transcript { lines, seen, broken }, world.machine)
}

/// Runs the world of this seed twice, once with a recorded machine. Both runs must be the same and keep all promises,
/// and the record must replay.
///
/// # Panics
///
/// If a promise is broken. The message has the seed and the end of the transcript.
#[must_use]
pub fn check(seed: u64) -> Transcript {
    let transcript = run(seed);
    if let Some(broken) = &transcript.broken {
        panic!("seed {seed}: {broken}\n{}", last(&transcript.lines));
    }
    let (again, machine) = happen(World::new(seed, true));
    if transcript != again {
        let same = transcript.lines.iter().zip(&again.lines).take_while(|(one, other)| one == other).count();
        panic!(
            "seed {seed} gives two different worlds:\n{}",
            last(&transcript.lines[..transcript.lines.len().min(same + 1)])
        );
    }
    if let Err(problem) = replay(machine) {
        panic!("seed {seed}: {problem}");
    }
    transcript
}

/// Checks that the record of a machine replays to an equal machine.
fn replay(mut machine: Machine) -> Result<(), String> {
    const LATER: Moment = Moment::new(Duration::MAX);
    let record = machine.record().ok_or("it was not recorded")?;
    let mut replayed = record.replay().map_err(|diverged| diverged.to_string())?;
    // A record has the passing of time only where a deadline was due, so the two clocks may differ.
    replayed.handle(LATER, Input::TimePassed);
    machine.handle(LATER, Input::TimePassed);
    if replayed == machine { Ok(()) } else { Err(format!("the replay of {machine:#?} gives {replayed:#?}")) }
}

fn last(lines: &[String]) -> String {
    const LAST: usize = 40;
    lines[lines.len().saturating_sub(LAST)..].join("\n")
}

/// A machine, its environment, and the checks of it.
#[derive(Debug)]
struct World {
    machine: Machine,
    scene: Scene,
    host: Host,
    qemu: Qemu,
    caller: Caller,
    ledger: Ledger,
    witness: Witness,
    bounds: Bounds,
    descriptors: Vec<(Channel, i32)>,
    /// The time of the latest input. A refused request may leave the machine's clock unchanged.
    told: Option<Moment>,
    /// The number of the next event that is due as a notice.
    event: u64,
    steps: usize,
}

impl World {
    fn new(seed: u64, recorded: bool) -> Self {
        let mut scene = Scene::new(seed);
        let style = scene.style.clone();
        scene.tell(format!("seed {seed}: {style:?}"));
        let fate = Fate::draw(&mut scene.random, &style);
        let config = if recorded { style.config().recorded() } else { style.config() };
        Self {
            machine: Machine::new(config).expect("the configuration is valid"),
            qemu: Qemu::new(fate),
            host: Host::default(),
            caller: Caller::new(style.acts, style.runs, style.consoles),
            ledger: Ledger::default(),
            witness: Witness::new(style.limits, style.consoles),
            bounds: Bounds::none(),
            descriptors: Vec::new(),
            told: None,
            event: 0,
            steps: 0,
            scene,
        }
    }

    /// Returns the time that the driver passes. Sometimes it goes back, which must change nothing.
    fn told(&mut self) -> Moment {
        let now = self.scene.now;
        if self.told == Some(now) && self.scene.random.chance(2) {
            self.scene.seen.note("clock went back");
            return Moment::new(now.since(Moment::new(Duration::from_millis(3))));
        }
        now
    }

    /// Reports an input to the machine.
    fn handle(&mut self, input: Input<'_>) {
        self.scene.tell(format!("-> {}", host::describe(&input)));
        let now = self.told();
        self.machine.handle(now, input);
        self.told = Some(self.scene.now);
    }

    /// Waits for the next event, as a driver does, and handles it. Returns whether the world goes on.
    fn step(&mut self) -> bool {
        self.steps += 1;
        let is_over = matches!(self.machine.state(), State::Idle | State::Ended);
        if self.scene.broken.is_some() || (is_over && self.caller.is_done) {
            return false;
        }
        let Some(is_due) = self.advance() else {
            self.scene.fail(format!("no event is left, and the machine is {:?}", self.machine.state()));
            return false;
        };
        if is_due {
            self.handle(Input::TimePassed);
        } else if let Some((run, what)) = self.scene.timeline.pop() {
            // Events of an earlier run are dropped; those of the caller are not.
            if run == self.scene.run || what == What::Act {
                self.happens(what);
            }
        }
        self.turn();
        let spins = is_due && self.machine.deadline().is_some_and(|(due, _)| due <= self.scene.now);
        self.scene.demand(!spins, || format!("a deadline stays due: {:?}", self.machine.deadline()));
        self.check();
        self.scene.demand(self.steps < MOST, || "the world does not end".into());
        true
    }

    /// Advances the clock to the next event or the machine's deadline. Returns whether it is the deadline; `None` means
    /// that there is neither.
    fn advance(&mut self) -> Option<bool> {
        let due = self.machine.deadline().map(|(due, _)| due);
        let next = self.scene.timeline.next();
        let (is_due, at) = match (due, next) {
            (Some(due), Some(next)) if due == next => (self.scene.random.chance(50), due),
            (Some(due), Some(next)) => (due < next, due.min(next)),
            (Some(due), None) => (true, due),
            (None, Some(next)) => (false, next),
            (None, None) => return None,
        };
        self.scene.now = self.scene.now.max(at);
        Some(is_due)
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Act => self.act(),
            What::Done(order) => self.complete(order),
            What::Deliver(channel) => self.deliver(channel),
            What::Read(channel) => self.qemu.read(channel, &mut self.scene),
            What::Exited => self.exit(),
            What::Qemu(tick) => self.qemu.tick(tick, &mut self.scene),
        }
        if self.scene.random.chance(3) {
            self.handle(Input::TimePassed);
        }
    }

    /// Starts all effects, pops all notices, and writes as much as the sockets accept.
    fn turn(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(effect) = self.machine.poll_effect() {
                is_quiet = false;
                self.start(effect);
            }
            while let Some(notice) = self.machine.poll_notice() {
                is_quiet = false;
                self.notice(notice);
            }
            if is_quiet && !self.flush() {
                return;
            }
        }
    }

    /// Writes outgoing bytes, and returns whether any were sent.
    fn flush(&mut self) -> bool {
        let mut has_sent = false;
        for channel in self.machine.channels().to_vec() {
            let outgoing = self.machine.outgoing(channel);
            let sent = if outgoing.is_empty() { 0 } else { self.scene.send(channel, outgoing) };
            if sent > 0 {
                has_sent = true;
                self.machine.sent(channel, sent);
                if let Channel::Console(index) = channel {
                    self.caller.sent[index] += sent;
                }
            }
        }
        has_sent
    }

    /// Reports the bytes or the end of file that arrive at the driver.
    fn deliver(&mut self, channel: Channel) {
        match self.scene.deliver(channel) {
            _ if self.scene.wires.get(&channel).is_none_or(|wire| wire.local != LocalEnd::Open) => {}
            Some(bytes) => {
                self.handle(Input::Received(channel, &bytes));
                self.note_if(self.host.exited.is_some(), "last words behind the exit");
                match channel {
                    Channel::Monitor => self.hear(),
                    Channel::Console(index) => self.witness.printed(index, &bytes),
                }
            }
            None if self.scene.wires.get(&channel).is_some_and(|wire| wire.ended) => self.closed(channel),
            None => {}
        }
        self.scene.stir(channel);
    }

    /// Records the messages of the monitor that have arrived completely.
    fn hear(&mut self) {
        let delivered = self.scene.wires.get(&Channel::Monitor).map_or(0, |wire| wire.delivered);
        for said in self.qemu.reached(delivered) {
            // The machine ignores a monitor that has refused the negotiation.
            if self.bounds.declined {
                continue;
            }
            match said {
                PeerMessage::Greeting => self.bounds.greeted(),
                PeerMessage::Accepted { out_of_band } => self.bounds.accepted(out_of_band),
                PeerMessage::Declined => self.bounds.declined(),
                PeerMessage::Event(event) => self.witness.event(event),
                PeerMessage::Sign => self.ledger.sign = Some(self.scene.now),
                PeerMessage::Doubled => {
                    self.scene.seen.note("doubled reply");
                    self.ledger.doubled += 1;
                }
                PeerMessage::Reply { nonce, quits, how } => {
                    self.witness.quit_returned |= quits;
                    let late = self.ledger.late;
                    match nonce {
                        Some(nonce) => self.ledger.replied(nonce, how),
                        None => self.ledger.ladder += 1,
                    }
                    self.note_if(self.ledger.late > late, "late reply");
                }
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.scene.tell(format!("<- {notice:?}"));
        match notice {
            Notice::Ready => {
                let is_right = self.bounds.ready_at.is_none() && self.machine.launched() == Some(Ok(()));
                self.scene.demand(is_right, || "the machine is ready, but not launched".into());
                self.bounds.ready_at = Some(self.scene.now);
            }
            Notice::Answered(id) => self.answered(id),
            Notice::Event(number) => {
                let event = self.machine.event(number);
                let is_it = event.is_none_or(|event| self.witness.is(event, number as usize));
                let is_next = number == self.event;
                self.scene.demand(is_it && is_next, || format!("event {number} is not the one that QEMU sent"));
                self.event = number + 1;
            }
            Notice::Waited(id) => self.waited(id),
            Notice::Ended => self.ended(),
            _ => {}
        }
    }

    fn answered(&mut self, id: CommandId) {
        let answer = AnswerContext {
            at: self.scene.now,
            is_disconnected: self.bounds.is_disconnected(self.machine.state()),
            is_in_band_only: self.bounds.out_of_band == Some(false),
            asks_since: self.bounds.ready_at.filter(|_| self.bounds.out_of_band == Some(true)),
            responds: self.qemu.responds(),
            sign: self.ledger.sign,
        };
        match self.ledger.noticed(id, answer) {
            Ok(nonce) if self.scene.random.chance(70) => self.claim(nonce),
            Ok(_) => {}
            Err(what) => self.scene.fail(what),
        }
    }

    fn claim(&mut self, nonce: u64) {
        match self.ledger.claim(nonce, &mut self.machine) {
            Ok(how) => {
                self.scene.tell(format!("#{nonce} {how}"));
                self.scene.seen.note(how);
            }
            Err(what) => self.scene.fail(what),
        }
    }

    fn waited(&mut self, id: WaitId) {
        let ended = self.machine.outcome().is_some();
        let over = Over { at: self.scene.now, events_close_at: self.events_close_at(), ended };
        match self.witness.waits.iter_mut().find(|wait| wait.id == id) {
            Some(wait) => {
                let result = wait.over(over);
                self.scene.check(result);
                if self.scene.random.chance(80) {
                    self.claim_wait(id);
                }
            }
            None => self.scene.fail(format!("{id:?} is over, but was not begun")),
        }
    }

    fn claim_wait(&mut self, id: WaitId) {
        let Some(index) = self.witness.waits.iter().position(|wait| wait.id == id) else { return };
        let wait = self.witness.waits.swap_remove(index);
        let Some(result) = self.machine.claim_wait(id) else {
            return self.scene.fail(format!("{id:?} is over, but has no result to claim"));
        };
        match wait.judge(&result, &self.witness) {
            Ok(place) => {
                self.scene.seen.note(waiting::name(&result));
                if let (Some(place), Ok(hit)) = (place, result) {
                    self.caller.remember(hit.mark, place);
                }
            }
            Err(what) => self.scene.fail(what),
        }
    }
}

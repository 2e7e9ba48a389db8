//! Caller of a world: uses every request of the machine, at random times.

use std::time::Duration;

use qemu_machine_core::{
    Deadline, FOREVER, Mark, Misuse, Moment, OutOfBand, Raw, Shutdown, State, Ticket, Wait, WithRawReply, json,
};

use super::World;
use super::bounds::Bounds;
use super::ledger::Held;
use super::plan::{console_name, millis, secs};
use super::timeline::What;
use super::waiting::{Position, Thing, Waiting};

/// The state of the caller, and the number of actions and runs that are left.
#[derive(Debug)]
pub(super) struct Caller {
    acts: u64,
    runs: u32,
    /// Whether the caller has done its last action.
    pub(super) is_done: bool,
    places: Vec<(Mark, Position)>,
    /// The bytes that were written to each console in this run, and the number of those that were sent.
    pub(super) typed: Vec<Vec<u8>>,
    pub(super) sent: Vec<usize>,
}

const NAMES: [&str; 9] = [
    "query-status",
    "query-name",
    "query-kvm",
    "stop",
    "cont",
    "system_reset",
    "slow",
    "no-such-command",
    "system_powerdown",
];

const TEXTS: [&[u8]; 5] = [b"login: ", b"panic", b"$ ", b"\xff\xfe", b"ok o"];

/// The ways to write a command.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    WithRawReply,
    OutOfBand,
    Raw,
    Malformed,
    Quit,
}

const WAYS: [Way; 20] = {
    let mut ways = [Way::Plain; 20];
    (ways[0], ways[1], ways[2], ways[3]) = (Way::WithRawReply, Way::OutOfBand, Way::OutOfBand, Way::OutOfBand);
    (ways[4], ways[5], ways[6]) = (Way::Raw, Way::Raw, Way::Malformed);
    ways
};

impl Caller {
    pub(super) fn new(acts: u64, runs: u32, consoles: usize) -> Self {
        Self {
            acts,
            runs,
            is_done: false,
            places: vec![(Mark::default(), Position::default())],
            typed: vec![Vec::new(); consoles],
            sent: vec![0; consoles],
        }
    }

    fn begin_run(&mut self) {
        self.runs -= 1;
        self.typed.iter_mut().for_each(Vec::clear);
        self.sent.fill(0);
    }

    pub(super) fn remember(&mut self, mark: Mark, place: Position) {
        self.places.push((mark, place));
    }
}

impl World {
    /// Does the next action of the caller, and schedules another.
    pub(super) fn act(&mut self) {
        if self.caller.acts == 0 {
            return self.last_act();
        }
        self.caller.acts -= 1;
        let can_launch = matches!(self.machine.state(), State::Idle | State::Ended);
        match self.scene.random.below(100) {
            0..60 if can_launch => self.launch(),
            0..40 => self.execute_some(),
            40..48 => self.disown_one(),
            48..70 => self.wait(),
            70..76 => self.claim_all(),
            76..86 => self.type_some(),
            86..89 => self.shut_down(),
            89..91 => self.kill(),
            91..95 => self.drop_one_wait(),
            _ => self.mark(),
        }
        let most = self.scene.random.pick(&[millis(0), millis(2), millis(2), millis(20), secs(1), secs(8)]);
        self.scene.within(most, What::Act);
    }

    /// Ends the last run.
    fn last_act(&mut self) {
        self.caller.is_done = true;
        if self.scene.random.chance(60) {
            self.shut_down();
        } else {
            self.kill();
        }
    }

    fn launch(&mut self) {
        if self.caller.runs == 0 {
            return;
        }
        let was_idle = self.machine.state() == State::Idle;
        let now = self.told();
        match self.machine.launch(now) {
            Ok(()) => {
                let what_is_left = self.host.left();
                self.scene.demand(what_is_left.is_none(), || format!("a launch while {what_is_left:?} is left"));
                self.scene.tell("launch");
                self.note_if(!was_idle, "relaunch");
                self.begin_run();
                self.caller.begin_run();
                self.witness.begin_run();
                self.ledger.begin_run();
                self.bounds = Bounds::launched(&self.scene);
            }
            Err(misuse) => self.refused(&misuse),
        }
    }

    fn deadline(&mut self) -> Deadline {
        let most =
            self.scene.random.pick(&[None, None, Some(millis(0)), Some(millis(4)), Some(secs(1)), Some(secs(30))]);
        most.map_or(FOREVER, |most| Deadline::after(self.scene.random.within(most)))
    }

    fn execute_some(&mut self) {
        let count = self.scene.random.pick(&[1, 1, 1, 2, 4, 12]);
        let same = self.scene.random.pick(&WAYS);
        for _ in 0..count {
            let mut way = if self.scene.random.chance(50) { same } else { self.scene.random.pick(&WAYS) };
            if self.scene.random.below(150) == 0 {
                way = Way::Quit;
            }
            // A monitor that repeats replies must find no command under a reused id. So no command may be sent beyond
            // the in-band depth, or stay open for long.
            if self.scene.style.stutters && matches!(way, Way::OutOfBand | Way::Malformed) {
                way = Way::Plain;
            }
            self.execute(way);
        }
    }

    fn execute(&mut self, way: Way) {
        let name = match way {
            Way::OutOfBand if !self.scene.random.chance(10) => "query-yank",
            Way::Quit => "quit",
            _ => self.scene.random.pick(&NAMES),
        };
        let (nonce, deadline) = (self.ledger.next(), self.deadline());
        let command = (name, json!({"nonce": nonce, "text": self.scene.random.pick(&["", "}", "\"{", "\\", "é\n"])}));
        let now = self.told();
        let held = match way {
            Way::Plain | Way::Quit => self.machine.execute(now, &command, deadline).map(Held::Plain),
            Way::WithRawReply => self.machine.execute(now, &WithRawReply(command), deadline).map(Held::WithRawReply),
            Way::OutOfBand => self.machine.execute(now, &OutOfBand(command), deadline).map(Held::OutOfBand),
            Way::Raw => self.execute_raw(now, name, "", deadline).map(Held::Raw),
            Way::Malformed => self.execute_raw(now, name, r#","x": "\ud83d""#, deadline).map(Held::Raw),
        };
        match held {
            Ok(held) => {
                self.scene.tell(format!("#{nonce} {way:?} {name}, {deadline:?}"));
                let until = deadline.passes_at(self.scene.now);
                let accepted = self.ledger.accept(self.scene.now, held, name, until);
                self.scene.check(accepted);
            }
            Err(misuse) => self.refused(&misuse),
        }
    }

    fn execute_raw(&mut self, now: Moment, name: &str, more: &str, by: Deadline) -> Result<Ticket<Raw>, Misuse> {
        let nonce = self.ledger.next();
        let text = format!(r#" {{ "execute": "{name}", "arguments": {{"nonce": {nonce}{more}}} }} "#);
        self.machine.execute_raw(now, text.as_bytes(), by)
    }

    /// Checks that a refusal is justified.
    fn refused(&mut self, misuse: &Misuse) {
        self.scene.tell(format!("refused: {misuse}"));
        self.note_if(matches!(misuse, Misuse::TooManyCommands(_)), "too many commands");
        self.note_if(matches!(misuse, Misuse::NotReaped), "no launch beside the last process");
        let state = self.machine.state();
        let is_right = match misuse {
            Misuse::NotLaunched => state == State::Idle,
            Misuse::Ended => state == State::Ended,
            Misuse::NotReaped => state == State::Ended && self.host.left().is_some(),
            Misuse::NoMonitor => !self.scene.style.monitor,
            // A command that timed out and was not claimed counts twice: on the wire, and with its result.
            Misuse::TooManyCommands(limit) => 2 * self.ledger.next() as usize + 2 >= *limit,
            _ => false,
        };
        self.scene.demand(is_right, || format!("refused while {state:?}: {misuse}"));
    }

    fn disown_one(&mut self) {
        let mut all = self.ledger.open().to_vec();
        all.extend(self.ledger.answered());
        if !all.is_empty() {
            let nonce = self.scene.random.pick(&all);
            self.scene.tell(format!("#{nonce} disowned"));
            self.scene.seen.note("disowned");
            self.ledger.disown(nonce, &mut self.machine);
        }
    }

    fn claim_all(&mut self) {
        for nonce in self.ledger.answered() {
            self.claim(nonce);
        }
        let over: Vec<_> = self.witness.waits.iter().filter(|wait| wait.is_over()).map(|wait| wait.id).collect();
        over.into_iter().for_each(|id| self.claim_wait(id));
    }

    fn mark(&mut self) {
        let (mark, place) = (self.machine.mark(), self.witness.place());
        self.caller.remember(mark, place);
    }

    fn wait(&mut self) {
        if self.scene.random.chance(60) {
            self.mark();
        }
        let latest = self.caller.places.len() - 1;
        let which = if self.scene.random.chance(60) { latest } else { self.scene.random.size(0, latest) };
        let (mark, place) = self.caller.places[which].clone();
        let things: Vec<Thing> = (0..self.scene.random.between(1, 3)).map(|_| self.thing()).collect();
        let deadline = self.deadline();
        let now = self.told();
        match self.machine.wait(now, &mark, things.iter().map(Thing::wait), deadline) {
            Ok(id) => {
                self.scene.tell(format!("{id:?} for {things:?} from {place:?}, {deadline:?}"));
                let now = self.scene.now;
                self.witness.begin(Waiting::new(id, things, place, now, deadline.passes_at(now)));
            }
            Err(misuse) => self.refused(&misuse),
        }
    }

    fn thing(&mut self) -> Thing {
        let name = self.scene.random.pick(&[None, Some("STOP"), Some("RESET"), Some("RTC_CHANGE"), Some("SHUTDOWN")]);
        let number = self.scene.random.chance(30).then(|| self.scene.random.below(12));
        match self.scene.random.below(5) {
            0 => Thing::End,
            1 | 2 if self.scene.style.consoles > 0 => {
                let console = self.scene.random.size(0, self.scene.style.consoles - 1);
                Thing::Text { console, text: self.scene.random.pick(&TEXTS) }
            }
            _ => Thing::Event { name, number },
        }
    }

    fn drop_one_wait(&mut self) {
        if self.witness.waits.is_empty() {
            return;
        }
        let index = self.scene.random.size(0, self.witness.waits.len() - 1);
        let wait = self.witness.waits.swap_remove(index);
        self.scene.tell(format!("{:?} disowned", wait.id));
        self.machine.disown_wait(wait.id);
    }

    fn type_some(&mut self) {
        if self.scene.style.consoles == 0 {
            return;
        }
        let index = self.scene.random.size(0, self.scene.style.consoles - 1);
        let bytes: Vec<u8> = (0..self.scene.random.between(0, 40)).map(|_| self.scene.random.pick(b"root\n")).collect();
        let waiting = self.caller.typed[index].len() - self.caller.sent[index];
        let now = self.told();
        match self.machine.console_write(now, console_name(index), &bytes) {
            Ok(()) => self.caller.typed[index].extend(bytes),
            Err(Misuse::ConsoleInputFull(limit)) => {
                self.scene.seen.note("console input full");
                self.scene.demand(waiting + bytes.len() > limit, || "refused although there is room".into());
            }
            Err(misuse) => self.refused(&misuse),
        }
    }

    fn shut_down(&mut self) {
        let total = self.scene.random.pick(&[secs(0), secs(1), secs(9), secs(30)]);
        let mut how = Shutdown::within(self.scene.random.within(total));
        if self.scene.random.chance(35) {
            how = how.power_down(self.scene.random.within(secs(40)));
            if self.scene.random.chance(50) {
                how = how.power_down_again(millis(200) + self.scene.random.within(secs(15)));
            }
        }
        let now = self.told();
        let asked = self.machine.shutdown(now, how);
        // A shutdown that is in progress continues as first requested.
        self.asked(asked, (!self.bounds.asked).then(|| how.total()), "shutdown");
    }

    fn kill(&mut self) {
        let now = self.told();
        let asked = self.machine.kill(now);
        self.asked(asked, Some(Duration::ZERO), "kill");
    }

    fn asked(&mut self, asked: Result<(), Misuse>, patience: Option<Duration>, what: &str) {
        self.scene.tell(format!("{what} while {:?}: {patience:?}", self.bounds.launching));
        match asked {
            Ok(()) if self.bounds.ended => {}
            Ok(()) => {
                if let Some(patience) = patience {
                    self.bounds.asked(self.scene.now, patience);
                }
            }
            Err(misuse) => self.refused(&misuse),
        }
    }
}

impl Thing {
    fn wait(&self) -> Wait {
        match self {
            Self::End => Wait::end(),
            Self::Text { console, text } => Wait::text(console_name(*console), *text),
            Self::Event { name, number } => {
                let event = name.map_or_else(Wait::any_event, Wait::event);
                number.map_or_else(|| event.clone(), |number| event.clone().with(json!({"n": number})))
            }
        }
    }
}

//! Properties of conversations with a peer that keeps the rules, but may send garbage in place of a reply: each answer
//! belongs to its command, and in the end each command has one.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use qemu_machine_core::{
    Channel, CommandError, CommandId, Config, Deadline, Descriptor, Dialect, FOREVER, Input, Limits, Machine, Moment,
    Notice, OutOfBand, Peer, Value, json,
};

use super::Tape;
use super::host::completion;

const LIMIT: usize = 300;

/// A command that was accepted.
struct Asked {
    number: u64,
    until: Option<Moment>,
    raw: bool,
}

/// A command that the peer has read and not answered. `sync` is the number that the reply must repeat.
struct Read {
    id: Value,
    number: u64,
    raw: bool,
    sync: Option<u64>,
    /// The reply to `guest-sync-delimited` begins with a delimiter.
    delimited: bool,
}

struct Talk {
    machine: Machine,
    dialect: Dialect,
    /// Whether the peer echoes ids: guest agents get none.
    gives_ids: bool,
    /// Whether the peer refuses `guest-sync-delimited`.
    refuses_delimited: bool,
    out_of_band: bool,
    now: Moment,
    numbers: u64,
    open: BTreeMap<CommandId, Asked>,
    /// The bytes that the peer has received and not read.
    received: Vec<u8>,
    in_band: VecDeque<Read>,
    out: VecDeque<Read>,
    /// The numbers of replies to commands that the peer sent, of those that arrived, and of malformed and too large
    /// lines.
    replies: u64,
    arrived: u64,
    garbage: u64,
    large: u64,
}

pub(super) fn run(tape: &mut Tape<'_>) {
    let mut talk = Talk::begin(tape);
    while !tape.is_empty() {
        talk.step(tape);
        talk.look();
    }
    talk.finish();
}

impl Talk {
    fn begin(tape: &mut Tape<'_>) -> Self {
        let dialect = tape.pick(&[Dialect::Qmp, Dialect::GuestAgent, Dialect::Qtest]);
        let refuses_delimited = dialect != Dialect::Qmp && tape.flag();
        let (gives_ids, out_of_band) = (dialect == Dialect::Qmp, tape.flag());
        let mut limits = Limits::default();
        (limits.message, limits.commands) = (LIMIT, 40);
        let config = Config::attach(Peer::Connected(Descriptor::new(())))
            .speaking(dialect)
            .limits(limits)
            .launch_within(FOREVER);
        let machine = Machine::new(config).expect("a good configuration");
        let mut talk = Self {
            machine,
            dialect,
            gives_ids,
            refuses_delimited,
            out_of_band,
            now: Moment::ORIGIN,
            numbers: 0,
            open: BTreeMap::new(),
            received: Vec::new(),
            in_band: VecDeque::new(),
            out: VecDeque::new(),
            replies: 0,
            arrived: 0,
            garbage: 0,
            large: 0,
        };
        talk.machine.launch(talk.now).expect("it is idle");
        talk.look();
        if dialect == Dialect::Qmp {
            let offered = if out_of_band { "\"oob\"" } else { "" };
            let version = r#""version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}"#;
            talk.say(&format!("{{\"QMP\": {{{version}, \"capabilities\": [{offered}]}}}}"));
        }
        if tape.flag() {
            talk.run_until_idle();
            assert_eq!(talk.machine.launched(), Some(Ok(())));
        }
        talk
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.below(12) {
            0..3 => self.ask(tape),
            3 => self.disown(tape),
            4 => self.pass(Duration::from_secs(u64::from(tape.byte() & 15))),
            5 => self.hear(tape.below(120)),
            6 => self.hear(usize::MAX),
            7 | 8 => self.reply(tape.below(4) != 3),
            9 => {
                if let Some(read) = self.out.pop_front() {
                    self.answer(&read, true);
                }
            }
            10 => self.say_something(tape),
            _ => self.say_garbage(tape),
        }
    }

    fn ask(&mut self, tape: &mut Tape<'_>) {
        let number = self.numbers;
        let until = [None, Some(2), Some(7)][tape.below(3)].map(Duration::from_secs);
        let within: Deadline = until.map_or(FOREVER, Deadline::after);
        let arguments = json!({"n": number});
        let (now, machine) = (self.now, &mut self.machine);
        let how = if self.dialect == Dialect::Qtest { 9 } else { tape.below(4) };
        let raw = how == 1;
        let id = match how {
            1 => {
                let object = json!({"execute": "raw", "arguments": arguments}).to_string();
                machine.execute_raw(now, object.as_bytes(), within).map(|ticket| ticket.id())
            }
            2 if self.dialect == Dialect::Qmp => {
                machine.execute(now, &OutOfBand(("oob", arguments)), within).map(|ticket| ticket.id())
            }
            3 => {
                let descriptor = Descriptor::new(number);
                machine.execute_with_fd(now, &("add-fd", arguments), descriptor, within).map(|ticket| ticket.id())
            }
            9 => machine.execute_line(now, &format!("c {number}"), within).map(|ticket| ticket.id()),
            _ => machine.execute(now, &("c", arguments), within).map(|ticket| ticket.id()),
        };
        if let Ok(id) = id {
            self.numbers += 1;
            let asked = Asked { number, until: within.passes_at(now), raw };
            assert!(self.open.insert(id, asked).is_none(), "an id was used twice");
        }
    }

    fn disown(&mut self, tape: &mut Tape<'_>) {
        let Some(id) = self.open.keys().nth(tape.below(self.open.len())).copied() else { return };
        self.open.remove(&id);
        self.machine.disown(id);
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.machine.handle(self.now, Input::TimePassed);
    }

    /// The peer receives this many of the outgoing bytes, and reads the complete commands.
    fn hear(&mut self, most: usize) {
        let outgoing = self.machine.outgoing(Channel::Monitor);
        let count = most.min(outgoing.len());
        self.received.extend_from_slice(&outgoing[..count]);
        self.machine.sent(Channel::Monitor, count);
        let received = core::mem::take(&mut self.received);
        self.received = match self.dialect {
            Dialect::Qtest => self.read_lines(&received),
            _ => self.read_objects(&received),
        };
    }

    fn read_lines(&mut self, received: &[u8]) -> Vec<u8> {
        let mut lines: Vec<&[u8]> = received.split(|byte| *byte == b'\n').collect();
        let rest = lines.pop().unwrap_or_default().to_vec();
        for line in lines {
            let number = String::from_utf8_lossy(line).strip_prefix("c ").and_then(|number| number.parse().ok());
            let number = number.expect("a line of `ask`");
            assert!(self.in_band.is_empty(), "two lines in flight");
            self.in_band.push_back(Read { id: Value::Null, number, raw: false, sync: None, delimited: false });
        }
        rest
    }

    /// The peer reads complete commands. A 0xFF delimiter resets the parser of a guest agent, and so drops an
    /// incomplete command (`docs/interop/qmp-spec.rst`, QGA Synchronization).
    fn read_objects(&mut self, received: &[u8]) -> Vec<u8> {
        let last = received.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
        let mut rest = received;
        while !rest.is_empty() {
            let begin = usize::from(rest[0] == 0xff);
            let mut objects = serde_json::Deserializer::from_slice(&rest[begin..]).into_iter::<Value>();
            let Some(Ok(command)) = objects.next() else { break };
            rest = &rest[begin + objects.byte_offset()..];
            self.read(command);
        }
        assert!(received.len() - rest.len() >= last.saturating_sub(1), "half a command before a delimiter");
        rest.to_vec()
    }

    fn read(&mut self, command: Value) {
        let arguments = &command["arguments"];
        let delimited = command["execute"] == "guest-sync-delimited";
        let is_sync = delimited || command["execute"] == "guest-sync";
        let sync = is_sync.then(|| arguments["id"].as_u64().expect("a number"));
        let number = arguments["n"].as_u64().unwrap_or(u64::MAX);
        let read = Read { id: command["id"].clone(), number, raw: command["execute"] == "raw", sync, delimited };
        assert!(self.gives_ids || read.id.is_null(), "a guest agent gets no ids: {command}");
        let taken = |other: &Read| sync.is_none() && other.sync.is_none() && other.id == read.id;
        assert!(!self.in_band.iter().chain(&self.out).any(taken) || !self.gives_ids, "{} is taken", read.id);
        let all = if command["exec-oob"].is_null() { &mut self.in_band } else { &mut self.out };
        all.push_back(read);
    }

    /// The peer answers the oldest command, with success or an error.
    fn reply(&mut self, well: bool) {
        let Some(read) = self.in_band.pop_front() else { return };
        self.answer(&read, well || read.number == u64::MAX);
    }

    fn answer(&mut self, read: &Read, well: bool) {
        if let Some(number) = read.sync {
            let reply = format!("{{\"return\": {number}}}");
            return match (read.delimited, self.refuses_delimited) {
                (false, _) => self.say(&reply),
                (true, false) => self.receive(&[b"\xff", reply.as_bytes(), b"\n"].concat()),
                (true, true) => self.say(r#"{"error": {"class": "CommandNotFound", "desc": "disabled"}}"#),
            };
        }
        self.replies += u64::from(read.number != u64::MAX);
        let id = if self.gives_ids { format!(", \"id\": {}", read.id) } else { String::new() };
        let number = read.number;
        match (self.dialect, well) {
            (Dialect::Qtest, true) => self.say(&format!("OK {number}")),
            (Dialect::Qtest, false) => self.say(&format!("FAIL {number}")),
            (_, true) => self.say(&format!("{{\"return\": {{\"n\": {number}}}{id}}}")),
            (_, false) => self.say(&format!("{{\"error\": {{\"class\": \"C\", \"desc\": \"{number}\"}}{id}}}")),
        }
    }

    fn say_something(&mut self, tape: &mut Tape<'_>) {
        match self.dialect {
            Dialect::Qmp => self.say(r#"{"event": "STOP", "data": {"return": {}, "id": 0}}"#),
            Dialect::Qtest => self.say(tape.pick(&["IRQ raise 1", "IRQ lower 70"])),
            _ => {}
        }
    }

    /// The peer sends garbage instead of the reply to the oldest command, or, as a monitor, in addition to it; but not
    /// during the negotiation.
    fn say_garbage(&mut self, tape: &mut Tape<'_>) {
        let is_command = |read: &Read| read.sync.is_none() && read.number != u64::MAX;
        let beside = self.dialect == Dialect::Qmp && self.machine.session().is_ready() && tape.flag();
        if !beside && !self.in_band.front().is_some_and(is_command) {
            return;
        }
        let read = if beside { None } else { self.in_band.pop_front() };
        match (tape.below(3), read) {
            (0, Some(read)) if read.raw && self.dialect == Dialect::Qmp => {
                self.replies += 1;
                self.say(r#"{"error": {"class": "GenericError", "desc": "nameless"}}"#);
            }
            (1, _) | (_, None) if self.dialect != Dialect::Qtest => {
                self.garbage += 1;
                self.say("garbage");
            }
            _ => {
                self.large += 1;
                self.say(&"x".repeat(LIMIT + 1));
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.receive(format!("{line}\r\n").as_bytes());
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.machine.handle(self.now, Input::Received(Channel::Monitor, bytes));
    }

    /// Completes all effects with success, and checks the answers.
    fn look(&mut self) {
        while let Some(order) = self.machine.poll_effect() {
            self.machine.handle(self.now, completion(&order, Ok(())));
        }
        while let Some(notice) = self.machine.poll_notice() {
            if let Notice::Answered(id) = notice {
                self.answered(id);
            }
        }
        let depth = if self.dialect == Dialect::Qmp { usize::MAX } else { 1 };
        assert!(self.machine.session().in_flight() <= depth, "two commands in flight");
    }

    fn answered(&mut self, id: CommandId) {
        let Some(result) = self.machine.take(id) else {
            return assert!(!self.open.contains_key(&id), "{id:?} has a notice but no answer");
        };
        let asked = self.open.remove(&id).expect("an open command");
        let said = match result {
            Ok(payload) => payload.read::<Value>().expect("JSON"),
            Err(CommandError::Refused(refusal)) => json!({"error": {"desc": refusal.description}}),
            Err(CommandError::TimedOut(..)) => return assert!(asked.until.is_some_and(|until| until <= self.now)),
            Err(CommandError::Broken(_)) => return assert!(self.garbage + self.large > 0),
            Err(CommandError::Misuse(_)) => return assert!(!self.out_of_band, "refused, although oob was offered"),
            Err(error) => panic!("{error}: {:?}", self.machine),
        };
        let said = if asked.raw && !said["return"].is_null() { &said["return"] } else { &said };
        self.arrived += 1;
        if said["error"]["desc"] == "nameless" {
            return assert!(asked.raw);
        }
        let number = [&said["n"], &said["error"]["desc"], said]
            .into_iter()
            .find_map(|place| place.as_u64().or_else(|| place.as_str()?.parse().ok()));
        assert_eq!(number, Some(asked.number), "{said} is the answer to another command");
    }

    /// The peer reads and answers everything, and time passes, until nothing changes any more.
    fn run_until_idle(&mut self) {
        for _ in 0..3 {
            for _ in 0..200 {
                self.hear(usize::MAX);
                self.reply(true);
                if let Some(read) = self.out.pop_front() {
                    self.answer(&read, true);
                }
                self.look();
            }
            self.pass(Duration::from_secs(20));
            self.look();
        }
    }

    fn finish(&mut self) {
        self.run_until_idle();
        // A lost reply is noticed when a later command is answered.
        self.ask(&mut Tape::new(&[]));
        self.run_until_idle();
        assert_eq!(self.open.len(), 0, "unanswered by {:?}", self.machine);
        assert_eq!(self.machine.session().commands(), 0, "{:?}", self.machine);
        let counters = self.machine.session().counters();
        assert_eq!(counters.too_large, self.large);
        // While a guest agent is being synchronized, all of its messages count as stale.
        assert!((counters.malformed..=counters.malformed + counters.stale).contains(&self.garbage));
        if self.dialect == Dialect::Qmp {
            assert_eq!(counters.unmatched, 0);
            // Garbage in addition to the replies completed a command, and an error without an id found none.
            assert!(counters.nameless <= self.garbage + self.large);
            assert_eq!(self.replies, self.arrived + counters.late + counters.nameless, "delivered or counted");
        }
    }
}

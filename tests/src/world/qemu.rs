//! Decides how QEMU behaves: its monitor, its main loop, its guest. How it ends is in `ending`.

use std::collections::VecDeque;
use std::time::Duration;

use qemu_machine_core::{Channel, ExitStatus};

use super::ending::End;
use super::plan::{Fate, Handshake, millis, secs};
use super::request::{ParsedRequest, Reader};
use super::scene::Scene;
use super::speech::{self, Happened, PeerMessage, Reply, Speech};
use super::timeline::{Tick, What};

/// How many requests QEMU holds behind the one that is executing.
const QUEUE: usize = 8;

/// How many in-band commands may be on the wire, so that QEMU never stops reading.
const DEPTH: usize = 7;

/// One QEMU.
#[derive(Debug)]
pub(super) struct Qemu {
    pub(super) fate: Fate,
    pub(super) is_alive: bool,
    pub(super) greeted: bool,
    /// It died in the middle of what it did, and is not gone yet.
    pub(super) is_dead: bool,
    mode: Mode,
    reader: Reader,
    pub(super) queue: VecDeque<ParsedRequest>,
    pub(super) executing: Option<ParsedRequest>,
    /// What is executing was done while the main loop was stuck.
    overdue: bool,
    pub(super) stuck: bool,
    pub(super) stopped: bool,
    guest_runs: bool,
    /// A SIGTERM came that the main loop did not see yet.
    pub(super) term_waits: bool,
    /// What ends it, once that is decided, and with what status.
    pub(super) end: Option<End>,
    pub(super) status: Option<ExitStatus>,
    speech: Speech,
    events: u64,
    /// How often a shutdown has pressed the power button.
    pub(super) presses: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Negotiating,
    Commands { out_of_band: bool },
}

impl Qemu {
    pub(super) fn new(fate: Fate) -> Self {
        Self {
            fate,
            is_alive: false,
            greeted: false,
            is_dead: false,
            mode: Mode::Negotiating,
            reader: Reader::default(),
            queue: VecDeque::new(),
            executing: None,
            overdue: false,
            stuck: false,
            stopped: false,
            guest_runs: true,
            term_waits: false,
            end: None,
            status: None,
            speech: Speech::default(),
            events: 0,
            presses: 0,
        }
    }

    /// The process starts.
    pub(super) fn start(&mut self, scene: &mut Scene) {
        self.is_alive = true;
        if let Some(delay) = self.fate.greets_after {
            scene.tick(delay, Tick::Greet);
        }
        for console in 0..scene.style.consoles {
            scene.within(millis(1), What::Qemu(Tick::Print(console)));
        }
        if let Some((delay, _)) = self.fate.turn {
            scene.tick(delay, Tick::Turn);
        }
    }

    pub(super) fn tick(&mut self, tick: Tick, scene: &mut Scene) {
        if !self.is_alive {
            return if let Tick::Close(channel) = tick {
                scene.close(channel)
            };
        }
        match tick {
            Tick::Greet => self.greet(scene),
            Tick::Event => self.happen(scene),
            Tick::Print(console) => self.print(console, scene),
            Tick::Finish if self.stuck || self.stopped => self.overdue = true,
            Tick::Finish => self.finish(scene),
            Tick::Unstick => self.unstick(scene),
            Tick::Close(channel) => scene.close(channel),
            Tick::Turn | Tick::PowerOff | Tick::Killed | Tick::Exit => self.ending_tick(tick, scene),
        }
    }

    fn greet(&mut self, scene: &mut Scene) {
        if self.stopped || self.end.is_some() {
            return;
        }
        self.greeted = true;
        if !scene.style.monitor {
            return;
        }
        for _ in 0..self.fate.early_events[0] {
            scene.seen.note("event before the greeting");
            self.numbered_event(scene);
        }
        let text = speech::greeting(self.fate.out_of_band);
        self.say(&text, PeerMessage::Greeting, scene);
        scene.tick(millis(1), Tick::Event);
        scene.stir(Channel::Monitor);
    }

    /// Something happens by itself, at any time; who does not negotiate does not hear of it.
    fn happen(&mut self, scene: &mut Scene) {
        if self.fate.events == 0 || self.stopped {
            return;
        }
        self.fate.events -= 1;
        if self.is_negotiated() && !self.stuck {
            self.numbered_event(scene);
        }
        let most = scene.random.pick(&[millis(1), millis(50), secs(3)]);
        let delay = scene.random.within(most);
        scene.tick(delay, Tick::Event);
    }

    fn numbered_event(&mut self, scene: &mut Scene) {
        self.events += 1;
        let name = scene.random.pick(&["RTC_CHANGE", "BLOCK_JOB_READY", "JOB_STATUS_CHANGE"]);
        let data = format!(r#"{{"n": {}}}"#, self.events);
        self.event(name, Some(data), scene);
    }

    pub(super) fn event(&mut self, name: &'static str, data: Option<String>, scene: &mut Scene) {
        let text = speech::event(name, data.as_deref());
        self.say(&text, PeerMessage::Event(Happened { name, data, size: 0 }), scene);
    }

    /// Says a message on the monitor, unless it dies in the middle of it. Whether it was said.
    fn say(&mut self, text: &str, mut said: PeerMessage, scene: &mut Scene) -> bool {
        let mouth = scene.wires.get(&Channel::Monitor).filter(|wire| !wire.ended && !self.is_dead);
        let Some(wire) = mouth else { return false };
        let start = wire.out.len();
        let pretty = if scene.style.pretty { Some(speech::pretty(text)) } else { None };
        let mut line = pretty.unwrap_or_else(|| text.into());
        if let PeerMessage::Event(happened) = &mut said {
            happened.size = line.len();
        }
        // An object over several lines ends with its brace.
        let end = start + line.len() + if scene.style.pretty { 0 } else { 2 };
        line.push_str("\r\n");
        if let Some(at) = self.fate.dies_at_byte.filter(|at| start + line.len() > *at) {
            scene.write(Channel::Monitor, &line.as_bytes()[..at.saturating_sub(start)]);
            if end <= at {
                self.speech.note(end, said);
            }
            scene.seen.note("died in the middle of its output");
            let status = Fate::draw_death(&mut scene.random);
            self.die(End::Died, status, false, scene);
            return false;
        }
        self.speech.note(end, said);
        scene.write(Channel::Monitor, line.as_bytes());
        true
    }

    /// What the first so many bytes of its output said.
    pub(super) fn reached(&mut self, delivered: usize) -> Vec<PeerMessage> {
        self.speech.reached(delivered)
    }

    pub(super) fn truncate_speech(&mut self, length: usize) {
        self.speech.truncate(length);
    }

    pub(super) fn is_negotiated(&self) -> bool {
        self.mode != Mode::Negotiating
    }

    fn out_of_band(&self) -> bool {
        self.mode == Mode::Commands { out_of_band: true }
    }

    /// Its monitor thread reads and answers what goes out of band.
    pub(super) fn responds(&self) -> bool {
        self.is_alive && !self.stopped && self.end.is_none() && self.greeted
    }

    fn may_read(&self) -> bool {
        let has_room = if self.out_of_band() {
            self.queue.len() < QUEUE
        } else {
            self.queue.is_empty() && self.executing.is_none()
        };
        self.responds() && has_room
    }

    /// Everything that it heard is answered, and it would answer more.
    pub(super) fn is_idle(&self) -> bool {
        let is_healthy = self.responds() && self.is_negotiated() && !self.stuck;
        is_healthy && self.queue.is_empty() && self.executing.is_none() && self.reader.is_empty()
    }

    pub(super) fn read(&mut self, channel: Channel, scene: &mut Scene) {
        scene.begin_reading(channel);
        let left = scene.wires.get(&channel).map_or(0, |wire| wire.input.len());
        let count = scene.cut(left);
        match channel {
            Channel::Monitor => {
                for _ in 0..count {
                    if !self.may_read() {
                        return;
                    }
                    let request = scene.read(channel).and_then(|byte| self.reader.push(byte));
                    request.into_iter().for_each(|request| self.hear(request, scene));
                }
            }
            Channel::Console(index) if self.is_alive && !self.stopped && self.end.is_none() => {
                let bytes: Vec<u8> = (0..count).filter_map(|_| scene.read(channel)).collect();
                scene.typed[index].extend_from_slice(&bytes);
                scene.write(channel, &bytes);
            }
            Channel::Console(_) => return,
        }
        scene.stir(channel);
    }

    fn hear(&mut self, request: ParsedRequest, scene: &mut Scene) {
        if let Some(nonce) = request.nonce {
            let is_new = scene.reached.insert(nonce);
            scene.demand(is_new, || format!("QEMU hears #{nonce} twice"));
        }
        if self.out_of_band() && request.out_of_band {
            let depth = self.queue.len() + usize::from(self.executing.is_some());
            if depth > 0 {
                scene.seen.note("out of band, past others");
            }
            if depth == DEPTH && self.stuck {
                scene.seen.note("out of band, past seven and a main loop that is stuck");
            }
            return self.answer(&request, scene);
        }
        self.queue.push_back(request);
        let depth = self.queue.len() + usize::from(self.executing.is_some());
        if self.out_of_band() {
            scene.demand(depth <= DEPTH, || format!("{depth} in-band commands at once"));
        }
        if depth == DEPTH {
            scene.seen.note("as many in-band commands as may be");
        }
        self.pump(scene);
    }

    /// The main loop takes the next request.
    pub(super) fn pump(&mut self, scene: &mut Scene) {
        if self.executing.is_some() || self.stuck || self.stopped || self.end.is_some() {
            return;
        }
        self.executing = self.queue.pop_front();
        if let Some(request) = &self.executing {
            let most = if request.name == "slow" { secs(20) } else { millis(3) };
            let delay = scene.random.within(most);
            scene.tick(delay, Tick::Finish);
        }
        scene.stir(Channel::Monitor);
    }

    fn finish(&mut self, scene: &mut Scene) {
        if let Some(request) = self.executing.take() {
            self.answer(&request, scene);
            self.pump(scene);
        }
    }

    fn unstick(&mut self, scene: &mut Scene) {
        if self.stopped {
            return;
        }
        self.stuck = false;
        if std::mem::take(&mut self.term_waits) {
            self.terminated(scene);
        } else if std::mem::take(&mut self.overdue) {
            self.finish(scene);
        } else {
            self.pump(scene);
        }
    }

    fn answer(&mut self, request: &ParsedRequest, scene: &mut Scene) {
        let unknown = request.name.starts_with("no-such") || request.name.is_empty();
        if request.is_malformed {
            self.refuse(request, "GenericError", "JSON parse error", Reply::Nameless, scene);
        } else if request.name == "qmp_capabilities" && !self.is_negotiated() {
            self.negotiate(request, scene);
        } else if !self.is_negotiated() || unknown || request.name == "qmp_capabilities" {
            self.refuse(request, "CommandNotFound", "not now", Reply::Refused, scene);
        } else if request.out_of_band && (!self.out_of_band() || request.name != "query-yank") {
            self.refuse(request, "GenericError", "does not support OOB", Reply::Refused, scene);
        } else {
            self.execute(request, scene);
        }
    }

    fn negotiate(&mut self, request: &ParsedRequest, scene: &mut Scene) {
        for _ in 0..self.fate.early_events[1] {
            scene.seen.note("event before the reply to the negotiation");
            self.numbered_event(scene);
        }
        match self.fate.handshake {
            Handshake::Ignored => scene.seen.note("negotiation ignored"),
            Handshake::Refused => {
                scene.seen.note("negotiation refused");
                let text = speech::refused(request, "GenericError", "no");
                self.say(&text, PeerMessage::Declined, scene);
            }
            Handshake::Accepted => {
                let offered = self.fate.out_of_band;
                scene.demand(request.enables_out_of_band == offered, || "out of band: not what was offered".into());
                self.mode = Mode::Commands { out_of_band: request.enables_out_of_band };
                let text = speech::returned(request, &mut scene.random);
                self.say(&text, PeerMessage::Accepted { out_of_band: request.enables_out_of_band }, scene);
            }
        }
    }

    fn refuse(&mut self, request: &ParsedRequest, class: &str, words: &str, how: Reply, scene: &mut Scene) {
        let text = speech::refused(request, class, words);
        self.say(&text, PeerMessage::Reply { nonce: request.nonce, quits: false, how }, scene);
    }

    /// Events belong before the reply.
    fn execute(&mut self, request: &ParsedRequest, scene: &mut Scene) {
        match request.name.as_str() {
            "stop" => self.let_run(false, scene),
            "cont" => self.let_run(true, scene),
            "system_reset" => {
                let data = r#"{"guest": false, "reason": "host-qmp-system-reset"}"#;
                self.event("RESET", Some(data.into()), scene);
            }
            "system_powerdown" => self.press(request, scene),
            "quit" => return self.quit(request, scene),
            _ => {}
        }
        self.return_to(request, false, scene);
    }

    /// Only a change is an event.
    fn let_run(&mut self, runs: bool, scene: &mut Scene) {
        if std::mem::replace(&mut self.guest_runs, runs) != runs {
            self.event(if runs { "RESUME" } else { "STOP" }, None, scene);
        }
    }

    pub(super) fn return_to(&mut self, request: &ParsedRequest, quits: bool, scene: &mut Scene) {
        let text = speech::returned(request, &mut scene.random);
        let said = match request.nonce {
            None if request.name == "query-yank" => PeerMessage::Sign,
            nonce => PeerMessage::Reply { nonce, quits, how: Reply::Returned },
        };
        let is_said = self.say(&text, said, scene);
        // Only where ids rest long enough: with out-of-band, no more than the depth are in use.
        if is_said && scene.style.stutters && self.out_of_band() {
            self.say(&text, PeerMessage::Doubled, scene);
        }
    }

    fn print(&mut self, console: usize, scene: &mut Scene) {
        if self.fate.prints == 0 || self.stopped || self.end.is_some() {
            return;
        }
        self.fate.prints -= 1;
        let words: [&[u8]; 8] = [b"login: ", b"$ ", b"\r\n", b"Kernel panic", b"\xff\xfe", b"log", b"in", b"ok "];
        for _ in 0..scene.random.below(12) {
            let word = scene.random.pick(&words);
            scene.write(Channel::Console(console), word);
        }
        let most = scene.random.pick(&[millis(2), millis(100), secs(5)]);
        let delay = scene.random.within(most);
        scene.tick(delay + Duration::from_micros(1), Tick::Print(console));
    }
}

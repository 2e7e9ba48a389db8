//! Simulated QEMU: its monitor, its main loop and its guest. Its ends are in `ending`.

use std::collections::VecDeque;
use std::time::Duration;

use qemu_machine_core::{Channel, ExitStatus};

use super::ending::End;
use super::plan::{Fate, Handshake, millis, secs};
use super::request::{ParsedRequest, Reader};
use super::scene::Scene;
use super::speech::{self, Happened, PeerMessage, Reply, Speech};
use super::timeline::{Tick, What};

/// The number of requests that QEMU queues behind the executing one (QEMU, `include/monitor/monitor.h`,
/// `QMP_REQ_QUEUE_LEN_MAX`).
const QUEUE: usize = 8;

/// The number of in-band commands that the machine may have in flight. With one more, QEMU may stop reading, and then
/// out-of-band commands wait as well (QEMU, `monitor/qmp.c`, `handle_qmp_command`).
const DEPTH: usize = 7;

/// One QEMU.
#[derive(Debug)]
pub(super) struct Qemu {
    pub(super) fate: Fate,
    pub(super) is_alive: bool,
    pub(super) greeted: bool,
    /// Whether it has died, but has not exited yet.
    pub(super) is_dead: bool,
    mode: Mode,
    reader: Reader,
    pub(super) queue: VecDeque<ParsedRequest>,
    pub(super) executing: Option<ParsedRequest>,
    /// Whether the executing command was due to finish while the main loop was blocked.
    overdue: bool,
    pub(super) stuck: bool,
    pub(super) stopped: bool,
    guest_runs: bool,
    /// Whether a SIGTERM arrived that the main loop has not handled yet.
    pub(super) term_waits: bool,
    /// The cause of the end, once it is decided, and the exit status.
    pub(super) end: Option<End>,
    pub(super) status: Option<ExitStatus>,
    speech: Speech,
    events: u64,
    /// The number of times that a shutdown has pressed the power button.
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

    /// Starts the process.
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

    /// Sends a spontaneous event, at a random time. A monitor that has not negotiated gets none
    /// (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
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

    /// Writes a message to the monitor, unless QEMU dies in the middle of it. Returns whether it was written
    /// completely.
    fn say(&mut self, text: &str, mut said: PeerMessage, scene: &mut Scene) -> bool {
        let mouth = scene.wires.get(&Channel::Monitor).filter(|wire| !wire.ended && !self.is_dead);
        let Some(wire) = mouth else { return false };
        let start = wire.out.len();
        let pretty = if scene.style.pretty { Some(speech::pretty(text)) } else { None };
        let mut line = pretty.unwrap_or_else(|| text.into());
        if let PeerMessage::Event(happened) = &mut said {
            happened.size = line.len();
        }
        // An object on several lines is complete with its brace, one on a single line with its line feed.
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

    /// Returns the new messages within the first `delivered` bytes of the output.
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

    /// Returns whether the monitor thread runs, which reads requests and answers out-of-band commands.
    pub(super) fn responds(&self) -> bool {
        self.is_alive && !self.stopped && self.end.is_none() && self.greeted
    }

    /// Returns whether QEMU reads another request. Without out-of-band, it does so only after it has answered the
    /// previous one (QEMU, `monitor/qmp.c`, `monitor_qmp_dispatcher_co`).
    fn may_read(&self) -> bool {
        let has_room = if self.out_of_band() {
            self.queue.len() < QUEUE
        } else {
            self.queue.is_empty() && self.executing.is_none()
        };
        self.responds() && has_room
    }

    /// Returns whether all requests are answered, and QEMU would answer more.
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
            scene.demand(is_new, || format!("QEMU receives #{nonce} twice"));
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
            scene.demand(depth <= DEPTH, || format!("{depth} in-band commands are in flight"));
        }
        if depth == DEPTH {
            scene.seen.note("as many in-band commands as may be");
        }
        self.pump(scene);
    }

    /// Lets the main loop start the next request.
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
                scene.demand(request.enables_out_of_band == offered, || "out-of-band is not enabled as offered".into());
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

    /// Executes a command. Its events precede the reply (measured with QEMU 7.2.22).
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

    /// Stops or resumes the guest. There is an event only if this changes something (measured with QEMU 7.2.22).
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
        // Only with out-of-band: then no more ids are in use than the depth, so a repeated reply finds no reused id.
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

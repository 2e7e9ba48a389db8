//! Row of the simulated world: no process, no socket, and time passes only when nothing else can happen.

use std::collections::VecDeque;

use qemu_machine_core::{
    Channel, CommandError, Config, Deadline, Effect, Event, ExitStatus, Hit, Input, LaunchError, Machine, Mark, Misuse,
    Moment, Outcome, Prepared, RawReply, Shutdown, Signal, SignalName, State, SubscriptionId, Value, Wait, WaitError,
    session::Counters,
};
use qemu_machine_tests::scripted::{Action, ID, SCRIPT};

use crate::harness::Harness;

/// The row of the simulated world.
pub(crate) struct InWorld {
    pub(crate) machine: Machine,
    pub(crate) now: Moment,
    peer: Peer,
}

/// A program that plays its script, as `scripted-qemu` does.
#[derive(Default)]
struct Peer {
    actions: VecDeque<Action>,
    /// The bytes that it was sent and has not read.
    unread: String,
    /// The ids of the commands that it has not answered.
    received: VecDeque<String>,
    printed: String,
    connected: bool,
    alive: bool,
    /// SIGTERM does not end it.
    immune: bool,
    exit: Option<ExitStatus>,
}

impl InWorld {
    /// Runs the world until there is an answer.
    pub(crate) fn until<T>(&mut self, mut answer: impl FnMut(&mut Machine) -> Option<T>) -> T {
        loop {
            self.run_until_idle();
            if let Some(answer) = answer(&mut self.machine) {
                return answer;
            }
            if !self.play() {
                let (until, _) = self.machine.deadline().expect("a waiting caller has a deadline");
                self.now = self.now.max(until);
                self.machine.handle(self.now, Input::TimePassed);
            }
        }
    }

    fn run_until_idle(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            let Some(input) = self.obey(effect) else { continue };
            self.machine.handle(self.now, input);
        }
        while self.machine.poll_notice().is_some() {}
        let sent = self.machine.outgoing(Channel::Monitor);
        self.peer.unread.push_str(std::str::from_utf8(sent).expect("requests are UTF-8"));
        let sent = sent.len();
        self.machine.sent(Channel::Monitor, sent);
    }

    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that forgets an effect does not compile")]
    fn obey(&mut self, effect: Effect) -> Option<Input<'static>> {
        Some(match effect {
            Effect::Prepare(_) => Input::Prepared(Prepared::default()),
            Effect::Spawn(spawn) => {
                let script = spawn.arguments.iter().skip_while(|argument| *argument != SCRIPT.as_bytes()).skip(1);
                let parse = |argument: &Vec<u8>| Action::parse(std::str::from_utf8(argument).ok()?);
                let actions = script.map(|argument| parse(argument).expect("a script has actions only")).collect();
                self.peer = Peer { actions, connected: true, alive: true, ..Peer::default() };
                Input::Spawned { pid: 1000 }
            }
            Effect::Open(channel) => Input::Opened(channel),
            Effect::Close(channel) => Input::Closed(channel),
            Effect::Signal(signal) => {
                let (number, name) = match signal {
                    Signal::Kill => (9, SignalName::Kill),
                    Signal::Terminate => (15, SignalName::Term),
                };
                if signal == Signal::Kill || !self.peer.immune {
                    self.peer.end(ExitStatus::Signal { number, name, core_dumped: false });
                }
                Input::Signalled(signal, Ok(()))
            }
            Effect::ReadLog { .. } => {
                let printed = std::mem::take(&mut self.peer.printed);
                self.machine.handle(self.now, Input::LogRead(printed.as_bytes()));
                return None;
            }
            Effect::Remove => Input::Removed(Ok(())),
            Effect::Detach => Input::Detached,
            Effect::Companion(..) => panic!("no story in the world has companions"),
        })
    }

    /// Lets one thing happen in the world. `false` means that nothing can happen before time passes.
    fn play(&mut self) -> bool {
        if !self.peer.alive && self.peer.connected {
            self.peer.connected = false;
            self.machine.handle(self.now, Input::Closed(Channel::Monitor));
            return true;
        }
        if let Some(status) = self.peer.exit.take() {
            self.machine.handle(self.now, Input::Exited(status));
            return true;
        }
        match self.peer.act() {
            Acted::Bytes(bytes) => self.machine.handle(self.now, Input::Received(Channel::Monitor, &bytes)),
            Acted::HungUp => self.machine.handle(self.now, Input::Closed(Channel::Monitor)),
            Acted::Otherwise => {}
            Acted::Nothing => return false,
        }
        true
    }
}

enum Acted {
    Bytes(Vec<u8>),
    HungUp,
    Otherwise,
    /// The script waits for more input.
    Nothing,
}

impl Peer {
    fn act(&mut self) -> Acted {
        if !self.alive {
            return Acted::Nothing;
        }
        match self.actions.pop_front() {
            Some(Action::Say(text)) => return self.say(&text),
            Some(Action::Repeat(times, text)) => return self.say(&text.repeat(times)),
            Some(Action::Drip(text)) => {
                let bytes = text.replace(ID, self.id()).into_bytes();
                bytes.iter().rev().for_each(|byte| self.actions.push_front(Action::Bytes(vec![*byte])));
            }
            Some(Action::Bytes(bytes)) => return Acted::Bytes(bytes),
            Some(Action::Hear) if self.hear().is_none() => {
                self.actions.push_front(Action::Hear);
                return Acted::Nothing;
            }
            Some(Action::Hear) => {}
            Some(Action::Reply(value)) => return self.answer(&format!("\"return\": {value}")),
            Some(Action::Refuse(description)) => {
                let class = "GenericError";
                return self.answer(&format!(r#""error": {{"class": "{class}", "desc": "{description}"}}"#));
            }
            Some(Action::Ignore) => drop(self.received.pop_front()),
            Some(Action::Print(line)) => self.printed = format!("{}{line}\n", self.printed),
            Some(Action::Rant(lines)) => self.printed.push_str(&"complaint\n".repeat(lines)),
            Some(Action::Rave(kilobytes)) => self.printed.push_str(&"\u{FFFD}".repeat(1000 * kilobytes)),
            Some(Action::Immune) => self.immune = true,
            Some(Action::Obey) => return self.obey(),
            Some(Action::HangUp) => {
                self.connected = false;
                return Acted::HungUp;
            }
            Some(Action::Stall) => {
                self.actions.push_front(Action::Stall);
                return Acted::Nothing;
            }
            Some(action @ (Action::Reset | Action::Bequeath | Action::Linger)) => panic!("{action:?} needs a process"),
            Some(Action::Abort) => {
                self.end(ExitStatus::Signal { number: 6, name: SignalName::Abrt, core_dumped: false })
            }
            Some(Action::Exit(code)) => self.end(ExitStatus::Code(code)),
            None => self.end(ExitStatus::Code(0)),
        }
        Acted::Otherwise
    }

    fn id(&self) -> &str {
        self.received.front().map_or("", String::as_str)
    }

    fn say(&self, text: &str) -> Acted {
        Acted::Bytes(text.replace(ID, self.id()).into_bytes())
    }

    fn end(&mut self, status: ExitStatus) {
        if std::mem::take(&mut self.alive) {
            self.exit = Some(status);
        }
    }

    /// Reads one command: the core sends one object for each, with nothing between them and the id at the end.
    fn hear(&mut self) -> Option<String> {
        let mut stream = serde_json::Deserializer::from_str(&self.unread).into_iter::<Value>();
        let command = stream.next()?.ok()?;
        let rest = self.unread.split_off(stream.byte_offset());
        self.unread = rest;
        self.received.push_back(command["id"].to_string());
        Some(command["execute"].as_str().unwrap_or_default().into())
    }

    fn answer(&mut self, result: &str) -> Acted {
        let id = self.received.pop_front().expect("a script answers what it received");
        Acted::Bytes(format!("{{{result}, \"id\": {id}}}\r\n").into_bytes())
    }

    fn obey(&mut self) -> Acted {
        self.actions.push_front(Action::Obey);
        match self.hear().as_deref() {
            None => Acted::Nothing,
            Some("quit") => {
                self.actions = [Action::Exit(0)].into();
                self.answer("\"return\": {}")
            }
            Some(_) => self.answer("\"return\": {}"),
        }
    }
}

impl Harness for InWorld {
    const ROW: &'static str = "in_world";

    type Events = SubscriptionId;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        let mut world = Self { machine: Machine::new(config)?, now: Moment::ORIGIN, peer: Peer::default() };
        world.machine.launch(world.now)?;
        world.until(|machine| machine.launched())?;
        Ok(world)
    }

    fn execute(&mut self, command: &str, within: Deadline) -> Result<Value, CommandError> {
        let ticket = self.machine.execute(self.now, &command, within)?;
        self.until(|machine| machine.claim(&ticket))
    }

    fn execute_raw_by(&mut self, object: &str, within: Deadline) -> Result<RawReply, CommandError> {
        let ticket = self.machine.execute_raw(self.now, object.as_bytes(), within)?;
        self.until(|machine| machine.claim(&ticket))
    }

    fn execute_all(&mut self, commands: &[&str], within: Deadline) -> Vec<Result<Value, CommandError>> {
        let tickets: Vec<_> = commands.iter().map(|command| self.machine.execute(self.now, command, within)).collect();
        let tickets = tickets.into_iter().map(|ticket| ticket.map_err(CommandError::from));
        tickets.map(|ticket| ticket.and_then(|ticket| self.until(|machine| machine.claim(&ticket)))).collect()
    }

    fn mark(&mut self) -> Mark {
        self.machine.mark()
    }

    fn wait_any(&mut self, from: &Mark, things: &[Wait], within: Deadline) -> Result<Hit, WaitError> {
        let wait = self.machine.wait(self.now, from, things.to_vec(), within)?;
        self.until(|machine| machine.claim_wait(wait))
    }

    fn subscribe(&mut self, from: &Mark, filter: &[Wait]) -> Result<SubscriptionId, Misuse> {
        self.machine.subscribe(from, filter.to_vec())
    }

    fn next(&mut self, events: &mut SubscriptionId, within: Deadline) -> Result<Event, WaitError> {
        let wait = self.machine.wait_for_event(self.now, *events, within)?;
        self.until(|machine| machine.claim_event(wait))
    }

    fn queued(&mut self, events: &mut SubscriptionId) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.next_event(*events)).collect()
    }

    fn missed(&mut self, events: &SubscriptionId) -> u64 {
        self.machine.missed_events(*events)
    }

    fn unsubscribe(&mut self, events: SubscriptionId) {
        self.machine.unsubscribe(events);
    }

    fn console_write(&mut self, console: &str, text: &str) -> Result<(), Misuse> {
        self.machine.console_write(self.now, console, text.as_bytes())
    }

    fn shutdown(&mut self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.machine.shutdown(self.now, how)?;
        Ok(self.until(|machine| machine.outcome().cloned()))
    }

    fn kill(&mut self) -> Result<Outcome, Misuse> {
        self.machine.kill(self.now)?;
        Ok(self.until(|machine| machine.outcome().cloned()))
    }

    fn wait(&mut self, within: Deadline) -> Result<Outcome, WaitError> {
        let wait = self.machine.wait_for_end(self.now, within)?;
        self.until(|machine| machine.claim_wait(wait)).and_then(Hit::into_end)
    }

    fn state(&mut self) -> State {
        self.machine.state()
    }

    fn pid(&mut self) -> Option<u32> {
        self.machine.pid()
    }

    fn counters(&mut self) -> Counters {
        self.machine.session().counters()
    }
}

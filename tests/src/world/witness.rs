//! Independent record of all events and console output, from which the checks derive what a caller must have received.

use qemu_machine_core::{Event, Limits, Machine, Value};

use super::plan::console_name;
use super::speech::Happened;
use super::waiting::{Position, Waiting};

/// All events and console output that arrived, over all runs.
#[derive(Debug)]
pub(super) struct Witness {
    events: Vec<Happened>,
    /// The first event that the machine must retain, and the size of the retained events.
    first: usize,
    bytes: usize,
    /// The start of this run.
    birth: Position,
    /// The output of each console.
    tapes: Vec<Vec<u8>>,
    limits: Limits,
    pub(super) waits: Vec<Waiting>,
    /// The last event of this run of each kind that explains an end: SHUTDOWN, RESET and GUEST_PANICKED.
    pub(super) telling: Vec<usize>,
    /// The last SHUTDOWN of this run.
    pub(super) shutdown: Option<usize>,
    pub(super) quit_returned: bool,
}

impl Witness {
    pub(super) fn new(limits: Limits, consoles: usize) -> Self {
        Self {
            events: Vec::new(),
            first: 0,
            bytes: 0,
            birth: Position { event: 0, consoles: vec![0; consoles] },
            tapes: vec![Vec::new(); consoles],
            limits,
            waits: Vec::new(),
            telling: Vec::new(),
            shutdown: None,
            quit_returned: false,
        }
    }

    pub(super) fn begin_run(&mut self) {
        (self.first, self.bytes) = (self.events.len(), 0);
        self.birth = self.place();
        (self.telling, self.shutdown, self.quit_returned) = (Vec::new(), None, false);
    }

    /// Returns the position after all that has arrived.
    pub(super) fn place(&self) -> Position {
        Position { event: self.events.len(), consoles: self.tapes.iter().map(|tape| tape.len()).collect() }
    }

    /// Returns the position of the first byte of a console that the machine must retain.
    pub(super) fn first_byte(&self, console: usize) -> usize {
        let tape = &self.tapes[console];
        self.birth.consoles[console].max(tape.len().saturating_sub(self.limits.console))
    }

    pub(super) fn event(&mut self, event: Happened) {
        let number = self.events.len();
        if matches!(event.name, "SHUTDOWN" | "RESET" | "GUEST_PANICKED") {
            self.telling.retain(|other| self.events[*other].name != event.name);
            self.telling.push(number);
        }
        if event.name == "SHUTDOWN" {
            self.shutdown = Some(number);
        }
        self.bytes += event.size + Event::OVERHEAD;
        self.events.push(event);
        while self.bytes > self.limits.events && self.first < number {
            self.bytes -= self.events[self.first].size + Event::OVERHEAD;
            self.first += 1;
        }
        for wait in &mut self.waits {
            wait.look_at(number, &self.events[number]);
        }
    }

    pub(super) fn printed(&mut self, console: usize, bytes: &[u8]) {
        self.tapes[console].extend_from_slice(bytes);
        for wait in &mut self.waits {
            wait.read(console, &self.tapes[console], bytes.len());
        }
    }

    /// Begins a wait, and searches what has arrived already.
    pub(super) fn begin(&mut self, mut wait: Waiting) {
        let firsts: Vec<usize> = (0..self.tapes.len()).map(|console| self.first_byte(console)).collect();
        wait.remember(&self.birth, self.first, &firsts);
        for number in wait.next_event(self.first)..self.events.len() {
            wait.look_at(number, &self.events[number]);
        }
        for (console, tape) in self.tapes.iter().enumerate() {
            wait.read(console, tape, tape.len());
        }
        self.waits.push(wait);
    }

    /// Returns whether an event is the one with this number. Its data must be equal, but the line breaks may differ.
    pub(super) fn is(&self, event: &Event, number: usize) -> bool {
        let Some(happened) = self.events.get(number) else { return false };
        let read = |data: Option<&str>| data.map(|data| data.parse::<Value>().unwrap_or_default());
        let (said, told) = (happened.data.as_deref(), event.data());
        event.name() == happened.name && (said == told || read(said) == read(told))
    }

    /// Returns the reason of the last SHUTDOWN of this run.
    pub(super) fn shutdown_reason(&self) -> Option<String> {
        let data = self.events[self.shutdown?].data.as_deref()?;
        Some(data.parse::<Value>().ok()?["reason"].as_str()?.into())
    }

    pub(super) fn bytes(&self, console: usize) -> &[u8] {
        &self.tapes[console]
    }

    /// Returns the end of the output of a console in this run, as far as the machine retains it.
    pub(super) fn last_words(&self, console: usize) -> String {
        let printed = &self.tapes[console][self.first_byte(console)..];
        String::from_utf8_lossy(&printed[printed.len().saturating_sub(self.limits.last_words)..]).into_owned()
    }

    /// Checks that the machine retains exactly the latest events and bytes, and counts all others.
    pub(super) fn check(&self, machine: &Machine) -> Result<(), String> {
        let history = machine.history();
        let numbers = (history.first(), history.end());
        if numbers != (self.first as u64, self.events.len() as u64) {
            return Err(format!(
                "the machine retains the events {numbers:?}, not {:?}",
                (self.first, self.events.len())
            ));
        }
        for (index, tape) in self.tapes.iter().enumerate() {
            let console = machine.console(console_name(index)).map_err(|error| error.to_string())?;
            let positions = (console.first(), console.end());
            if positions != (self.first_byte(index) as u64, tape.len() as u64) {
                return Err(format!("the machine retains the bytes {positions:?} of console {index}"));
            }
            if console.since(0) != &tape[self.first_byte(index)..] {
                return Err(format!("the history of console {index} differs from its output"));
            }
        }
        Ok(())
    }
}

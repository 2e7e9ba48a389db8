//! Interface between stories and rows: the operations on a machine, the transcript, and the row of blocking calls.

use std::fmt::Display;
use std::time::Duration;

use qemu_machine_blocking::{Events, Vm};
use qemu_machine_core::record::Record;
use qemu_machine_core::{
    COMMAND_WITHIN, CommandError, Config, Deadline, Event, Found, Hit, LaunchError, LaunchFailure, Mark, Misuse,
    Outcome, Phase, RawReply, Shutdown, State, Value, Wait, WaitError, session::Counters,
};
use qemu_machine_tests::PATIENCE;

/// A machine on one row. Its methods return when there is a result; each row waits in its own way.
pub(crate) trait Harness: Sized {
    /// The name of the row.
    const ROW: &'static str;

    /// A subscription of events.
    type Events;

    fn launch(config: Config) -> Result<Self, LaunchError>;
    fn execute(&mut self, command: &str, within: Deadline) -> Result<Value, CommandError>;
    fn execute_raw_by(&mut self, object: &str, within: Deadline) -> Result<RawReply, CommandError>;
    /// Executes all commands at once: none waits for the reply of another. The row chooses the order of sending.
    fn execute_all(&mut self, commands: &[&str], within: Deadline) -> Vec<Result<Value, CommandError>>;
    fn mark(&mut self) -> Mark;
    fn wait_any(&mut self, from: &Mark, things: &[Wait], within: Deadline) -> Result<Hit, WaitError>;
    fn subscribe(&mut self, from: &Mark, filter: &[Wait]) -> Result<Self::Events, Misuse>;
    fn next(&mut self, events: &mut Self::Events, within: Deadline) -> Result<Event, WaitError>;
    /// Returns all events that are queued, without waiting.
    fn queued(&mut self, events: &mut Self::Events) -> Vec<Event>;
    fn missed(&mut self, events: &Self::Events) -> u64;
    fn unsubscribe(&mut self, events: Self::Events);
    fn console_write(&mut self, console: &str, text: &str) -> Result<(), Misuse>;
    fn shutdown(&mut self, how: Shutdown) -> Result<Outcome, Misuse>;
    fn kill(&mut self) -> Result<Outcome, Misuse>;
    fn wait(&mut self, within: Deadline) -> Result<Outcome, WaitError>;
    fn state(&mut self) -> State;
    fn pid(&mut self) -> Option<u32>;
    fn counters(&mut self) -> Counters;

    fn execute_raw(&mut self, object: &str) -> Result<RawReply, CommandError> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }
}

/// Launches a machine whose launch stalls. The deadline is doubled until the launch stalls where it should: on a busy
/// machine, the process may not have started when the first deadline passes.
pub(crate) fn launch_stalled<H: Harness>(
    config: &Config,
    first: Duration,
    is_expected: impl Fn(Phase) -> bool,
) -> Result<H, LaunchError> {
    let mut within = first;
    loop {
        match H::launch(config.clone().launch_within(within)) {
            Err(LaunchError::Failed { failure: LaunchFailure::TimedOut(phase), .. })
                if !is_expected(phase) && within < PATIENCE / 4 =>
            {
                within *= 2;
            }
            result => return result,
        }
    }
}

/// Transcript of a story, in text that does not depend on the row, the time, or the host.
#[derive(Debug, Default)]
pub(crate) struct Transcript(Vec<String>);

impl Transcript {
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn note(&mut self, what: impl Display) {
        self.0.push(what.to_string());
    }

    /// Removes a line that only some versions of QEMU cause.
    pub(crate) fn without(mut self, what: &str) -> Self {
        self.0.retain(|line| line != what);
        self
    }

    /// Notes that the machine was launched, or why not: without the command line, which contains paths.
    pub(crate) fn launched<H: Harness>(&mut self, result: Result<H, LaunchError>) -> Option<H> {
        match result {
            Ok(machine) => {
                self.note("launched");
                return Some(machine);
            }
            Err(LaunchError::Failed { failure, outcome }) => {
                self.note(format!("not launched: {failure}"));
                self.ended(&outcome);
            }
            Err(error) => self.note(error),
        }
        None
    }

    /// Notes the reply to a raw command, without the id that the session chose.
    pub(crate) fn raw(&mut self, reply: Result<RawReply, CommandError>) {
        self.reply(&reply.map(|reply| {
            let mut message = reply.into_value();
            message.as_object_mut().map(|members| members.remove("id"));
            message
        }));
    }

    pub(crate) fn reply(&mut self, reply: &Result<Value, CommandError>) {
        match reply {
            Ok(value) => self.note(format!("reply: {value}")),
            Err(error) => self.note(format!("no reply: {error}")),
        }
    }

    /// Notes what a wait found, and returns the mark after it.
    pub(crate) fn hit(&mut self, hit: Result<Hit, WaitError>) -> Option<Mark> {
        match hit {
            Ok(Hit { found: Found::End(outcome), .. }) => self.ended(&outcome),
            Ok(Hit { index, found: Found::Event(event), mark, .. }) => {
                self.note(format!("event {index}: {event}"));
                return Some(mark);
            }
            Ok(Hit { index, found: Found::Text(text), mark, .. }) => {
                self.note(format!("text {index}: {text:?}"));
                return Some(mark);
            }
            Ok(hit) => self.note(format!("{hit:?}")),
            Err(error) => self.nothing(&error),
        }
        None
    }

    /// Notes what a subscription received.
    pub(crate) fn received(&mut self, event: Result<Event, WaitError>) {
        match event {
            Ok(event) => self.note(format!("received: {event}")),
            Err(error) => self.nothing(&error),
        }
    }

    /// Notes why a request was refused.
    pub(crate) fn refused<T>(&mut self, result: Result<T, Misuse>) {
        self.note(result.map_or_else(|misuse| misuse.to_string(), |_| "accepted".into()));
    }

    pub(crate) fn queued(&mut self, events: &[Event]) {
        self.note(format!("queued: {events:?}"));
    }

    fn nothing(&mut self, why: &WaitError) {
        match why {
            WaitError::Ended(outcome) => {
                self.note("the machine ended first");
                self.ended(outcome);
            }
            error => self.note(error),
        }
    }

    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        // The record of a flood has a gap, and cannot be replayed.
        let record = outcome.record.as_deref().map(|text| text.parse::<Record>().expect("a valid record"));
        let whole = record.filter(|record| record.dropped() == 0);
        if let Some(Err(diverged)) = whole.map(|record| record.replay()) {
            panic!("the run does not replay: {diverged}");
        }
        self.note(format!("end: {}", outcome.cause));
        if let Some(exit) = outcome.exit {
            self.note(format!("end: {exit}"));
        }
        for event in &outcome.last_events {
            self.note(format!("end: {event}"));
        }
        if outcome.unanswered > 0 {
            self.note(format!("end: {} without a reply", outcome.unanswered));
        }
        for fault in &outcome.faults {
            self.note(format!("end: {fault}"));
        }
    }

    pub(crate) fn outcome(&mut self, outcome: Result<Outcome, impl Display>) {
        match outcome {
            Ok(outcome) => self.ended(&outcome),
            Err(error) => self.note(error),
        }
    }
}

/// The row of threads and blocking calls.
impl Harness for Vm {
    const ROW: &'static str = "blocking";

    type Events = Events;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        Vm::launch(config)
    }

    fn execute(&mut self, command: &str, within: Deadline) -> Result<Value, CommandError> {
        self.execute_by(command, within)
    }

    fn execute_raw_by(&mut self, object: &str, within: Deadline) -> Result<RawReply, CommandError> {
        Vm::execute_raw_by(self, object, within)
    }

    /// Blocking calls wait, so each has a thread.
    fn execute_all(&mut self, commands: &[&str], within: Deadline) -> Vec<Result<Value, CommandError>> {
        std::thread::scope(|threads| {
            let callers: Vec<_> =
                commands.iter().map(|command| threads.spawn(|| Vm::execute_by(self, *command, within))).collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller does not panic")).collect()
        })
    }

    fn mark(&mut self) -> Mark {
        (**self).mark()
    }

    fn wait_any(&mut self, from: &Mark, things: &[Wait], within: Deadline) -> Result<Hit, WaitError> {
        Vm::wait_any(self, from, things.to_vec(), within)
    }

    fn subscribe(&mut self, from: &Mark, filter: &[Wait]) -> Result<Events, Misuse> {
        self.events_from(from, filter.to_vec())
    }

    fn next(&mut self, events: &mut Events, within: Deadline) -> Result<Event, WaitError> {
        events.next(within)
    }

    fn queued(&mut self, events: &mut Events) -> Vec<Event> {
        events.queued()
    }

    fn missed(&mut self, events: &Events) -> u64 {
        events.missed()
    }

    fn unsubscribe(&mut self, events: Events) {
        drop(events);
    }

    fn console_write(&mut self, console: &str, text: &str) -> Result<(), Misuse> {
        (**self).console_write(console, text)
    }

    fn shutdown(&mut self, how: Shutdown) -> Result<Outcome, Misuse> {
        Vm::shutdown(self, how)
    }

    fn kill(&mut self) -> Result<Outcome, Misuse> {
        Vm::kill(self)
    }

    fn wait(&mut self, within: Deadline) -> Result<Outcome, WaitError> {
        Vm::wait(self, within)
    }

    fn state(&mut self) -> State {
        (**self).state()
    }

    fn pid(&mut self) -> Option<u32> {
        (**self).pid()
    }

    fn counters(&mut self) -> Counters {
        (**self).counters()
    }
}

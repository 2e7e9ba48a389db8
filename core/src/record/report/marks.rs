//! Marks of a report: commands and waits with their durations, events, signals, deadlines and gaps.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::lanes::Lanes;
use super::objects::Objects;
use crate::channel::Channel;
use crate::command_name::name_of;
use crate::record::{self, Entry};
use crate::time::Moment;
use crate::wire::{Frame, Framer, Message};

/// A thing on the time axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeMark {
    pub(super) what: What,
    pub(super) end: End,
    pub(super) lane: usize,
    /// The number of its line among those that are displayed.
    pub(super) row: usize,
    pub(super) at: Moment,
    /// `None` means that it has no duration, or that its end is not in the record.
    pub(super) until: Option<Moment>,
    pub(super) label: String,
}

/// Kinds of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A command of the caller, from the call to its answer.
    Command,
    /// A command on the wire, from its last byte to its reply.
    Exchange,
    Wait,
    Event,
    Signal,
    Deadline,
    Milestone,
    Gap,
}

/// How a command or a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has a reply or a result, or is no command.
    Fine,
    /// QEMU, or the machine before QEMU, refused it.
    Refused,
    TimedOut,
    /// Another failure: the monitor was closed, the machine ended, the call was cancelled.
    Failed,
    /// The caller does not want its result any more.
    Disowned,
    /// Nothing in the record ends it.
    Unanswered,
    /// The same, and lines were dropped since: its end may have been among them.
    Dropped,
}

impl What {
    /// Returns the word that the script of the page reads.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Exchange => "exchange",
            Self::Wait => "wait",
            Self::Event => "event",
            Self::Signal => "signal",
            Self::Deadline => "deadline",
            Self::Milestone => "milestone",
            Self::Gap => "gap",
        }
    }
}

impl End {
    /// Returns the word that the page shows.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fine => "",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
            Self::Disowned => "disowned",
            Self::Unanswered => "unanswered",
            Self::Dropped => "end not recorded",
        }
    }

    /// Reads the end of a command from the text of its failure (`CommandError`).
    fn of_failure(problem: &str) -> Self {
        match problem {
            _ if problem.starts_with('`') && problem.contains("` was refused: ") => Self::Refused,
            _ if problem.starts_with("no reply within the deadline") => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// Reads the end of a wait from the text of its result (`render.rs`, `WaitError`).
    fn of_result(found: &str) -> Self {
        match found {
            _ if found.starts_with(|first: char| first.is_ascii_digit()) => Self::Fine,
            _ if found.starts_with("the deadline passed") => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

/// Command as it is on the wire.
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "exec-oob")]
    execute: String,
    #[serde(default)]
    id: Option<u64>,
    #[serde(default, rename = "arguments")]
    _arguments: Option<IgnoredAny>,
}

/// Collector of the marks of a record: it reads the lines in their order.
#[derive(Debug, Default)]
pub(super) struct TimeMarks {
    pub(super) all: Vec<TimeMark>,
    /// The request whose number or refusal follows, by its index.
    requested: Option<usize>,
    /// The answers to commands without a number: one that fails at once has its failure before its number.
    early: BTreeMap<u64, End>,
    commands: BTreeMap<u64, usize>,
    waits: BTreeMap<u64, usize>,
    /// The waits that an end of a run ended, and whose results are not claimed.
    ended_waits: BTreeMap<u64, usize>,
    /// The wait whose result follows.
    claimed: Option<u64>,
    /// The commands on the wire that have no reply.
    exchanges: BTreeMap<u64, usize>,
    sent: Objects,
    received: Received,
    last: Moment,
}

/// The messages of the monitor.
#[derive(Debug)]
struct Received(Framer);

impl Default for Received {
    fn default() -> Self {
        // They are in memory already, so no limit is needed.
        Self(Framer::new(usize::MAX))
    }
}

impl TimeMarks {
    /// Reads a line. `row` is its number among those that are displayed, or that of the next one.
    pub(super) fn read(&mut self, at: Moment, entry: &Entry, row: usize, lanes: &Lanes) {
        match entry {
            Entry::Machine(_) => {}
            Entry::Input(input) => self.input(at, input, row, lanes),
            Entry::Output(output) => self.output(at, output, row, lanes),
            Entry::Dropped(count) => {
                let label = format!("{count} lines were dropped");
                let gap = TimeMark { until: Some(at), ..mark(What::Gap, Lanes::CALLER, row, self.last, label) };
                self.all.push(gap);
                self.close(End::Dropped);
            }
        }
        self.last = at;
    }

    /// Marks those without an end in the record, and returns all.
    pub(super) fn finish(mut self) -> Vec<TimeMark> {
        let pending = self.commands.values().chain(self.waits.values()).chain(self.exchanges.values());
        for index in pending {
            if let Some(mark) = self.all.get_mut(*index).filter(|mark| mark.end == End::Fine && mark.until.is_none()) {
                mark.end = End::Unanswered;
            }
        }
        self.all
    }

    /// Ends the connection to the monitor, at an end of a run or at a gap.
    fn close(&mut self, end: End) {
        for index in core::mem::take(&mut self.exchanges).into_values() {
            self.all[index].end = end;
        }
        if end == End::Dropped {
            // An answer behind the gap still finds its command here.
            for index in self.commands.values().chain(self.waits.values()) {
                if self.all[*index].until.is_none() {
                    self.all[*index].end = end;
                }
            }
        }
        (self.sent, self.received) = (Objects::default(), Received::default());
        (self.requested, self.claimed) = (None, None);
    }

    fn add(&mut self, what: What, lane: usize, row: usize, at: Moment, label: impl Into<String>) -> usize {
        self.all.push(mark(what, lane, row, at, label.into()));
        self.all.len() - 1
    }

    /// Begins a command or a wait. Its number or its refusal follows.
    fn ask(&mut self, what: What, lane: usize, row: usize, at: Moment, label: impl Into<String>) {
        self.requested = Some(self.add(what, lane, row, at, label));
        self.early.clear();
    }

    fn number(&mut self, at: Moment, id: u64) {
        // Without a request, it is the number of a subscription.
        let Some(index) = self.requested.take() else { return };
        if self.all[index].what == What::Wait {
            self.waits.insert(id, index);
        } else if let Some(end) = self.early.remove(&id) {
            self.end(Some(index), at, end);
        } else {
            self.commands.insert(id, index);
        }
    }

    fn answer(&mut self, at: Moment, id: u64, end: End) {
        match self.commands.remove(&id) {
            None if self.requested.is_some() => drop(self.early.insert(id, end)),
            index => self.end(index, at, end),
        }
    }

    fn take_wait(&mut self, id: u64) -> Option<usize> {
        self.waits.remove(&id).or_else(|| self.ended_waits.remove(&id))
    }

    fn end(&mut self, index: Option<usize>, at: Moment, end: End) {
        if let Some(mark) = index.and_then(|index| self.all.get_mut(index)) {
            mark.until.get_or_insert(at);
            mark.end = end;
        }
    }

    fn input(&mut self, at: Moment, input: &record::Input, row: usize, lanes: &Lanes) {
        let lane = lanes.lane_of_input(input);
        match input {
            record::Input::Execute(issued) => {
                self.ask(What::Command, lane, row, at, name_of(&issued.text));
            }
            record::Input::Wait { things, .. } => {
                let things: Vec<_> = things.iter().map(|thing| thing.to_string()).collect();
                self.ask(What::Wait, lane, row, at, format!("wait for {}", things.join(", ")));
            }
            record::Input::ClaimWait(id) => self.claimed = Some(*id),
            record::Input::DisownWait(id) => {
                let index = self.take_wait(*id);
                self.end(index, at, End::Disowned);
            }
            // The machine takes the answer that an undo awaits.
            record::Input::Disown(id) | record::Input::Undo { pending: Some(id), .. } => {
                let index = self.commands.remove(id);
                self.end(index, at, End::Disowned);
            }
            record::Input::Launch => {
                self.close(End::Unanswered);
                self.add(What::Milestone, lane, row, at, "launch");
            }
            record::Input::Spawned(pid) => drop(self.add(What::Milestone, lane, row, at, format!("process {pid}"))),
            record::Input::Exited(status) => drop(self.add(What::Milestone, lane, row, at, status.to_string())),
            record::Input::Closed(Channel::Monitor) => self.close(End::Unanswered),
            record::Input::TimePassed => drop(self.add(What::Deadline, lane, row, at, "a deadline passed")),
            record::Input::Received { from: Channel::Monitor, bytes } => self.received(at, bytes, row),
            record::Input::Sent { to: Channel::Monitor, bytes } => self.sent(at, bytes, row),
            _ => self.request(at, input, row),
        }
    }

    fn request(&mut self, at: Moment, input: &record::Input, row: usize) {
        let label = match input {
            record::Input::Shutdown(_) => "shut down",
            record::Input::Kill => "kill",
            record::Input::Disconnect => "disconnect",
            record::Input::Detach => "detach",
            record::Input::Abandon => "abandon",
            record::Input::KillOrDisconnect => "kill or disconnect",
            _ => return,
        };
        self.add(What::Milestone, Lanes::CALLER, row, at, label);
    }

    fn output(&mut self, at: Moment, output: &record::Output, row: usize, lanes: &Lanes) {
        match output {
            record::Output::Number(id) => self.number(at, *id),
            record::Output::Refused(_) => {
                let index = self.requested.take();
                self.end(index, at, End::Refused);
            }
            record::Output::Answered { id, .. } => self.answer(at, *id, End::Fine),
            record::Output::Failure { id, problem } => self.answer(at, *id, End::of_failure(problem)),
            record::Output::Found(found) => {
                let index = self.claimed.take().and_then(|id| self.take_wait(id));
                self.end(index, at, End::of_result(found));
            }
            record::Output::Effect(effect) if effect.contains("send SIG") => {
                let signal = effect.rsplit(' ').next().unwrap_or_default().to_string();
                self.add(What::Signal, lanes.lane_of_output(output), row, at, signal);
            }
            record::Output::Ready => drop(self.add(What::Milestone, Lanes::MONITOR, row, at, "ready")),
            record::Output::Ended(_) => {
                self.add(What::Milestone, lanes.process(), row, at, "end");
                // The end ends each wait, whether its result is claimed later or never.
                for (id, index) in core::mem::take(&mut self.waits) {
                    self.all[index].until.get_or_insert(at);
                    self.ended_waits.insert(id, index);
                }
            }
            record::Output::Gap => drop(self.add(What::Milestone, Lanes::MONITOR, row, at, "events may be missing")),
            record::Output::Effect(_) | record::Output::Event(_) => {}
        }
    }

    fn received(&mut self, at: Moment, bytes: &[u8], row: usize) {
        self.received.0.push(bytes);
        while let Some(frame) = self.received.0.next_frame() {
            let Frame::Message(frame) = frame else { continue };
            match Message::read(&frame) {
                Ok(Message::Event(event)) => drop(self.add(What::Event, Lanes::MONITOR, row, at, event.name())),
                Ok(Message::Reply { id: Some(id), result }) => {
                    let index = self.exchanges.remove(&u64::from(id));
                    self.end(index, at, if result.is_ok() { End::Fine } else { End::Refused });
                }
                Ok(Message::Greeting(greeting)) => {
                    self.add(
                        What::Milestone,
                        Lanes::MONITOR,
                        row,
                        at,
                        format!("greeting of QEMU {}", greeting.version),
                    );
                }
                Ok(Message::Reply { id: None, .. } | Message::Nameless(_)) | Err(_) => {}
            }
        }
    }

    fn sent(&mut self, at: Moment, bytes: &[u8], row: usize) {
        for byte in bytes {
            let Some(object) = self.sent.push(*byte) else { continue };
            let Ok(Written { execute, id: Some(id), .. }) = serde_json::from_slice(&object) else { continue };
            let index = self.add(What::Exchange, Lanes::MONITOR, row, at, execute);
            self.exchanges.insert(id, index);
        }
    }
}

fn mark(what: What, lane: usize, row: usize, at: Moment, label: String) -> TimeMark {
    TimeMark { what, end: End::Fine, lane, row, at, until: None, label }
}

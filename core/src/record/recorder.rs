//! Bounded memory of a record: the first lines of a run, and as many of the latest as fit.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::line::{Entry, Line};
use super::lines::Record;
use crate::input::CompanionInput;
use crate::record;
use crate::time::Moment;
use crate::wait::{Target, Wait};

/// The retained lines of a record, within a bound in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// The first lines, which are never dropped: a replay needs the configuration and the launch.
    head: Vec<Line>,
    tail: VecDeque<Line>,
    /// The number of lines that were dropped between head and tail.
    dropped: u64,
    /// The bytes that the head may still grow by.
    room: usize,
    /// The bytes in the tail.
    held: usize,
    /// The most bytes in the tail.
    limit: usize,
}

impl Recorder {
    /// The head gets one part in this many of the bound: a launch takes a few kilobytes.
    const HEAD: usize = 4;

    /// Returns a recorder that keeps about `limit` bytes.
    pub(crate) fn new(first: Line, limit: usize) -> Self {
        let room = limit / Self::HEAD;
        let (head, tail) = (Vec::from([first]), VecDeque::new());
        Self { head, tail, dropped: 0, room, held: 0, limit: limit - room }
    }

    fn add(&mut self, at: Moment, entry: Entry) {
        let line = Line { at, entry };
        let weight = line.weight();
        if weight <= self.room && self.tail.is_empty() && self.dropped == 0 {
            self.room -= weight;
            self.head.push(line);
            return;
        }
        self.held += weight;
        self.tail.push_back(line);
        while self.held > self.limit {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.held -= oldest.weight();
            self.dropped += 1;
        }
    }

    /// Adds lines of one moment.
    pub(crate) fn extend(&mut self, at: Moment, entries: impl IntoIterator<Item = Entry>) {
        entries.into_iter().for_each(|entry| self.add(at, entry));
    }

    pub(crate) fn record(&self) -> Record {
        let at = self.tail.front().or(self.head.last()).map_or(Moment::ORIGIN, |line| line.at);
        let gap = (self.dropped > 0).then_some(Line { at, entry: Entry::Dropped(self.dropped) });
        Record { lines: self.head.iter().cloned().chain(gap).chain(self.tail.iter().cloned()).collect() }
    }

    /// Returns a recorder that drops nothing.
    pub(crate) fn unbounded(first: Line) -> Self {
        Self { room: usize::MAX, ..Self::new(first, 0) }
    }

    /// Keeps no more than `limit` bytes from now on.
    pub(crate) fn bound(&mut self, limit: usize) {
        (self.room, self.limit) = (0, limit);
    }

    /// Returns the first lines of the run from this index on.
    pub(crate) fn since(&self, line: usize) -> &[Line] {
        self.head.get(line..).unwrap_or_default()
    }
}

/// All recorders are equal: a record is not part of the state of a machine.
impl PartialEq for Recorder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Line {
    /// Returns about how many bytes of memory the line uses.
    fn weight(&self) -> usize {
        let heap = match &self.entry {
            Entry::Input(
                record::Input::Received { bytes, .. }
                | record::Input::Sent { bytes, .. }
                | record::Input::LogRead(bytes),
            ) => bytes.len(),
            Entry::Input(record::Input::Companion { event: CompanionInput::LogRead(log), .. }) => log.len(),
            Entry::Input(record::Input::Execute(issued)) => issued.text.len(),
            Entry::Input(record::Input::ConsoleWrite { console, text }) => console.len() + text.len(),
            Entry::Input(record::Input::Wait { things, .. } | record::Input::Subscribe { events: things, .. }) => {
                things.iter().map(weight_of).sum()
            }
            Entry::Output(record::Output::Answered { reply, .. }) => reply.len(),
            Entry::Output(
                record::Output::Effect(text)
                | record::Output::Refused(text)
                | record::Output::Found(text)
                | record::Output::Event(text)
                | record::Output::Ended(text)
                | record::Output::Failure { problem: text, .. },
            ) => text.len(),
            // The other lines are small, and most of them occur once in a run.
            _ => 0,
        };
        size_of::<Self>() + heap
    }
}

/// Returns about how many bytes of memory a thing to wait for uses.
fn weight_of(thing: &Wait) -> usize {
    let heap = match &thing.0 {
        Target::Event(filter) => filter.pattern.to_string().len(),
        Target::Text { text, .. } => text.len(),
        Target::Companion(name) => name.len(),
        #[cfg(feature = "regex")]
        Target::Regex { regex, .. } => regex.pattern().len(),
        Target::Queued(_) | Target::AnyLine { .. } | Target::Output { .. } | Target::Log(_) | Target::End => 0,
    };
    size_of::<Wait>() + heap
}

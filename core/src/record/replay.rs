//! Decides how a recorded run is lived again, and what it means that it comes out otherwise.

use crate::record;
use alloc::boxed::Box;
use alloc::string::String;

use super::{Entry, Issued, Line, Record, Recorder, THIS_VERSION, words_of};
use crate::command::CommandId;
use crate::descriptor::Descriptor;
use crate::event::SubscriptionId;
use crate::fault::Misuse;
use crate::machine::Machine;
use crate::text::{excerpt, printable};
use crate::time::Moment;
use crate::wait::WaitId;
use crate::wire::Encoded;

/// Why a record could not be replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Diverged {
    /// The record does not begin with what was launched.
    #[error("the record does not begin with a configuration")]
    NoBeginning,
    /// What was launched cannot become a machine.
    #[error("{misuse}{}", words_of(.written_by.as_deref()))]
    Config {
        /// What is the matter with it.
        misuse: Misuse,
        /// The version of this crate that wrote the record, where that is not this one.
        written_by: Option<String>,
    },
    /// What came before this line was replayed; then lines were dropped to keep the bound.
    #[error("{count} lines behind line {line} were dropped")]
    Dropped {
        /// The last line that was replayed, counted from 1.
        line: usize,
        /// How many lines are missing.
        count: u64,
    },
    /// The machine said something else than was recorded.
    #[error("line {line} says\n  {recorded}\nand the replay\n  {replayed}{}", words_of(.written_by.as_deref()))]
    Differs {
        /// Which line, counted from 1.
        line: usize,
        /// The line, as JSON: the beginning of it, where it is long.
        recorded: String,
        /// What came instead; empty when nothing did.
        replayed: String,
        /// The version of this crate that wrote the record, where that is not this one.
        written_by: Option<String>,
    },
}

impl Record {
    /// Lives the recorded run again: a new machine is told the same at the same moments, and must say the same.
    ///
    /// Returns that machine as it is after the last line, with its history, its consoles and its outcome.
    ///
    /// # Errors
    ///
    /// A [`Diverged`] that tells how far it went: at a gap in the record, or where this version of the core decides
    /// otherwise than the one that wrote it.
    pub fn replay(&self) -> Result<Machine, Diverged> {
        let Some(first @ Line { entry: Entry::Machine(beginning), .. }) = self.lines.first() else {
            return Err(Diverged::NoBeginning);
        };
        let refused = |misuse| Diverged::Config { misuse, written_by: self.other_version() };
        let mut machine = Machine::new(beginning.config.clone()).map_err(refused)?;
        machine.recorder = Some(Box::new(Recorder::unbounded(first.clone())));
        let mut line = 1;
        while let Some(next) = self.lines.get(line) {
            if let Entry::Dropped(count) = next.entry {
                return Err(Diverged::Dropped { line, count });
            }
            machine.live_again(next);
            let said = machine.recorder.as_ref().map(|recorder| recorder.since(line)).unwrap_or_default();
            line = self.compare(line, said)?;
        }
        let limit = beginning.config.limits.record;
        machine.recorder.iter_mut().for_each(|recorder| recorder.bound(limit));
        Ok(machine)
    }

    /// Compares what was said now with what was recorded from this line on, and returns the line behind that. The record
    /// may have been taken in the middle of it.
    fn compare(&self, line: usize, said: &[Line]) -> Result<usize, Diverged> {
        let as_json = |line: &Line| excerpt(serde_json::to_string(line).unwrap_or_default().as_bytes());
        let differs = |line, recorded, replayed: Option<_>| {
            let replayed = replayed.map(as_json).unwrap_or_default();
            Err(Diverged::Differs { line, recorded: as_json(recorded), replayed, written_by: self.other_version() })
        };
        let mut behind = line;
        let lines = self.lines[line..].iter().take_while(|recorded| !matches!(recorded.entry, Entry::Dropped(_)));
        for (replayed, recorded) in said.iter().zip(lines) {
            behind += 1;
            if recorded != replayed {
                return differs(behind, recorded, Some(replayed));
            }
        }
        match self.lines.get(line) {
            Some(unsaid) if behind == line => differs(line + 1, unsaid, None),
            _ => Ok(behind),
        }
    }

    /// The version that wrote it, if it is not this one.
    fn other_version(&self) -> Option<String> {
        let Some(Line { entry: Entry::Machine(beginning), .. }) = self.lines.first() else { return None };
        (beginning.version != THIS_VERSION).then(|| printable(&excerpt(beginning.version.as_bytes())))
    }
}

impl Machine {
    /// Does what a line says. What it says by itself is compared, not done; but an order is given when it is asked for.
    pub(super) fn live_again(&mut self, line: &Line) {
        match &line.entry {
            Entry::Input(told) => match told.as_input() {
                Some(input) => self.handle(line.at, input),
                None => self.ask_again(line.at, told),
            },
            Entry::Output(record::Output::Order(_)) => {
                self.advance_clock(line.at);
                drop(self.poll_effect());
            }
            Entry::Output(_) | Entry::Machine(_) | Entry::Dropped(_) => {}
        }
        while self.poll_notice().is_some() {}
    }

    /// A request that is refused says so in the record. Those without a moment of their own come at the latest that was
    /// told, which was perhaps that of news that changed nothing else.
    fn ask_again(&mut self, now: Moment, told: &record::Input) {
        if !told.has_moment() {
            self.advance_clock(now);
        }
        match told {
            record::Input::Launch => drop(self.launch(now)),
            record::Input::Execute(issued) => drop(self.send(now, &Encoded::from(issued), issued.within)),
            record::Input::Type { console, text } => drop(self.console_write(now, console, text)),
            record::Input::Wait { from, things, within } => drop(self.wait(now, from, things.iter().cloned(), *within)),
            record::Input::Subscribe { from, events } => drop(self.subscribe(from, events.iter().cloned())),
            record::Input::Unsubscribe(id) => self.unsubscribe(SubscriptionId(*id)),
            record::Input::Take(id) => drop(self.take(CommandId(*id))),
            record::Input::Disown(id) => self.disown(CommandId(*id)),
            record::Input::Claim(id) => drop(self.claim_wait(WaitId(*id))),
            record::Input::Forget(id) => self.forget(WaitId(*id)),
            record::Input::Next(id) => drop(self.next_event(SubscriptionId(*id))),
            record::Input::Shutdown(how) => drop(self.shutdown(now, *how)),
            record::Input::Kill => drop(self.kill(now)),
            record::Input::Disconnect => drop(self.disconnect(now)),
            record::Input::Detach => drop(self.detach(now)),
            record::Input::GiveUp => self.give_up(now),
            record::Input::Abandon => self.abandon(now),
            record::Input::Sent { to, bytes } => self.sent(*to, bytes.len()),
            // The rest is news.
            _ => {}
        }
    }
}

impl From<&Issued> for Encoded {
    fn from(issued: &Issued) -> Self {
        let Issued { text, band, kind, descriptor, .. } = issued;
        let descriptor = descriptor.then(|| Descriptor::new(()));
        Self { body: text.clone().into(), band: *band, kind: *kind, descriptor }
    }
}

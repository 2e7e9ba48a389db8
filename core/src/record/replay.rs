//! Decides how a recorded run is lived again, and what it means that it comes out otherwise.

use alloc::string::String;

use super::line::{Entry, Line, THIS_VERSION};
use super::lines::{Record, words_of};
use crate::fault::Misuse;
use crate::machine::Machine;
use crate::text::{excerpt, printable};

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
        let mut machine = Machine::at_first_line(beginning, first).map_err(refused)?;
        let mut line = 1;
        while let Some(next) = self.lines.get(line) {
            match &next.entry {
                Entry::Dropped(count) => return Err(Diverged::Dropped { line, count: *count }),
                Entry::Input(input) => machine.repeat(next.at, input),
                // Without an input before it, nothing can come out: this is the first difference.
                Entry::Output(_) | Entry::Machine(_) => {}
            }
            line = self.compare(line, machine.lines_from(line))?;
        }
        machine.bound_record();
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

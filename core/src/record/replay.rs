//! Replay of a record: its inputs, fed to a new machine, and the first difference in what that machine writes.

use alloc::string::String;

use super::line::{Entry, Line, THIS_VERSION};
use super::lines::{Record, words_of};
use crate::fault::Misuse;
use crate::machine::Machine;
use crate::text::{excerpt, printable};

/// Why a record was not replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Diverged {
    /// The record does not begin with what was launched.
    #[error("the record does not begin with a configuration")]
    NoBeginning,
    /// The configuration is refused.
    #[error("{misuse}{}", words_of(.written_by.as_deref()))]
    Config {
        /// Why it is refused.
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
    /// The machine put out something else than was recorded.
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
    /// Replays the run: a new machine receives the recorded inputs at the recorded times, and must write the same lines.
    ///
    /// Returns that machine as it is after the last line, with its history, its consoles and its outcome.
    ///
    /// # Errors
    ///
    /// A [`Diverged`] with the line at which the replay stopped: a gap in the record, or the first line that differs,
    /// because this version of the core decides otherwise than the one that wrote the record.
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

    /// Compares the lines that the replay wrote with those of the record from this line on, and returns the next line. The
    /// record may end before the outputs of its last input.
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

    /// Returns the version that wrote it. `None` means this version.
    fn other_version(&self) -> Option<String> {
        let Some(Line { entry: Entry::Machine(beginning), .. }) = self.lines.first() else { return None };
        (beginning.version != THIS_VERSION).then(|| printable(&excerpt(beginning.version.as_bytes())))
    }
}

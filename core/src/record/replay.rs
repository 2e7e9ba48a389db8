//! Replay of a record: a new machine receives its inputs, and the lines that it writes are compared.

use super::line::{Entry, Line, THIS_VERSION};
use super::lines::{Record, words_of};
use crate::fault::Misuse;
use crate::machine::Machine;
use crate::text::{UntrustedText, excerpt};

/// Why a record was not replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Diverged {
    /// The first line is not the configuration of a machine.
    #[error("the record does not begin with a configuration")]
    NoBeginning,
    /// This version of the crate refuses the configuration.
    #[error("{misuse}{}", words_of(.written_by.as_ref()))]
    Config {
        /// Why it is refused.
        misuse: Misuse,
        /// The version of this crate that wrote the record. `None` means this version.
        written_by: Option<UntrustedText>,
    },
    /// The replay agrees up to this line; after it, lines were dropped to keep
    /// [`Limits::record`](crate::Limits::record).
    #[error("the replay agrees up to line {line}; {count} lines after it were dropped to keep the limit of the record")]
    Dropped {
        /// The last line that was replayed, counted from 1.
        line: usize,
        /// How many lines are missing.
        count: u64,
    },
    /// The replay wrote another line than the recorded one.
    #[error(
        "line {line} of the record is\n  {recorded}\nbut the replay wrote\n  {replayed}{}",
        words_of(.written_by.as_ref())
    )]
    Differs {
        /// The number of the line, counted from 1.
        line: usize,
        /// The recorded line, as JSON; a long one is cut.
        recorded: UntrustedText,
        /// The line that the replay wrote, as JSON; a long one is cut. Empty means that it wrote none.
        replayed: UntrustedText,
        /// The version of this crate that wrote the record. `None` means this version.
        written_by: Option<UntrustedText>,
    },
}

impl Record {
    /// Replays the run: a new machine receives the recorded inputs at the recorded times, and must write the same
    /// lines.
    ///
    /// Returns that machine as it is after the last line, with its history, its consoles and its outcome.
    ///
    /// # Errors
    ///
    /// A [`Diverged`] with the line at which the replay stopped: a gap in the record, or the first line that differs,
    /// because this version of the core behaves differently from the one that wrote the record.
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
                // An output without an input before it: the comparison below reports it as the first difference.
                Entry::Output(_) | Entry::Machine(_) => {}
            }
            line = self.compare(line, machine.lines_from(line))?;
        }
        machine.bound_record();
        Ok(machine)
    }

    /// Compares the lines that the replay wrote with those of the record from this line on, and returns the next line.
    /// The record may end before the outputs of its last input.
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
    fn other_version(&self) -> Option<UntrustedText> {
        let Some(Line { entry: Entry::Machine(beginning), .. }) = self.lines.first() else { return None };
        (beginning.version != THIS_VERSION).then(|| excerpt(beginning.version.as_bytes()))
    }
}

//! Record as a list of lines, with its text form.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde_json::Value;

use super::line::{Entry, Line, THIS_VERSION};
use crate::text::{Printable, UntrustedText, excerpt};

/// The inputs and outputs of a machine, in order. `Display` writes them as lines of JSON, `FromStr` reads those.
///
/// The format of the lines is not part of the public API: only the version of this crate that wrote a record is sure to
/// read it. The first line has that version. The default is a record without lines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub(super) lines: Vec<Line>,
}

/// The error for a text that is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a line of a record: {problem}{}", words_of(.written_by.as_ref()))]
#[non_exhaustive]
pub struct NotARecord {
    /// The number of the line, counted from 1.
    pub line: usize,
    /// The error of the JSON parser.
    pub problem: UntrustedText,
    /// The version of this crate that wrote it. `None` means this version, or an unknown one.
    pub written_by: Option<UntrustedText>,
}

impl Record {
    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns whether the record has no lines. The record of a machine has at least the line of its configuration.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the number of lines that were dropped to stay within [`Limits::record`](crate::Limits::record).
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let gaps = self.lines.iter().map(|line| if let Entry::Dropped(count) = line.entry { count } else { 0 });
        gaps.fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| {
            let text = serde_json::to_string(line).map_err(|_| fmt::Error)?;
            writeln!(f, "{:#}", Printable::json(&text))
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record of {} lines", self.lines.len())
    }
}

impl FromStr for Record {
    type Err = NotARecord;

    fn from_str(text: &str) -> Result<Self, NotARecord> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        let first = lines.peek().map_or("", |(_, line)| *line);
        let lines = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| NotARecord {
                line: index + 1,
                problem: error.to_string().into(),
                written_by: serde_json::from_str(first).ok().and_then(|first| other_version(&first)),
            })
        });
        Ok(Self { lines: lines.collect::<Result<_, _>>()? })
    }
}

/// Returns the version in the first line. `None` means this version.
fn other_version(first: &Value) -> Option<UntrustedText> {
    let version = first.pointer("/machine/version")?.as_str()?;
    (version != THIS_VERSION).then(|| excerpt(version.as_bytes()))
}

/// Returns the end of an error message, if another version wrote the record.
pub(super) fn words_of(written_by: Option<&UntrustedText>) -> String {
    let words = |version| format!("\nversion {version} wrote the record, and this is version {THIS_VERSION}");
    written_by.map(words).unwrap_or_default()
}

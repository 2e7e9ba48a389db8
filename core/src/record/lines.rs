//! Record: the lines of one, written as text and read from it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde_json::Value;

use super::line::{Entry, Line, THIS_VERSION};
use crate::text::{excerpt, printable};

/// What a machine was told and what it said, in its order. It is written as lines of JSON, and read from them.
///
/// What the lines say is not part of what this crate promises to keep: a record is read by the version that wrote it,
/// whose number is in its first line.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) lines: Vec<Line>,
}

/// A text that is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not one of a record: {problem}{}", words_of(.written_by.as_deref()))]
#[non_exhaustive]
pub struct NotARecord {
    /// Which line, counted from 1.
    pub line: usize,
    /// What is the matter with it.
    pub problem: String,
    /// The version of this crate that wrote it, where its first line names another than this one.
    pub written_by: Option<String>,
}

impl Record {
    /// How many lines it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing was recorded. Where a machine is recorded, its configuration is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many lines were dropped to keep the bound.
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
            writeln!(f, "{text}")
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
                problem: error.to_string(),
                written_by: serde_json::from_str(first).ok().and_then(|first| other_version(&first)),
            })
        });
        Ok(Self { lines: lines.collect::<Result<_, _>>()? })
    }
}

/// Which version the first line names, if it is not this one.
fn other_version(first: &Value) -> Option<String> {
    let version = first.pointer("/machine/version")?.as_str()?;
    (version != THIS_VERSION).then(|| printable(&excerpt(version.as_bytes())))
}

/// That another version wrote it, behind what came of that.
pub(super) fn words_of(written_by: Option<&str>) -> String {
    let words = |version| format!("\nversion {version} wrote it, and this is version {THIS_VERSION}");
    written_by.map(words).unwrap_or_default()
}

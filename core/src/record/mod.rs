//! Decides what a record of a run is: what a machine was told and what it said, as lines of JSON.
//!
//! A machine that was [asked to](Config::recorded) writes down all that it is told (requests, bytes of the monitor and
//! the consoles, news of the process, and when) and all that it answers. Because it has no clock and does no IO, that
//! is enough to live the same run again, anywhere and at once: [`Record::replay`] does, and tells the first line that
//! comes out otherwise. So a record is a bug report.
//!
//! - *Bounded*: beyond [`Limits::record`](crate::Limits::record) the oldest lines are dropped, but for those of the
//!   beginning, and counted. Such a record can be read, and be replayed up to the gap.
//! - *Attached*: to the [`Outcome`](crate::Outcome), and so to the errors that carry one; and to be had from the machine at
//!   any time.
//! - *Secret*: the wire may carry passwords, and so does its record. [`Record::redact`] and
//!   [`Record::redact_member`] hide them, and what is left still replays.
//! - *Readable*: [`Record::timeline`]. *Usable*: a [`Mock`] answers as the recorded monitor did.
//!
//! ```
//! use qemu_machine_core::{Config, FaultKind, HostFault, Input, Machine, Moment, record::Record};
//!
//! let mut machine = Machine::new(Config::new("qemu-system-x86_64").recorded())?;
//! machine.launch(Moment::ORIGIN)?;
//! let order = machine.poll_effect();
//! let fault = HostFault {
//!     operation: "make a directory".into(),
//!     kind: FaultKind::Full,
//!     errno: Some(28),
//!     reason: "no space left".into(),
//! };
//! machine.handle(Moment::ORIGIN, Input::PrepareFailed(fault));
//!
//! let text = machine.record().expect("it is recorded").to_string();
//! let record: Record = text.parse()?;
//! record.replay()?;
//! assert!(record.timeline().to_string().contains("no space left"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod line;
mod mask;
mod mock;
mod recorder;
mod redact;
mod replay;
mod text;
mod timeline;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde_json::Value;

#[cfg(doc)]
use crate::Config;
use crate::text::{excerpt, printable};
pub(crate) use line::{Beginning, Entry, Input, Issued, Line, Output};
pub use mock::Mock;
pub(crate) use recorder::Recorder;
pub use redact::TooShort;
pub use replay::Diverged;
pub(crate) use text::as_text;
pub use timeline::Timeline;

/// The version of this crate: a record is promised to be read by the one that wrote it alone.
const THIS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a machine was told and what it said, in its order. It is written as lines of JSON, and read from them.
///
/// What the lines say is not part of what this crate promises to keep: a record is read by the version that wrote it,
/// whose number is in its first line.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    lines: Vec<Line>,
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
fn words_of(written_by: Option<&str>) -> String {
    let words = |version| format!("\nversion {version} wrote it, and this is version {THIS_VERSION}");
    written_by.map(words).unwrap_or_default()
}

//! Item of a wait: a matcher for one thing, in an event or on a console.

use alloc::vec::Vec;

use super::search::{Search, Searched};
use crate::console::Console;
use crate::event::{Event, Filter, SubscriptionId};
use crate::log_line::LogLevel;
use crate::work;

/// A thing to wait for, with the names of consoles resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(Filter),
    Queued(SubscriptionId),
    Text {
        console: usize,
        search: Search,
        /// The position up to which the console was searched.
        scanned: u64,
        /// Whether to find the end of the line that contains the text.
        line: bool,
        /// Whether the text was found, and only the end of its line is missing.
        found: bool,
        /// Whether escape sequences are removed from what is found.
        is_plain: bool,
    },
    Output {
        console: usize,
        from: u64,
    },
    Log {
        console: usize,
        /// The name by which QEMU reports.
        reporter: Vec<u8>,
        level: LogLevel,
        /// The position where the line begins that is looked at.
        line: u64,
        /// The position up to which the end of the line was searched.
        scanned: u64,
    },
    /// The end of the companion with this index.
    Companion(usize),
    End,
}

/// Returns the position after the first complete line that is wanted, and leaves its beginning in `line`. `None` means that
/// there is none yet. Searches each byte for the end of its line once.
fn find_line(on: &Console, line: &mut u64, scanned: &mut u64, is_wanted: impl Fn(&[u8]) -> bool) -> Option<u64> {
    *line = (*line).max(on.first());
    *scanned = (*scanned).max(*line);
    loop {
        let output = on.since(*scanned);
        let Some(at) = memchr::memchr(b'\n', output) else {
            work::count(output.len());
            *scanned += output.len() as u64;
            return None;
        };
        work::count(at);
        let end = *scanned + at as u64;
        *scanned = end + 1;
        let length = usize::try_from(end - *line).unwrap_or(usize::MAX);
        if is_wanted(on.since(*line).get(..length).unwrap_or_default()) {
            return Some(*scanned);
        }
        *line = *scanned;
    }
}

impl Item {
    pub(super) fn wants(&self, event: &Event) -> bool {
        matches!(self, Self::Event(filter) if filter.wants(event))
    }

    /// Returns the position at which the text, or its line, ends on this console. `None` means that it is not there
    /// yet. Searches each byte once, except the last ones of an output without the text, which may be its beginning.
    pub(super) fn find(&mut self, index: usize, on: &Console) -> Option<u64> {
        let (search, scanned, line, found) = match self {
            Self::Text { console, search, scanned, line, found, .. } if *console == index => {
                (search, scanned, *line, found)
            }
            Self::Output { console, from } if *console == index => {
                let end = on.end() - crate::text::begun(on.since(*from)) as u64;
                return Some(end).filter(|end| end > from);
            }
            Self::Log { console, reporter, level, line, scanned } if *console == index => {
                return find_line(on, line, scanned, |text| LogLevel::of(text, reporter) >= *level);
            }
            _ => return None,
        };
        *scanned = (*scanned).max(on.first());
        if !*found {
            let output = on.since(*scanned);
            work::count(output.len());
            match search.find(*scanned, output) {
                Searched::UpTo(position) => {
                    *scanned = position;
                    return None;
                }
                Searched::Found(end) => (*scanned, *found) = (end, true),
            }
        }
        if line {
            let output = on.since(*scanned);
            work::count(output.len());
            let end = memchr::memchr(b'\n', output);
            *scanned += end.map_or(output.len(), |at| at + 1) as u64;
            end?;
        }
        Some(*scanned)
    }
}

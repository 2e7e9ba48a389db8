//! Item of a wait: a matcher for one thing, in an event or on a console.

use alloc::vec::Vec;

use crate::console::Console;
use crate::event::{Event, Filter, SubscriptionId};
use crate::work;

/// A thing to wait for, with the names of consoles resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(Filter),
    Queued(SubscriptionId),
    Text {
        console: usize,
        text: Vec<u8>,
        /// The position up to which the console was searched.
        scanned: u64,
        /// Whether to find the end of the line that contains the text.
        line: bool,
        /// Whether the text was found, and only the end of its line is missing.
        found: bool,
    },
    Output {
        console: usize,
        from: u64,
    },
    End,
}

impl Item {
    pub(super) fn wants(&self, event: &Event) -> bool {
        matches!(self, Self::Event(filter) if filter.wants(event))
    }

    /// Returns the position at which the text, or its line, ends on this console. `None` means that it is not there
    /// yet. Searches each byte once, except the last ones of an output without the text, which may be its beginning.
    pub(super) fn find(&mut self, index: usize, on: &Console) -> Option<u64> {
        let (text, scanned, line, found) = match self {
            Self::Text { console, text, scanned, line, found } if *console == index => (text, scanned, *line, found),
            Self::Output { console, from } if *console == index => {
                let end = on.end() - crate::text::begun(on.since(*from)) as u64;
                return Some(end).filter(|end| end > from);
            }
            _ => return None,
        };
        *scanned = (*scanned).max(on.first());
        if !*found {
            let output = on.since(*scanned);
            work::count(output.len());
            let Some(at) = memchr::memmem::find(output, text) else {
                *scanned += output.len().saturating_sub(text.len() - 1) as u64;
                return None;
            };
            *scanned += (at + text.len()) as u64;
            *found = true;
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

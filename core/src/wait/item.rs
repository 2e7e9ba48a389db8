//! Item of a wait: a matcher for one thing, in an event or on a console.

use alloc::vec::Vec;

use crate::console::Console;
use crate::event::{Event, Filter, SubscriptionId};

/// A thing to wait for, with the names of consoles resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(Filter),
    Queued(SubscriptionId),
    Text { console: usize, text: Vec<u8>, scanned: u64, line: bool },
    Output { console: usize, from: u64 },
    End,
}

impl Item {
    pub(super) fn wants(&self, event: &Event) -> bool {
        matches!(self, Self::Event(filter) if filter.wants(event))
    }

    /// Returns the position at which the text, or its line, ends on this console. `None` means that it is not there
    /// yet. Searches each byte once, except those of an incomplete line.
    pub(super) fn find(&mut self, index: usize, on: &Console) -> Option<u64> {
        let (console, text, scanned, line) = match self {
            Self::Text { console, text, scanned, line } => (console, text, scanned, *line),
            Self::Output { console, from } if *console == index => {
                let end = on.end() - crate::text::begun(on.since(*from)) as u64;
                return Some(end).filter(|end| end > from);
            }
            _ => return None,
        };
        if *console != index {
            return None;
        }
        let start = (*scanned).max(on.first());
        let output = on.since(start);
        let found = memchr::memmem::find(output, text);
        let end = found.map(|at| at + text.len()).and_then(|end| match line {
            true => memchr::memchr(b'\n', &output[end..]).map(|more| end + more + 1),
            false => Some(end),
        });
        // The text may begin in the last bytes, so those are searched again.
        let scanned_now = found.unwrap_or_else(|| output.len().saturating_sub(text.len() - 1));
        *scanned = start + scanned_now as u64;
        end.map(|end| start + end as u64)
    }
}

//! Pending wait: the search for its items in the past, and in each new event or output.

use alloc::vec::Vec;

use super::{Found, Hit, Item, Mark, Missed, WaitId};
use crate::console::Console;
use crate::event::{Event, History, SubscriptionId};
use crate::log_line::LogLine;
use crate::plain::Plain;
use crate::text::UntrustedText;
use crate::time::Moment;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) id: WaitId,
    pub(super) items: Vec<Item>,
    pub(super) mark: Mark,
    pub(super) missed: Missed,
    pub(super) until: Option<Moment>,
}

impl Pending {
    pub(super) fn hit(&self, index: usize, found: Found, mark: Mark) -> Hit {
        Hit { index, found, mark, missed: self.missed }
    }

    pub(super) fn count_missed(&self, history: &History, consoles: &[Console]) -> Missed {
        let events = self.items.iter().any(|item| matches!(item, Item::Event(_)));
        let reads = |item: &Item, index| match item {
            Item::Text { console, .. } | Item::Output { console, .. } | Item::Log { console, .. } => *console == index,
            Item::Event(_) | Item::Queued(_) | Item::Companion(_) | Item::End => false,
        };
        let on = |index| self.items.iter().any(|item| reads(item, index));
        let consoles = consoles.iter().enumerate().filter(|(index, _)| on(*index));
        Missed {
            events: if events { history.missing_from(self.mark.event) } else { 0 },
            bytes: consoles.map(|(index, on)| on.first().saturating_sub(self.mark.position(index))).sum(),
        }
    }

    /// Searches the past: events first, in their order, then the consoles.
    pub(super) fn look_back(&mut self, history: &History, consoles: &[Console]) -> Option<Hit> {
        // Most steps of a procedure wait for console output alone.
        let wants_events = self.items.iter().any(|item| matches!(item, Item::Event(_)));
        let end = if wants_events { history.end() } else { self.mark.event };
        for number in self.mark.event.max(history.first())..end {
            let hit = history.get(number).and_then(|event| self.event(number, event));
            if hit.is_some() {
                return hit;
            }
        }
        consoles.iter().enumerate().find_map(|(index, console)| self.printed(index, console))
    }

    fn event(&self, number: u64, event: &Event) -> Option<Hit> {
        let index = self.items.iter().position(|item| item.wants(event))?;
        Some(self.found_event(index, number, event))
    }

    /// Returns the hit of an event that matches the item at this index.
    pub(super) fn found_event(&self, index: usize, number: u64, event: &Event) -> Hit {
        let mark = Mark { event: number + 1, consoles: self.mark.consoles.clone() };
        self.hit(index, Found::Event(event.clone()), mark)
    }

    pub(super) fn queued(&self, has_queued: impl Fn(SubscriptionId) -> bool) -> Option<Hit> {
        let mut items = self.items.iter().enumerate();
        items.find_map(|(index, item)| match item {
            Item::Queued(id) if has_queued(*id) => Some(self.hit(index, Found::Queued(*id), self.mark.clone())),
            _ => None,
        })
    }

    pub(super) fn printed(&mut self, index: usize, console: &Console) -> Option<Hit> {
        let ends = self.items.iter_mut().map(|item| item.find(index, console)).enumerate();
        let (item, end) = ends.filter_map(|(item, end)| Some((item, end?))).min_by_key(|(_, end)| *end)?;
        let mut mark = self.mark.clone();
        let begin = mark.position(index);
        mark.consoles.resize(mark.consoles.len().max(index + 1), 0);
        mark.consoles[index] = end;
        let found = match &self.items[item] {
            Item::Log { line, reporter, .. } => {
                let line = console.between(*line, end);
                Found::Log(LogLine::read(line.strip_suffix(b"\n").unwrap_or(line), reporter))
            }
            Item::Text { line: true, is_plain, .. } => {
                let line = console.between(console.line_at(end.saturating_sub(1)), end);
                Found::Line {
                    line: text(without_end(line), *is_plain),
                    text: text(console.between(begin, end), *is_plain),
                }
            }
            Item::Text { is_plain, .. } => Found::Text(text(console.between(begin, end), *is_plain)),
            _ => Found::Text(text(console.between(begin, end), false)),
        };
        let mut hit = self.hit(item, found, mark);
        if matches!(self.items[item], Item::Text { line: true, .. }) {
            // A line that is longer than the console loses its beginning while it is waited for.
            hit.missed.bytes = hit.missed.bytes.max(console.first().saturating_sub(begin));
        }
        Some(hit)
    }
}

/// Returns a line without its end: a line feed, after any number of carriage returns.
fn without_end(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\n").unwrap_or(line);
    while let Some(rest) = line.strip_suffix(b"\r") {
        line = rest;
    }
    line
}

fn text(printed: &[u8], is_plain: bool) -> UntrustedText {
    if is_plain {
        UntrustedText::from_utf8_lossy(&Plain::text(printed))
    } else {
        UntrustedText::from_utf8_lossy(printed)
    }
}

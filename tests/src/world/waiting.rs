//! Independent model of waits: the result that each wait must have by the documentation.

use qemu_machine_core::{Found, Hit, Moment, WaitError, WaitId};

use super::speech::Happened;
use super::witness::Witness;

/// The world's counterpart of a mark.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    pub(super) event: usize,
    pub(super) consoles: Vec<usize>,
}

impl Position {
    fn position(&self, console: usize) -> usize {
        self.consoles.get(console).copied().unwrap_or_default()
    }

    /// Moves the position to the start of the run, if it is before it: a wait neither finds nor misses earlier items.
    fn not_before(&self, birth: &Self) -> Self {
        let consoles = (0..birth.consoles.len()).map(|at| self.position(at).max(birth.position(at))).collect();
        Self { event: self.event.max(birth.event), consoles }
    }
}

/// An alternative of a wait.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    Event { name: Option<&'static str>, number: Option<u64> },
    Text { console: usize, text: &'static [u8] },
    End,
}

/// A wait that is not over, or whose result is not claimed.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: WaitId,
    things: Vec<Thing>,
    from: Position,
    begun: Moment,
    until: Option<Moment>,
    /// The position on each console from which the wait searches.
    starts: Vec<usize>,
    missed: (u64, u64),
    found: Option<Expected>,
    over: Option<Over>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Event { index: usize, number: usize },
    Text { index: usize, console: usize, end: usize },
}

/// The time at which the machine reported the end of a wait, and the state of the world at that time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) at: Moment,
    pub(super) events_close_at: Option<Moment>,
    pub(super) ended: bool,
}

impl Waiting {
    pub(super) fn new(id: WaitId, things: Vec<Thing>, from: Position, begun: Moment, until: Option<Moment>) -> Self {
        Self { id, things, from, begun, until, starts: Vec::new(), missed: (0, 0), found: None, over: None }
    }

    fn is_open(&self) -> bool {
        self.found.is_none() && self.over.is_none()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Sets the start of the search: the first retained event and bytes. Counts what was dropped before them.
    pub(super) fn remember(&mut self, birth: &Position, first_event: usize, first_bytes: &[usize]) {
        self.from = self.from.not_before(birth);
        let position = |console: usize| self.from.position(console);
        self.starts = first_bytes.iter().enumerate().map(|(console, first)| position(console).max(*first)).collect();
        let is_read = |console: &usize| self.things.iter().any(|thing| thing.is_on(*console));
        let bytes = (0..self.starts.len()).filter(is_read).map(|at| (self.starts[at] - position(at)) as u64).sum();
        let hears = self.things.iter().any(|thing| matches!(thing, Thing::Event { .. }));
        let events = if hears { first_event.saturating_sub(self.from.event) as u64 } else { 0 };
        self.missed = (events, bytes);
    }

    pub(super) fn next_event(&self, first: usize) -> usize {
        self.from.event.max(first)
    }

    /// Matches the next event.
    pub(super) fn look_at(&mut self, number: usize, event: &Happened) {
        if self.is_open() {
            let index = self.things.iter().position(|thing| thing.is(event));
            self.found = index.map(|index| Expected::Event { index, number });
        }
    }

    /// Searches the output of a console, whose last `new` bytes are new.
    pub(super) fn read(&mut self, console: usize, bytes: &[u8], new: usize) {
        if !self.is_open() {
            return;
        }
        let ends = self.things.iter().enumerate().filter_map(|(index, thing)| {
            let Thing::Text { text, .. } = thing else { return None };
            let fresh = (bytes.len() - new).saturating_sub(text.len() - 1);
            let start = self.starts[console].max(fresh);
            let at = bytes.get(start..)?.windows(text.len()).position(|window| window == *text)?;
            thing.is_on(console).then_some((start + at + text.len(), index))
        });
        self.found = ends.min().map(|(end, index)| Expected::Text { index, console, end });
    }

    /// Records that the machine has reported the end of the wait.
    pub(super) fn over(&mut self, over: Over) -> Result<(), String> {
        match self.over.replace(over) {
            Some(_) => Err(format!("{:?} is over twice", self.id)),
            None => Ok(()),
        }
    }

    fn hears_only(&self) -> bool {
        self.things.iter().all(|thing| matches!(thing, Thing::Event { .. }))
    }

    /// Returns the time at which the wait fails because no event can follow.
    fn disconnected_at(&self, events_close_at: Option<Moment>) -> Option<Moment> {
        events_close_at.filter(|_| self.hears_only()).map(|from| from.max(self.begun))
    }

    /// Checks what must be true whenever the driver is about to wait.
    pub(super) fn check(&self, now: Moment, events_close_at: Option<Moment>, ended: bool) -> Result<(), String> {
        let is_late = |at: Option<Moment>| at.is_some_and(|at| at < now);
        match self.over {
            Some(_) => Ok(()),
            None if self.found.is_some() => Err(format!("{self:?} has a match, but no notice")),
            None if ended => Err(format!("{self:?} outlives the machine")),
            None if is_late(self.until) => Err(format!("{self:?} outlives its deadline")),
            None if is_late(self.disconnected_at(events_close_at)) => {
                Err(format!("{self:?} waits, but no event can follow"))
            }
            None => Ok(()),
        }
    }

    /// Checks the result of the wait. Returns the position after the match.
    pub(super) fn judge(&self, result: &Result<Hit, WaitError>, witness: &Witness) -> Result<Option<Position>, String> {
        let Some(over) = self.over else { return Err(format!("{:?} was claimed without a notice", self.id)) };
        let in_time = |until: Moment| until == over.at || until <= self.begun;
        let is_end = |thing: &Thing| matches!(thing, Thing::End);
        let end = self.things.iter().position(is_end);
        match (self.found, result) {
            (Some(found), Ok(hit)) if self.is_found(found, hit, witness) => return Ok(Some(self.behind(found))),
            (None, Ok(hit)) if over.ended && Some(hit.index) == end && matches!(hit.found, Found::End(_)) => {}
            (None, Err(WaitError::Ended(_))) if over.ended && end.is_none() => {}
            (None, Err(WaitError::TimedOut)) if self.until.is_some_and(in_time) => {}
            (None, Err(WaitError::Disconnected)) if self.disconnected_at(over.events_close_at) == Some(over.at) => {}
            _ => return Err(format!("{self:?} ends with {result:?}")),
        }
        Ok(None)
    }

    fn is_found(&self, found: Expected, hit: &Hit, witness: &Witness) -> bool {
        let missed = (hit.missed.events, hit.missed.bytes) == self.missed;
        let (index, is_it) = match (found, &hit.found) {
            (Expected::Event { index, number }, Found::Event(event)) => (index, witness.is(event, number)),
            (Expected::Text { index, console, end }, Found::Text(text)) => {
                let position = self.from.position(console);
                let whole = &witness.bytes(console)[position..end];
                // Bytes that were dropped from the history cannot be compared.
                let forgotten = witness.first_byte(console) > position;
                let same = text.as_str() == String::from_utf8_lossy(whole);
                (index, same || forgotten)
            }
            _ => return false,
        };
        missed && is_it && index == hit.index
    }

    fn behind(&self, found: Expected) -> Position {
        let mut place = self.from.clone();
        match found {
            Expected::Event { number, .. } => place.event = number + 1,
            Expected::Text { console, end, .. } => {
                place.consoles[console] = end;
            }
        }
        place
    }
}

/// Returns the counter for the result of a wait.
pub(super) fn name(result: &Result<Hit, WaitError>) -> &'static str {
    match result {
        Ok(Hit { found: Found::Event(_), .. }) => "wait: event",
        Ok(Hit { found: Found::Text(_), .. }) => "wait: text",
        Ok(_) => "wait: end",
        Err(WaitError::TimedOut) => "wait: timed out",
        Err(WaitError::Disconnected) => "wait: no event can come",
        Err(_) => "wait: ended before",
    }
}

impl Thing {
    fn is(&self, event: &Happened) -> bool {
        let Self::Event { name, number } = self else { return false };
        let wanted = |number: &u64| Some(format!(r#"{{"n": {number}}}"#)) == event.data;
        name.is_none_or(|name| name == event.name) && number.as_ref().is_none_or(wanted)
    }

    fn is_on(&self, on: usize) -> bool {
        matches!(self, Self::Text { console, .. } if *console == on)
    }
}

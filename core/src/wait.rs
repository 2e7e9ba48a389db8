//! Decides what can be waited for, and when a wait is over.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Port;
use crate::console::Console;
use crate::error::WaitError;
use crate::event::{Event, Filter, History, ListenerId, Listeners};
use crate::fault::Misuse;
use crate::outcome::Outcome;
use crate::time::Moment;

/// A position in everything that a machine says: nothing behind it is missed by a wait that begins there.
///
/// Take one before you act, and wait from it afterwards. The default is the very beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub(crate) event: u64,
    pub(crate) consoles: Vec<u64>,
}

/// Something to wait for.
///
/// ```
/// use qemu_machine_core::{Wait, json};
///
/// let panicked = Wait::event("GUEST_PANICKED");
/// let unplugged = Wait::event("DEVICE_DELETED").with(json!({"device": "disk1"}));
/// let login = Wait::text("tty", "login: ");
/// let end = Wait::end();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Event(Filter),
    Heard(ListenerId),
    Text { console: String, #[serde(with = "crate::record::as_text")] text: Vec<u8>, line: bool },
    Output { console: String },
    End,
}

impl Wait {
    /// An event of this name.
    #[must_use]
    pub fn event(name: impl Into<String>) -> Self {
        Self(Kind::Event(Filter { name: Some(name.into()), pattern: Value::Null }))
    }

    /// An event of any name.
    #[must_use]
    pub fn any_event() -> Self {
        Self(Kind::Event(Filter { name: None, pattern: Value::Null }))
    }

    /// That event only with data that [match](crate::matches) a pattern. Changes nothing of other waits. In QEMU's Python
    /// class, the pattern is of the whole event: `{"data": …}` there is what stands behind `data` here.
    #[must_use]
    pub fn with(mut self, wanted: Value) -> Self {
        if let Kind::Event(filter) = &mut self.0 {
            filter.pattern = wanted;
        }
        self
    }

    /// An event in the queue of this listener, whether it is there already or comes. The wait leaves it there: take it
    /// with [`Machine::next_event`](crate::Machine::next_event).
    #[must_use]
    pub fn heard(listener: ListenerId) -> Self {
        Self(Kind::Heard(listener))
    }

    /// This text on the console of this name.
    #[must_use]
    pub fn text(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Text { console: console.into(), text: text.into(), line: false })
    }

    /// A line with this text in it, on the console of this name, when the whole of it was printed: what stands behind
    /// the text is often what one wants to know (`Kernel panic - not syncing: …`).
    #[must_use]
    pub fn line(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Text { console: console.into(), text: text.into(), line: true })
    }

    /// Anything on the console of this name: what is found is all that was printed from the mark on. To read a console as
    /// it prints, wait again from the mark of the [`Hit`]. A character in UTF-8 that came in part is left for that next wait.
    #[must_use]
    pub fn output(console: impl Into<String>) -> Self {
        Self(Kind::Output { console: console.into() })
    }

    /// That the guest opens the port of [`Config::guest_agent`](crate::Config::guest_agent): its agent is up, and answers in
    /// a moment. QEMU tells of it with `VSERPORT_CHANGE`.
    #[must_use]
    pub fn agent_up() -> Self {
        Self::event("VSERPORT_CHANGE").with(serde_json::json!({"id": Port::GuestAgent.id(), "open": true}))
    }

    /// The end of the machine.
    #[must_use]
    pub fn end() -> Self {
        Self(Kind::End)
    }

    /// What a listener wants, of things that are events.
    pub(crate) fn into_filter(self) -> Result<Filter, Misuse> {
        match self.0 {
            Kind::Event(filter) => Ok(filter),
            Kind::Heard(_) | Kind::Text { .. } | Kind::Output { .. } | Kind::End => Err(Misuse::NotAnEvent),
        }
    }
}

/// What a wait found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which of the things that were waited for it is, counted from 0.
    pub index: usize,
    /// The thing itself.
    pub found: Found,
    /// The position right behind it, to go on from.
    pub mark: Mark,
    /// What had been forgotten already when the wait began.
    pub missed: Missed,
}

impl Hit {
    /// The outcome, where the end was all that was waited for.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when something else was found.
    pub fn into_end(self) -> Result<Outcome, WaitError> {
        match self.found {
            Found::End(outcome) => Ok(*outcome),
            Found::Event(_) | Found::Heard(_) | Found::Text(_) => Err(WaitError::TimedOut),
        }
    }
}

/// The thing that a wait found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// This event.
    Event(Event),
    /// This listener has an event in its queue. The mark is the one that the wait began at.
    Heard(ListenerId),
    /// The text, or any output. Here is what the console printed from the mark up to and with it, with what is not UTF-8 replaced.
    Text(String),
    /// The end, and how it came.
    End(Box<Outcome>),
}

/// How much fell out of the bounded memory before a wait could look at it. Zero unless the mark is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Events.
    pub events: u64,
    /// Bytes of consoles.
    pub bytes: u64,
}

/// Names a wait for ever: claim what it found with it, or forget it.
#[must_use = "a wait that is neither claimed nor forgotten is kept"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub(crate) u64);

/// The waits that are not over, and the ends of those that are and were not claimed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waits {
    next: u64,
    pending: Vec<Pending>,
    over: Vec<(WaitId, Result<Hit, WaitError>)>,
    /// Those that are over and were not announced.
    news: Vec<WaitId>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    id: WaitId,
    items: Vec<Item>,
    mark: Mark,
    missed: Missed,
    until: Option<Moment>,
}

/// What is looked for, with the names of consoles resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(Filter),
    Heard(ListenerId),
    Text { console: usize, text: Vec<u8>, scanned: u64, line: bool },
    Output { console: usize, from: u64 },
    End,
}

impl Item {
    fn wants(&self, event: &Event) -> bool {
        matches!(self, Self::Event(filter) if filter.wants(event))
    }

    /// Where the text, or its line, ends on this console, if it is there. Looks at each byte once, but for those of a line
    /// that is not whole.
    fn find(&mut self, index: usize, on: &Console) -> Option<u64> {
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
        // The last bytes may be the beginning of the text.
        let scanned_now = found.unwrap_or_else(|| output.len().saturating_sub(text.len() - 1));
        *scanned = start + scanned_now as u64;
        end.map(|end| start + end as u64)
    }
}

impl Waits {
    /// Begins a wait: looks at what is there, and stays if that is not it.
    pub(crate) fn begin(
        &mut self,
        items: Vec<Item>,
        mark: Mark,
        until: Option<Moment>,
        history: &History,
        consoles: &[Console],
        listeners: &Listeners,
    ) -> WaitId {
        let id = WaitId(self.next);
        self.next += 1;
        let mut wait = Pending { id, items, mark, missed: Missed::default(), until };
        wait.missed = wait.count_missed(history, consoles);
        let hit = wait.look_back(history, consoles).or_else(|| wait.heard(|id| listeners.has_heard(id)));
        self.pending.push(wait);
        if let Some(hit) = hit {
            self.settle(|wait| (wait.id == id).then(|| Ok(hit.clone())));
        }
        id
    }

    /// An event came.
    pub(crate) fn event(&mut self, number: u64, event: &Event) {
        self.settle(|wait| wait.event(number, event).map(Ok));
    }

    /// This listener has an event.
    pub(crate) fn heard(&mut self, id: ListenerId) {
        self.settle(|wait| wait.heard(|other| other == id).map(Ok));
    }

    /// A listener is gone: who waits only for such waits in vain.
    pub(crate) fn unlistened(&mut self, listeners: &Listeners) {
        self.settle(|wait| {
            let is_gone = |item: &Item| matches!(item, Item::Heard(id) if !listeners.knows(*id));
            wait.items.iter().all(is_gone).then(|| Err(Misuse::UnknownListener.into()))
        });
    }

    /// A console printed.
    pub(crate) fn printed(&mut self, index: usize, console: &Console) {
        self.settle(|wait| wait.printed(index, console).map(Ok));
    }

    /// The machine ended.
    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        self.settle(|wait| {
            let outcome = Box::new(outcome.clone());
            let index = wait.items.iter().position(|item| *item == Item::End);
            Some(match index {
                Some(index) => Ok(wait.hit(index, Found::End(outcome), wait.mark.clone())),
                None => Err(WaitError::Ended(outcome)),
            })
        });
    }

    /// The queues of all listeners were emptied: what was found in one and not taken is lost with the life it was of.
    pub(crate) fn lost(&mut self, outcome: &Outcome) {
        let heard = |hit: &Hit| matches!(hit.found, Found::Heard(_));
        for (_, result) in self.over.iter_mut().filter(|(_, result)| result.as_ref().is_ok_and(heard)) {
            *result = Err(WaitError::Ended(Box::new(outcome.clone())));
        }
    }

    /// No event can come any more.
    pub(crate) fn disconnected(&mut self) {
        self.settle(|wait| {
            let only_events = wait.items.iter().all(|item| matches!(item, Item::Event(_) | Item::Heard(_)));
            only_events.then_some(Err(WaitError::Disconnected))
        });
    }

    /// Time passed.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.settle(|wait| wait.until.is_some_and(|until| until <= now).then_some(Err(WaitError::TimedOut)));
    }

    fn settle(&mut self, mut end: impl FnMut(&mut Pending) -> Option<Result<Hit, WaitError>>) {
        let Self { over, news, .. } = self;
        self.pending.retain_mut(|wait| match end(wait) {
            Some(result) => {
                over.push((wait.id, result));
                news.push(wait.id);
                false
            }
            None => true,
        });
    }

    pub(crate) fn claim(&mut self, id: WaitId) -> Option<Result<Hit, WaitError>> {
        let index = self.over.iter().position(|(other, _)| *other == id)?;
        Some(self.over.swap_remove(index).1)
    }

    pub(crate) fn forget(&mut self, id: WaitId) {
        self.pending.retain(|wait| wait.id != id);
        self.over.retain(|(other, _)| *other != id);
    }

    /// The waits that ended since this was last asked.
    pub(crate) fn news(&mut self) -> impl Iterator<Item = WaitId> + '_ {
        self.news.drain(..)
    }

    /// How many are pending, or over and not claimed.
    pub(crate) fn len(&self) -> usize {
        self.pending.len() + self.over.len()
    }

    /// How many are not over.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.pending.iter().filter_map(|wait| wait.until).min()
    }
}

impl Pending {
    fn hit(&self, index: usize, found: Found, mark: Mark) -> Hit {
        Hit { index, found, mark, missed: self.missed }
    }

    fn count_missed(&self, history: &History, consoles: &[Console]) -> Missed {
        let events = self.items.iter().any(|item| matches!(item, Item::Event(_)));
        let reads = |item: &Item, index| matches!(item, Item::Text { console, .. } | Item::Output { console, .. } if *console == index);
        let on = |index| self.items.iter().any(|item| reads(item, index));
        let consoles = consoles.iter().enumerate().filter(|(index, _)| on(*index));
        Missed {
            events: if events { history.first().saturating_sub(self.mark.event) } else { 0 },
            bytes: consoles.map(|(index, on)| on.first().saturating_sub(self.mark.position(index))).sum(),
        }
    }

    /// The past: the events first, in their order, then the consoles.
    fn look_back(&mut self, history: &History, consoles: &[Console]) -> Option<Hit> {
        for number in self.mark.event.max(history.first())..history.end() {
            let hit = history.get(number).and_then(|event| self.event(number, event));
            if hit.is_some() {
                return hit;
            }
        }
        consoles.iter().enumerate().find_map(|(index, console)| self.printed(index, console))
    }

    fn event(&self, number: u64, event: &Event) -> Option<Hit> {
        let index = self.items.iter().position(|item| item.wants(event))?;
        let mark = Mark { event: number + 1, consoles: self.mark.consoles.clone() };
        Some(self.hit(index, Found::Event(event.clone()), mark))
    }

    fn heard(&self, has_heard: impl Fn(ListenerId) -> bool) -> Option<Hit> {
        let mut items = self.items.iter().enumerate();
        items.find_map(|(index, item)| match item {
            Item::Heard(id) if has_heard(*id) => Some(self.hit(index, Found::Heard(*id), self.mark.clone())),
            _ => None,
        })
    }

    fn printed(&mut self, index: usize, console: &Console) -> Option<Hit> {
        let ends = self.items.iter_mut().map(|item| item.find(index, console)).enumerate();
        let (item, end) = ends.filter_map(|(item, end)| Some((item, end?))).min_by_key(|(_, end)| *end)?;
        let mut mark = self.mark.clone();
        let begin = mark.position(index);
        mark.consoles.resize(mark.consoles.len().max(index + 1), 0);
        mark.consoles[index] = end;
        let printed = console.since(begin);
        let behind = usize::try_from(console.end() - end).unwrap_or(usize::MAX);
        let text = crate::text::lossy(&printed[..printed.len().saturating_sub(behind)]);
        Some(self.hit(item, Found::Text(text), mark))
    }
}

impl Mark {
    /// The later of two positions, everywhere.
    pub(crate) fn not_before(&self, other: &Self) -> Self {
        let consoles = self.consoles.len().max(other.consoles.len());
        Self {
            event: self.event.max(other.event),
            consoles: (0..consoles).map(|index| self.position(index).max(other.position(index))).collect(),
        }
    }

    /// The same, but on one console.
    pub(crate) fn stand_at(&mut self, console: usize, position: u64) {
        self.consoles.resize(self.consoles.len().max(console + 1), 0);
        self.consoles[console] = position;
    }

    /// Where it stands on the console with this index.
    pub(crate) fn position(&self, console: usize) -> u64 {
        self.consoles.get(console).copied().unwrap_or_default()
    }
}

//! Events and console output of a run, as the model knows them, and what waits and subscriptions find in them.

use std::collections::VecDeque;

use qemu_machine_core::{Event, Found, Hit, Missed, SubscriptionId};

use super::super::action::{Happening, KINDS, Thing, limits};

/// The text that waits are for.
pub(in super::super) const TEXT: &str = "ok";

/// A position in the events and the output, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Position {
    event: u64,
    output: u64,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    name: String,
    data: Option<String>,
    /// The memory that it occupies. Zero means unknown: QEMU did not send it.
    size: usize,
}

/// The things that a wait is for, from a position on.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) things: Vec<Thing>,
    /// The subscription that a thing is for. `None` means that no thing is for one.
    pub(super) subscription: Option<SubscriptionId>,
    from: Position,
    missed: Missed,
}

/// The result of a wait that finds something other than the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    index: usize,
    found: Item,
    from: Position,
}

/// A thing that a wait found.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Event(Known),
    Text(String),
    Queued(SubscriptionId),
}

/// The queue of a subscription.
#[derive(Debug)]
struct Queue {
    id: SubscriptionId,
    events: VecDeque<Known>,
    missed: u64,
}

/// The events and the output of a run, and the subscriptions of all runs.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Where the run began.
    begun: Position,
    /// The events that QEMU sent and the machine has not reported.
    sent: VecDeque<Known>,
    /// The events that the history keeps.
    kept: VecDeque<Known>,
    /// The number of the next event.
    end: u64,
    output: Vec<u8>,
    /// The position of the oldest output that is kept.
    first_output: u64,
    queues: Vec<Queue>,
    /// The subscriptions that must be reported as not empty any more.
    announcements: Vec<SubscriptionId>,
    /// The model does not know an event of this run.
    is_blind: bool,
    /// The mark at which waits and subscriptions begin.
    pub(super) mark: Position,
}

impl Known {
    fn is_wanted(&self, thing: Thing) -> bool {
        match thing {
            Thing::Stop => self.name == "STOP",
            Thing::ResetOf(kind) => {
                let data = self.data.as_deref().unwrap_or_default();
                self.name == "RESET" && data.contains(&format!("\"kind\": {}", kind % KINDS))
            }
            Thing::AnyEvent => true,
            Thing::Text | Thing::End | Thing::Queued => false,
        }
    }
}

/// Adds an event to a queue of at most this size, and returns how many others it evicts. The latest is always kept.
fn push(queue: &mut VecDeque<Known>, event: Known, limit: usize) -> u64 {
    let mut size = queue.iter().map(|event| event.size).sum::<usize>() + event.size;
    let before = queue.len();
    while size > limit {
        let Some(evicted) = queue.pop_front() else { break };
        size -= evicted.size;
    }
    let evicted = before - queue.len();
    queue.push_back(event);
    evicted as u64
}

impl Stream {
    fn first(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// Begins a run: the subscriptions stay, and their queues are empty.
    pub(super) fn restart(&mut self) {
        self.begun = self.position();
        (self.sent, self.kept) = Default::default();
        self.output.clear();
        self.first_output = self.begun.output;
        self.announcements.clear();
        self.is_blind = false;
        for queue in &mut self.queues {
            (queue.events, queue.missed) = (VecDeque::new(), 0);
        }
    }

    /// Returns the position after everything so far.
    pub(super) fn position(&self) -> Position {
        Position { event: self.end, output: self.begun.output + self.output.len() as u64 }
    }

    /// QEMU sends an event. Returns its message.
    pub(super) fn send(&mut self, happening: Happening, number: u64) -> String {
        let data = happening.data(number);
        let line = format!("{{\"event\": \"{}\", \"data\": {data}}}", happening.name());
        let size = line.len() + Event::OVERHEAD;
        self.sent.push_back(Known { name: happening.name().into(), data: Some(data), size });
        line + "\r\n"
    }

    /// Returns whether the machine has reported all events that QEMU sent.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.sent.is_empty()
    }

    /// The connection ended: what the machine has not read is lost.
    pub(super) fn disconnect(&mut self) {
        self.sent.clear();
    }

    /// The machine reports an event. Each was sent, unless the peer `is_odd`; none is left out if all `must_be_read`.
    /// `event` is `None` when the history does not keep it any more.
    pub(super) fn report(&mut self, number: u64, event: Option<&Event>, is_odd: bool, must_be_read: bool) {
        assert_eq!(number, self.end, "the numbers of events are consecutive");
        self.end += 1;
        let seen = event.map(|event| (event.name(), event.data()));
        let known = loop {
            let next = if is_odd { None } else { Some(self.sent.pop_front().expect("an event that QEMU sent")) };
            match (next, seen) {
                (Some(next), Some(seen)) if (&*next.name, next.data.as_deref()) == seen => break next,
                (Some(next), None) => break next,
                (Some(next), _) => assert!(!must_be_read, "{next:?} is lost, and {event:?} reported"),
                (None, Some((name, data))) => {
                    break Known { name: name.into(), data: data.map(Into::into), size: 0 };
                }
                (None, None) => {
                    self.is_blind = true;
                    break Known { name: String::new(), data: None, size: 0 };
                }
            }
        };
        for queue in &mut self.queues {
            if queue.events.is_empty() {
                self.announcements.push(queue.id);
            }
            queue.missed += push(&mut queue.events, known.clone(), limits().subscription);
        }
        push(&mut self.kept, known, limits().events);
    }

    /// Compares the history with that of the machine. If the peer or the host `is_odd`, the sizes of events are unknown,
    /// so the model evicts what the machine did.
    pub(super) fn check_first(&mut self, first: u64, end: u64, is_odd: bool) {
        if is_odd {
            self.is_blind |= first < self.first();
            while self.first() < first && self.kept.pop_front().is_some() {}
            return;
        }
        assert_eq!((first, end), (self.first(), self.end), "the events in the history");
    }

    /// The console prints: waits find a text before old output is evicted.
    pub(super) fn print(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    pub(super) fn trim(&mut self) {
        let end = self.position().output;
        self.first_output = self.first_output.max(end.saturating_sub(limits().console as u64));
    }

    pub(super) fn subscribe(&mut self, id: SubscriptionId) {
        let mut queue = Queue { id, events: VecDeque::new(), missed: 0 };
        let skipped = self.mark.event.max(self.begun.event).saturating_sub(self.first());
        for event in self.kept.iter().skip(skipped as usize) {
            queue.missed += push(&mut queue.events, event.clone(), limits().subscription);
        }
        if !queue.events.is_empty() {
            self.announcements.push(id);
        }
        self.queues.push(queue);
    }

    pub(super) fn unsubscribe(&mut self, id: SubscriptionId) {
        self.queues.retain(|queue| queue.id != id);
    }

    pub(super) fn knows(&self, id: SubscriptionId) -> bool {
        self.queues.iter().any(|queue| queue.id == id)
    }

    /// Checks an event that the machine took from a queue.
    pub(super) fn check_next(&mut self, id: SubscriptionId, event: Option<&Event>, missed: u64, is_odd: bool) {
        let queue = self.queues.iter_mut().find(|queue| queue.id == id).expect("a subscription");
        let next = queue.events.pop_front();
        if is_odd {
            return;
        }
        let next = next.as_ref().map(|next| (&*next.name, next.data.as_deref()));
        assert_eq!(event.map(|event| (event.name(), event.data())), next, "the next event of {id:?}");
        assert_eq!(missed, queue.missed, "events that {id:?} missed");
    }

    /// The machine reports that a queue is not empty any more.
    pub(super) fn announce(&mut self, id: SubscriptionId, is_odd: bool) {
        let place = self.announcements.iter().position(|other| *other == id);
        assert!(place.is_some() || is_odd, "{id:?} had events before");
        place.map(|place| self.announcements.remove(place));
    }

    pub(super) fn check_announcements(&mut self, is_odd: bool) {
        assert!(self.announcements.is_empty() || is_odd, "a queue is not reported: {:?}", self.announcements);
        self.announcements.clear();
    }

    /// Begins a wait at the mark.
    pub(super) fn want(&self, things: Vec<Thing>, subscription: Option<SubscriptionId>) -> Wanted {
        let from =
            Position { event: self.mark.event.max(self.begun.event), output: self.mark.output.max(self.begun.output) };
        let is_for_event =
            things.iter().any(|thing| matches!(thing, Thing::Stop | Thing::ResetOf(_) | Thing::AnyEvent));
        let (events, bytes) = (self.first().saturating_sub(from.event), self.first_output.saturating_sub(from.output));
        let missed = Missed {
            events: if is_for_event { events } else { 0 },
            bytes: if things.contains(&Thing::Text) { bytes } else { 0 },
        };
        Wanted { things, subscription, from, missed }
    }

    /// Returns what a wait finds: the first event, or else the first text, or else an event in the queue.
    pub(super) fn find(&self, wanted: &Wanted, knows_queues: bool) -> Option<Finding> {
        let (things, from) = (&wanted.things, wanted.from);
        for (number, event) in (self.first()..).zip(&self.kept).filter(|(number, _)| *number >= from.event) {
            if let Some(index) = things.iter().position(|thing| event.is_wanted(*thing)) {
                let from = Position { event: number + 1, ..from };
                return Some(Finding { index, found: Item::Event(event.clone()), from });
            }
        }
        let at = |position: u64| (position.max(self.first_output) - self.begun.output) as usize;
        let output = &self.output[at(from.output)..];
        let text = output.windows(TEXT.len()).position(|window| window == TEXT.as_bytes());
        let index = things.iter().position(|thing| *thing == Thing::Text);
        if let (Some(text), Some(index)) = (text, index) {
            let printed = &output[..text + TEXT.len()];
            let end = self.begun.output + (at(from.output) + printed.len()) as u64;
            let found = Item::Text(String::from_utf8_lossy(printed).into_owned());
            return Some(Finding { index, found, from: Position { output: end, ..from } });
        }
        let id = wanted.subscription.filter(|_| knows_queues)?;
        let index = things.iter().position(|thing| *thing == Thing::Queued)?;
        let is_empty = self.queues.iter().find(|queue| queue.id == id)?.events.is_empty();
        (!is_empty).then_some(Finding { index, found: Item::Queued(id), from })
    }

    /// Returns whether the machine found what the model did.
    pub(super) fn is_found(&self, finding: Option<&Finding>, wanted: &Wanted, hit: &Hit, is_odd: bool) -> bool {
        let found = match &hit.found {
            Found::Event(event) => (event.name(), event.data()),
            Found::Text(text) => (text.as_str(), None),
            // An event of unknown size may have evicted others, so the model does not know the queue.
            Found::Queued(id) if is_odd => {
                return wanted.subscription == Some(*id) && wanted.things[hit.index] == Thing::Queued;
            }
            Found::Queued(id) => {
                return finding.is_some_and(|finding| finding.found == Item::Queued(*id) && finding.index == hit.index);
            }
            _ => return false,
        };
        let Some(finding) = finding else { return self.is_blind };
        let expected = match &finding.found {
            Item::Event(event) => (&*event.name, event.data.as_deref()),
            Item::Text(text) => (&**text, None),
            Item::Queued(_) => return self.is_blind,
        };
        self.is_blind || (finding.index, expected) == (hit.index, found) && (is_odd || wanted.missed == hit.missed)
    }

    /// Moves the mark behind a finding: the next wait finds what follows it.
    pub(super) fn move_mark(&mut self, finding: &Finding) {
        self.mark = finding.from;
    }

    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }
}

//! Decides what a consumer of events can ask of a machine.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::Machine;
use crate::error::WaitError;
use crate::event::{Event, ListenerId};
use crate::fault::Misuse;
use crate::notice::Notice;
use crate::record::{Said, Told};
use crate::time::{Deadline, Moment};
use crate::wait::{Found, Mark, Wait, WaitId};

impl Machine {
    /// Begins to queue, from a position on, every event that is one of these: [`Wait::event`] and [`Wait::any_event`],
    /// with the [patterns](Wait::with) that they have.
    ///
    /// Past events that the history still holds are queued at once: nothing is missed between acting and listening.
    /// Each listener has a queue of its own, of at most [`Limits::listener`](crate::Limits::listener) bytes. Beyond it
    /// the oldest are dropped and [counted](Self::missed_events). A listener stays, also from one life to the next,
    /// until [`unlisten`](Self::unlisten); a new life begins with empty queues and counts.
    ///
    /// # Errors
    ///
    /// [`Misuse::EmptyWait`] without a filter, [`Misuse::NotAnEvent`] for other things to wait for, and
    /// [`Misuse::TooManyListeners`].
    ///
    /// ```
    /// use qemu_machine_core::{Config, Machine, Wait, json};
    ///
    /// let mut machine = Machine::new(Config::new("qemu-system-x86_64"))?;
    /// let disk = Wait::event("BLOCK_JOB_COMPLETED").with(json!({"device": "disk0"}));
    /// let jobs = machine.listen(&machine.mark(), [disk, Wait::event("BLOCK_JOB_ERROR")])?;
    /// assert_eq!((machine.next_event(jobs), machine.missed_events(jobs)), (None, 0));
    /// machine.unlisten(jobs);
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    pub fn listen(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<ListenerId, Misuse> {
        if self.recorder.is_none() {
            return self.begin_to_listen(from, filter);
        }
        let events: Vec<_> = filter.into_iter().collect();
        let told = Told::Listen { from: from.clone(), events: events.clone() };
        self.asked_for_number(self.now, || told, |machine| machine.begin_to_listen(from, events), |id| id.0)
    }

    fn begin_to_listen(&mut self, from: &Mark, filter: impl IntoIterator<Item = Wait>) -> Result<ListenerId, Misuse> {
        let filter = filter.into_iter().map(Wait::into_filter).collect::<Result<Vec<_>, _>>()?;
        if filter.is_empty() {
            return Err(Misuse::EmptyWait);
        }
        let limits = &self.config.limits;
        if self.listeners.len() >= limits.listeners {
            return Err(Misuse::TooManyListeners(limits.listeners));
        }
        let from = from.not_before(&self.birth);
        let id = self.listeners.begin(filter, limits.listener, from.event, &self.history);
        if self.listeners.has_heard(id) {
            self.notices.push_back(Notice::Heard(id));
        }
        Ok(id)
    }

    /// The oldest event in the queue of a listener. It is given once.
    pub fn next_event(&mut self, id: ListenerId) -> Option<Event> {
        let event = self.listeners.pop(id)?;
        self.told(self.now, || Told::Next(id.0));
        self.said(|| Said::Event(event.to_string()));
        Some(event)
    }

    /// How many events a listener wanted and lost in this life, because its queue was full.
    ///
    /// Those that the history had [forgotten](Self::forgotten_events) when it began are not among them.
    #[must_use]
    pub fn missed_events(&self, id: ListenerId) -> u64 {
        self.listeners.missed(id)
    }

    /// How many events the history had forgotten already when a listener began: whether it wanted them cannot be
    /// known. Zero unless it began at an old mark.
    #[must_use]
    pub fn forgotten_events(&self, id: ListenerId) -> u64 {
        self.listeners.forgotten(id)
    }

    /// Ends a listener. Its queue is dropped, and a wait for nothing else is over.
    pub fn unlisten(&mut self, id: ListenerId) {
        self.told(self.now, || Told::Unlisten(id.0));
        self.listeners.end(id);
        self.waits.unlistened(&self.listeners);
        self.announce_waits();
    }

    /// Begins to wait until a listener has an event. What is queued comes before any error. To be claimed with
    /// [`claim_event`](Self::claim_event).
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownListener`], and those of [`wait`](Self::wait).
    pub fn wait_for_event(&mut self, now: Moment, id: ListenerId, deadline: Deadline) -> Result<WaitId, Misuse> {
        self.wait(now, &Mark::default(), [Wait::heard(id)], deadline)
    }

    /// The event that was waited for with [`wait_for_event`](Self::wait_for_event), or why there is none, once that is
    /// known. It is given once; an event that nobody claims stays in its queue.
    ///
    /// It is [`WaitError::TimedOut`] when somebody else took the event meanwhile.
    pub fn claim_event(&mut self, wait: WaitId) -> Option<Result<Event, WaitError>> {
        let over = self.claim_wait(wait)?;
        Some(over.and_then(|hit| match hit.found {
            Found::Heard(id) => self.next_event(id).ok_or(WaitError::TimedOut),
            _ => Err(WaitError::TimedOut),
        }))
    }

    /// An event came, and is kept in the history under this number.
    pub(super) fn tell_listeners(&mut self, number: u64) {
        let Self { history, listeners, waits, notices, .. } = self;
        let Some(event) = history.get(number) else { return };
        for id in listeners.event(event) {
            waits.heard(id);
            notices.push_back(Notice::Heard(id));
        }
    }
}

//! Waits of a machine: the requests for them, and their results.

use alloc::vec::Vec;

use super::request::Things;
use super::{Machine, request};
use crate::config::Config;
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::lifecycle::State;
use crate::outcome::Outcome;
use crate::time::{Deadline, Moment};
use crate::wait::{Hit, Item, Mark, Search, Target, Wait, WaitId};

/// What counts as the byte before a search that begins after evicted output: neither a line end nor a letter.
#[cfg(feature = "regex")]
const EVICTED: u8 = b' ';

impl Machine {
    /// Begins to wait for the first of several things, from a position on. Events and output after the mark that are
    /// still kept count, so nothing is missed between the mark and the call.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`] before the first launch; [`Misuse::EmptyWait`], [`Misuse::EmptyText`],
    /// [`Misuse::TextTooLong`], [`Misuse::UnknownConsole`] (also for the log, if that is not followed),
    /// [`Misuse::UnknownSubscription`] and [`Misuse::UnknownCompanion`] for its things; [`Misuse::TooManyWaits`] beyond
    /// [`Limits::waits`](crate::Limits::waits).
    pub fn wait(
        &mut self,
        now: Moment,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: Deadline,
    ) -> Result<WaitId, Misuse> {
        let mut things = things.into_iter();
        self.request(now, request::BeginWait { from, things: Things::new(&mut things), deadline })
    }

    pub(super) fn begin_to_wait(
        &mut self,
        now: Moment,
        from: &Mark,
        things: impl Iterator<Item = Wait>,
        deadline: Deadline,
    ) -> Result<WaitId, Misuse> {
        if self.state() == State::Idle {
            return Err(self.not_launched());
        }
        self.advance_clock(now);
        let from = &from.not_before(&self.run_start);
        let items = things.map(|thing| self.resolve(thing, from)).collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() {
            return Err(Misuse::EmptyWait);
        }
        if self.waits.len() >= self.config.limits.waits && items != [Item::End] {
            return Err(Misuse::TooManyWaits(self.config.limits.waits));
        }
        let until = deadline.passes_at(self.now);
        let id = self.waits.begin(items, from.clone(), until, &self.history, &self.consoles, &self.subscriptions);
        self.find_ended_companions();
        if let Some(outcome) = &self.outcome {
            self.waits.ended(outcome);
        }
        if self.are_events_closed() {
            self.waits.disconnected();
        }
        self.waits.expire(self.now);
        self.announce_waits();
        Ok(id)
    }

    /// Returns the position of the oldest event that is kept, if an event after the mark, and not before this number, was
    /// evicted in this run.
    pub(crate) fn evicted_after(&self, from: &Mark, number: u64) -> Option<Mark> {
        let (first, from) = (self.history.first(), from.not_before(&self.run_start));
        (from.event.max(number) < first).then_some(Mark { event: first, consoles: from.consoles })
    }

    /// Begins to wait for the end, and for nothing else. Such a wait is not subject to
    /// [`Limits::waits`](crate::Limits::waits).
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`].
    pub fn wait_for_end(&mut self, now: Moment, deadline: Deadline) -> Result<WaitId, Misuse> {
        let from = self.mark();
        self.wait(now, &from, [Wait::end()], deadline)
    }

    fn resolve(&self, thing: Wait, from: &Mark) -> Result<Item, Misuse> {
        Ok(match thing.0 {
            Target::Event(filter) => Item::Event(filter),
            Target::Queued(id) if self.subscriptions.knows(id) => Item::Queued(id),
            Target::Queued(_) => return Err(Misuse::UnknownSubscription),
            Target::Text { text, .. } if text.is_empty() => return Err(Misuse::EmptyText),
            Target::Text { text, .. } if text.len() > self.config.limits.console => {
                return Err(Misuse::TextTooLong(self.config.limits.console));
            }
            Target::Text { console, text, line, plain } => {
                let (console, search) = (self.console_index(&console)?, Search::text(text, plain));
                text_item(console, search, from, line, plain)
            }
            Target::AnyLine { console, plain } => {
                let console = self.console_index(&console)?;
                // The search is over: only the end of the line is missing.
                let (search, scanned) = (Search::text(Vec::new(), false), from.position(console));
                Item::Text { console, search, scanned, line: true, found: true, is_plain: plain }
            }
            #[cfg(feature = "regex")]
            Target::Regex { console, regex, line, plain } => {
                let console = self.console_index(&console)?;
                let begin = from.position(console).max(self.consoles[console].first());
                let before = self.consoles[console].between(begin.saturating_sub(1), begin).last().copied();
                // What was evicted may be the middle of a line: only a run begins with a line.
                let before = before.or_else(|| (begin > self.run_start.position(console)).then_some(EVICTED));
                let search = Search::regex(&regex, plain, begin, before);
                text_item(console, search, from, line, plain)
            }
            Target::Output { console } => {
                let console = self.console_index(&console)?;
                Item::Output { console, from: from.position(console) }
            }
            Target::Log(level) => {
                let console = self.config.log_console().ok_or_else(|| Misuse::UnknownConsole(Config::LOG.into()))?;
                // A line that was begun before the mark counts as a whole: QEMU prints a report in several pieces.
                let line = self.consoles[console].line_at(from.position(console));
                let reporter = self.config.reporter().to_vec();
                Item::Log { console, reporter, level, line, scanned: from.position(console) }
            }
            Target::Companion(name) => Item::Companion(self.companion_index(&name)?),
            Target::End => Item::End,
        })
    }

    /// Returns the outcome that [`wait_for_end`](Self::wait_for_end) waited for, once: that of the run in which the
    /// wait began, even if the machine was launched again since. `None` means that the wait is not over, was claimed,
    /// or ended without an outcome, as after a deadline.
    pub fn claim_end(&mut self, id: WaitId) -> Option<Outcome> {
        self.claim_wait(id)?.and_then(Hit::into_end).ok()
    }

    /// Returns the result of a wait, once. `None` means that the wait is not over, or was claimed or disowned.
    ///
    /// # Errors
    ///
    /// [`WaitError`], when the wait found none of its things.
    pub fn claim_wait(&mut self, id: WaitId) -> Option<Result<Hit, WaitError>> {
        self.request(self.now, request::ClaimWait(id))
    }

    /// Disowns a wait: its result is dropped.
    pub fn disown_wait(&mut self, id: WaitId) {
        self.request(self.now, request::DisownWait(id))
    }
}

/// Returns the item of a search that begins at a mark.
fn text_item(console: usize, search: Search, from: &Mark, line: bool, is_plain: bool) -> Item {
    Item::Text { console, search, scanned: from.position(console), line, found: false, is_plain }
}

//! Decides what a wait is told that it found.

use alloc::boxed::Box;
use alloc::string::String;

use super::Mark;
use crate::error::WaitError;
use crate::event::{Event, SubscriptionId};
use crate::outcome::Outcome;

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
    /// The text, where one was found, or any output: all that the console printed from the mark up to there.
    ///
    /// ```
    /// # use qemu_machine_core::{Hit, Found, Mark, Missed};
    /// # fn example(hit: Hit) {
    /// // let hit = vm.wait_any(&start, [Wait::text("tty", "login: "), Wait::end()], minute)?;
    /// match hit.text() {
    ///     Some(printed) => println!("{printed}"),
    ///     None => println!("it ended before"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Found::Text(text) = &self.found { Some(text) } else { None }
    }

    /// The event, where one was found.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        if let Found::Event(event) = &self.found { Some(event) } else { None }
    }

    /// The outcome, where the end was all that was waited for.
    ///
    /// # Errors
    ///
    /// [`WaitError::FoundOther`] when something else was found.
    pub fn into_end(self) -> Result<Outcome, WaitError> {
        match self.found {
            Found::End(outcome) => Ok(*outcome),
            Found::Event(_) | Found::Queued(_) | Found::Text(_) => Err(WaitError::FoundOther),
        }
    }
}

/// The thing that a wait found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// This event.
    Event(Event),
    /// This subscription has an event in its queue. The mark is the one that the wait began at.
    Queued(SubscriptionId),
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

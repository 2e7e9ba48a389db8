//! Results of a wait: the thing that was found, where it was, and how much was missed.

use alloc::boxed::Box;

use super::Mark;
use crate::error::WaitError;
use crate::event::{Event, SubscriptionId};
use crate::log_line::LogLine;
use crate::outcome::{CompanionEnd, Outcome};
use crate::text::UntrustedText;

/// Result of a wait that found something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the thing in the list that was waited for, counted from 0.
    pub index: usize,
    /// The thing itself.
    pub found: Found,
    /// The position right after it. A wait from here finds the next thing and not this one again.
    pub mark: Mark,
    /// How much had been evicted already when the wait began.
    pub missed: Missed,
}

impl Hit {
    /// Returns the console output from the mark up to and with the text that was found. `None` means that something
    /// other than console output was found.
    ///
    /// ```
    /// # use qemu_machine_core::{Hit, Found, Mark, Missed};
    /// # fn example(hit: Hit) {
    /// // let hit = vm.wait_any(&start, [Wait::text("tty", "login: "), Wait::end()], minute)?;
    /// match hit.text() {
    ///     Some(printed) => println!("{}", printed.multiline()),
    ///     None => println!("the machine ended first"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn text(&self) -> Option<&UntrustedText> {
        if let Found::Text(text) | Found::Line { text, .. } = &self.found { Some(text) } else { None }
    }

    /// Returns the line that was found, without its end. `None` means that something other than a line was found.
    ///
    /// ```
    /// # use qemu_machine_core::Hit;
    /// # fn example(hit: Hit) {
    /// // let hit = vm.wait_any(&start, [Wait::line("tty", "Kernel panic"), Wait::end()], minute)?;
    /// if let Some(line) = hit.line() {
    ///     println!("{line}"); // `Kernel panic - not syncing: Attempted to kill init!`
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn line(&self) -> Option<&UntrustedText> {
        if let Found::Line { line, .. } = &self.found { Some(line) } else { None }
    }

    /// Returns the event that was found. `None` means that something else was found.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        if let Found::Event(event) = &self.found { Some(event) } else { None }
    }

    /// Returns the line of the log that was found. `None` means that something else was found.
    #[must_use]
    pub fn log_line(&self) -> Option<&LogLine> {
        if let Found::Log(line) = &self.found { Some(line) } else { None }
    }

    /// Returns the outcome, after a wait for the end alone.
    ///
    /// # Errors
    ///
    /// [`WaitError::FoundOther`] when something other than the end was found.
    pub fn into_end(self) -> Result<Outcome, WaitError> {
        match self.found {
            Found::End(outcome) => Ok(*outcome),
            Found::Event(_)
            | Found::Queued(_)
            | Found::Text(_)
            | Found::Line { .. }
            | Found::Log(_)
            | Found::Companion(_) => Err(WaitError::FoundOther),
        }
    }
}

/// Thing that a wait found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// An event.
    Event(Event),
    /// The queue of this subscription holds an event. [`Hit::mark`] is the mark at which the wait began.
    Queued(SubscriptionId),
    /// The text or output: everything that the console printed from the mark through the last byte of the match. Invalid
    /// UTF-8 is replaced. After [`Wait::plain`](crate::Wait::plain) without escape sequences.
    Text(UntrustedText),
    /// The line. The line end (LF or CR LF) is not part of `line`.
    Line {
        /// The whole line, also what was printed before the mark, as far as it is kept.
        line: UntrustedText,
        /// Everything that the console printed from the mark through the end of the line, as in [`Text`](Self::Text).
        text: UntrustedText,
    },
    /// The line of the log.
    Log(LogLine),
    /// The end of the companion. [`Hit::mark`] is the mark at which the wait began.
    Companion(Box<CompanionEnd>),
    /// The end of the machine, with its outcome.
    End(Box<Outcome>),
}

/// Number of events and bytes that were evicted before a wait could search them. Zero, unless the mark is older than
/// the oldest event or byte that is kept, or the line that was found is longer than the console
/// ([`Limits::console`](crate::Limits::console)). Evicted items may have contained the thing that the wait was for:
/// [`resync`](Self::resync) queries the state that the events may have announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Number of events. Zero when the wait was for no event.
    pub events: u64,
    /// Number of bytes, over all consoles that the wait was for.
    pub bytes: u64,
}

//! Lines of a console, one after the other, and the procedure that waits for the next.

use alloc::string::String;
use core::fmt;

use super::{Procedure, ProcedureError};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::plain::Plain;
use crate::procedure;
use crate::text::UntrustedText;
use crate::wait::{Found, Hit, Mark, Wait};

/// Reader of the lines of a console: each complete line once, in order, while the guest prints. It keeps a position and no
/// text: lines wait in the console until they are read, up to [`Limits::console`](crate::Limits::console) bytes. What was
/// evicted before it was read is [counted](ConsoleLine::missed).
///
/// [`next_line`](Self::next_line) is a procedure, which every runtime runs. A run that times out, is cancelled or is
/// dropped loses no line: run the next one.
///
/// ```
/// use qemu_machine_core::procedure::Lines;
///
/// let mut lines = Lines::of("tty").plain();
/// // while let Some(line) = vm.run(lines.next_line(), FOREVER)? {
/// //     println!("{line}");
/// // }
/// # let _ = lines.next_line();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    console: String,
    is_plain: bool,
    mark: Mark,
}

/// Line of a console, as [`Lines`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConsoleLine {
    /// The line, without its end.
    pub text: UntrustedText,
    /// Number of bytes that were evicted before they were read, since the line before. Unless it is 0, lines before this one
    /// are missing, and this one may lack its beginning.
    pub missed: u64,
}

/// Writes the text, as one printable line.
impl fmt::Display for ConsoleLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text, f)
    }
}

/// Returns a reader of the console of this name, as [`Lines::of`] does.
impl From<&str> for Lines {
    fn from(console: &str) -> Self {
        Self::of(console)
    }
}

impl Lines {
    /// Returns a reader of the console of this name, from the beginning of the run.
    #[must_use]
    pub fn of(console: impl Into<String>) -> Self {
        Self { console: console.into(), is_plain: false, mark: Mark::default() }
    }

    /// Begins at this mark. A line that was begun before it is whole, as far as it is kept.
    #[must_use]
    pub fn since(mut self, mark: &Mark) -> Self {
        self.mark = mark.clone();
        self
    }

    /// Removes escape sequences from the lines.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// Returns the procedure that waits for the next line. Its result is the line without its end, or `None` after the end of
    /// the machine. Before that, the last line is returned also without a line feed.
    pub fn next_line(&mut self) -> NextLine<'_> {
        NextLine { lines: self, state: State::New }
    }

    /// Returns the position after the lines that were read.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    fn wait_for_line(&self) -> procedure::Output<Return> {
        let line = Wait::any_line(&*self.console);
        procedure::Output::wait(&self.mark, [if self.is_plain { line.plain() } else { line }, Wait::end()])
    }

    fn wait_for_rest(&self) -> procedure::Output<Return> {
        procedure::Output::wait(&self.mark, [Wait::output(&*self.console), Wait::end()])
    }

    fn take(&mut self, mark: Mark, missed: u64, text: UntrustedText) -> procedure::Output<Return> {
        self.mark = mark;
        procedure::Output::Done(Ok(Some(ConsoleLine { text, missed })))
    }
}

/// Procedure of [`Lines::next_line`].
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct NextLine<'a> {
    lines: &'a mut Lines,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// The next complete line is waited for.
    Line,
    /// The machine has ended: only a line without a line feed may be left.
    Rest,
}

type Return = Result<Option<ConsoleLine>, ProcedureError>;

impl NextLine<'_> {
    fn found(&mut self, Hit { found, mark, missed, .. }: Hit) -> procedure::Output<Return> {
        match (found, self.state) {
            (Found::Line { line, .. }, _) => self.lines.take(mark, missed.bytes, line),
            (Found::Text(rest), State::Rest) => {
                let rest =
                    if self.lines.is_plain { Plain::text(rest.as_str().as_bytes()) } else { rest.as_str().into() };
                // As with other lines, carriage returns are part of the end.
                let returns = rest.iter().rev().take_while(|byte| **byte == b'\r').count();
                let rest = rest.get(..rest.len() - returns).unwrap_or_default();
                self.lines.take(mark, missed.bytes, UntrustedText::from_utf8_lossy(rest))
            }
            (Found::End(_), State::Rest) => procedure::Output::Done(Ok(None)),
            (Found::End(_), _) => {
                self.state = State::Rest;
                self.lines.wait_for_rest()
            }
            // It waits for nothing else.
            _ => procedure::Output::Done(Err(WaitError::FoundOther.into())),
        }
    }
}

impl Procedure for NextLine<'_> {
    type Return = Return;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.state != State::New => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(_) => {
                self.state = State::Line;
                self.lines.wait_for_line()
            }
            procedure::Input::Found(Ok(hit)) => self.found(hit),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            // It executes no command, and waits for no events.
            procedure::Input::Reply(Ok(_)) | procedure::Input::Later | procedure::Input::Missed(_) => {
                procedure::Output::Done(Err(WaitError::FoundOther.into()))
            }
        }
    }
}

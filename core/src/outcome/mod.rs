//! Outcome of a run: everything that is known when it is over.

mod cause;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::command_line::CommandLine;
use crate::event::Event;
use crate::fault::HostFault;
use crate::input::ExitStatus;
use crate::lifecycle::Rung;
use crate::text::printable;

pub use cause::Cause;
pub(crate) use cause::Evidence;

/// How a run ended: everything that is known when it is over.
///
/// It displays as one line where there is nothing to be told but that it went as it was wanted: by the first way that
/// the caller took, by the guest's power button or by being disconnected, with no other exit status than 0, every command
/// answered and everything removed. Any other end displays as the whole story, and `{:#}` tells that always.
///
/// There is no error for an end: not for one that came by itself, nor for a shutdown that needed SIGKILL, as there is in
/// QEMU's Python class. [`cause`](Self::cause) and [`rungs`](Self::rungs) tell.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Who or what ended it.
    pub cause: Cause,
    /// How the process ended; none when there was no process, or when it survived SIGKILL.
    pub exit: Option<ExitStatus>,
    /// The rungs of the ladder that were climbed, in order. The one that worked stands in [`cause`](Self::cause); where
    /// it is not the first, the gentle way had failed.
    pub rungs: Vec<Rung>,
    /// The last `SHUTDOWN`, `RESET` and `GUEST_PANICKED`, in the order in which they came.
    pub last_events: Vec<Event>,
    /// How many commands ended without their reply: the deadline passed, or the monitor closed, before it came.
    pub unanswered: usize,
    /// The end of what the process printed, with what is not UTF-8 replaced.
    pub log: String,
    /// The end of what each console printed, by its name.
    pub consoles: Vec<(String, String)>,
    /// What was executed.
    pub command_line: CommandLine,
    /// What the host failed to do on the way, above all: what could not be removed.
    pub faults: Vec<HostFault>,
    /// The record of the machine up to this end, as lines of JSON. `None` means that it was not recorded.
    pub record: Option<Arc<str>>,
}

impl Outcome {
    /// The outcome of a run that did not come as far as a process.
    pub(crate) fn not_started(command_line: CommandLine) -> Self {
        Self {
            cause: Cause::NotStarted,
            exit: None,
            rungs: Vec::new(),
            last_events: Vec::new(),
            unanswered: 0,
            log: String::new(),
            consoles: Vec::new(),
            command_line,
            faults: Vec::new(),
            record: None,
        }
    }

    /// Whether nobody needs to look into it. What a reset or a value of the guest's means is for the caller to say.
    fn went_as_wanted(&self) -> bool {
        let by_a_way_that_is_fine = match self.cause {
            Cause::Asked(_) => self.rungs.len() <= 1,
            Cause::PowerOff | Cause::Disconnected => true,
            _ => false,
        };
        let with_a_status_of_its_own = matches!(self.exit, Some(ExitStatus::Code(code)) if code != 0);
        by_a_way_that_is_fine && !with_a_status_of_its_own && self.unanswered == 0 && self.faults.is_empty()
    }

    /// The lines below the first, each begun on a line of its own: exit status, last words, command line.
    pub(crate) fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(exit) = &self.exit {
            write!(f, "\n  process: {exit}")?;
        }
        if let [first, _, ..] = &*self.rungs {
            write!(f, "\n  tried: {first}")?;
            self.rungs[1..].iter().try_for_each(|rung| write!(f, ", {rung}"))?;
        }
        for event in &self.last_events {
            write!(f, "\n  last event: {event}")?;
        }
        if self.unanswered > 0 {
            write!(f, "\n  commands without a reply: {}", self.unanswered)?;
        }
        for fault in &self.faults {
            write!(f, "\n  host: {fault}")?;
        }
        write_block(f, "printed", &self.log)?;
        for (name, text) in &self.consoles {
            write_block(f, &alloc::format!("console {name}"), text)?;
        }
        if self.command_line.arguments().is_empty() {
            return Ok(());
        }
        write!(f, "\n  command: {}", self.command_line)
    }
}

/// The fields, with the length of the record instead of its text, which may be megabytes.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, exit, rungs, last_events, unanswered, log, consoles, command_line, faults, record } = self;
        f.debug_struct("Outcome")
            .field("cause", cause)
            .field("exit", exit)
            .field("rungs", rungs)
            .field("last_events", last_events)
            .field("unanswered", unanswered)
            .field("log", log)
            .field("consoles", consoles)
            .field("command_line", command_line)
            .field("faults", faults)
            .field("record", &record.as_ref().map(|text| format_args!("{} bytes", text.len()).to_string()))
            .finish()
    }
}

/// The last lines of a text, indented, so that nothing in it can be taken for ours.
fn write_block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES);
    match (lines.len(), skipped) {
        (0, _) => return Ok(()),
        (_, 0) => write!(f, "\n  {title}:")?,
        _ => write!(f, "\n  {title} (the last {LINES} lines):")?,
    }
    lines[skipped..].iter().try_for_each(|line| write!(f, "\n    {}", printable(line)))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if self.went_as_wanted() && !f.alternate() { Ok(()) } else { self.write_details(f) }
    }
}

//! Outcome of a run: its cause, exit status, last words and faults.

mod cause;
mod companion_end;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::command_line::CommandLine;
use crate::event::Event;
use crate::fault::HostFault;
use crate::input::ExitStatus;
use crate::lifecycle::Rung;
use crate::text::{Printable, UntrustedText};

pub use cause::Cause;
pub(crate) use cause::Evidence;
pub use companion_end::CompanionEnd;

/// Outcome of a run: everything that is known about it when it is over.
///
/// No end is an error by itself: not one that the guest or QEMU caused, nor a shutdown that needed SIGKILL. Whether an
/// end is a success depends on the caller, who matches on [`cause`](Self::cause), [`exit`](Self::exit) and
/// [`rungs`](Self::rungs). For example, a guest that ignored the power button ended on a later rung: `rungs` is
/// `[PowerDown, Quit]`, and `cause` is `Asked(Quit)`.
///
/// `{}` displays one line for an end without surprises: the first rung ended the machine, the guest powered off, or
/// the caller disconnected; no rung left out, no companion that ended early, no exit status other than 0, every command
/// answered, and no fault of the host. Any other end is displayed with all details, on several lines. `{:#}` always
/// displays the details.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The cause of the end.
    pub cause: Cause,
    /// How the process ended. `None` means that this run had no process of its own, or that the process survived
    /// SIGKILL.
    pub exit: Option<ExitStatus>,
    /// The rungs of the shutdown ladder that were climbed, in order. [`cause`](Self::cause) names the rung that worked;
    /// if that is not the first, the gentler ways failed. Empty when nothing was shut down or killed.
    pub rungs: Vec<Rung>,
    /// The rungs of the policy that were left out because they could have no effect: the power button, when the guest was
    /// stopped ([`Shutdown::power_down`](crate::Shutdown::power_down)).
    pub skipped: Vec<Rung>,
    /// The last event of each name among `SHUTDOWN`, `RESET` and `GUEST_PANICKED`, in order of arrival.
    pub last_events: Vec<Event>,
    /// Number of commands that ended without a reply, because their deadline passed or the monitor closed first.
    pub unanswered: usize,
    /// The end of the log (stdout and stderr of the process), up to [`Limits::log`](crate::Limits::log) bytes. Invalid
    /// UTF-8 is replaced.
    pub log: UntrustedText,
    /// The name of each console with the end of its output, up to [`Limits::last_words`](crate::Limits::last_words)
    /// bytes each.
    pub consoles: Vec<(String, UntrustedText)>,
    /// The end of each [companion](crate::Config::companion) that was started, or could not be started, in the order of the
    /// configuration. Those that come after it in a launch that failed are not listed.
    pub companions: Vec<CompanionEnd>,
    /// The command line that was executed. Empty for an attached machine.
    pub command_line: CommandLine,
    /// The id of the process that was started, or found when the machine was resumed. It has ended, or runs on without this
    /// program, so the id may be that of another process by now. `None` means that there was none, or that the machine was
    /// attached to.
    pub pid: Option<u32>,
    /// The path of the log, as bytes ([`Machine::prepared`](crate::Machine::prepared)). The file is still there if it is in
    /// [`Config::log_directory`](crate::Config::log_directory). `None` means that the log has no path.
    pub log_path: Option<Vec<u8>>,
    /// The operations of the host that failed during the run, such as the removal of a directory.
    pub faults: Vec<HostFault>,
    /// The record of the machine up to this end, as lines of JSON. `None` means that it was not recorded.
    pub record: Option<Arc<str>>,
}

impl Outcome {
    /// Returns the outcome of a run in which no process was started.
    pub(crate) fn not_started(command_line: CommandLine) -> Self {
        Self {
            cause: Cause::NotStarted,
            exit: None,
            rungs: Vec::new(),
            skipped: Vec::new(),
            last_events: Vec::new(),
            unanswered: 0,
            log: UntrustedText::default(),
            consoles: Vec::new(),
            companions: Vec::new(),
            command_line,
            pid: None,
            log_path: None,
            faults: Vec::new(),
            record: None,
        }
    }

    /// Returns whether the end needs no explanation. A reset or a value of `isa-debug-exit` may mean anything, so only
    /// the caller can judge it.
    fn went_as_wanted(&self) -> bool {
        let by_a_way_that_is_fine = match self.cause {
            Cause::Asked(_) => self.rungs.len() <= 1,
            Cause::PowerOff | Cause::Disconnected => true,
            _ => false,
        };
        let with_a_status_of_its_own = matches!(self.exit, Some(ExitStatus::Code(code)) if code != 0);
        let is_complete = self.skipped.is_empty() && self.unanswered == 0 && self.faults.is_empty();
        let is_complete = is_complete && !self.companions.iter().any(|companion| companion.is_early);
        by_a_way_that_is_fine && !with_a_status_of_its_own && is_complete
    }

    /// Writes the lines below the first, each after a line feed: exit status, last words, command line.
    pub(crate) fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(exit) = &self.exit {
            write!(f, "\n  process: {exit}")?;
        }
        if let [first, _, ..] = &*self.rungs {
            write!(f, "\n  tried: {first}")?;
            self.rungs[1..].iter().try_for_each(|rung| write!(f, ", {rung}"))?;
        }
        for rung in &self.skipped {
            write!(f, "\n  skipped: {rung} (the guest was stopped)")?;
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
            write_block(f, &alloc::format!("console {}", Printable::line(name)), text)?;
        }
        for companion in &self.companions {
            write_companion(f, companion)?;
        }
        if self.command_line.arguments().is_empty() {
            return Ok(());
        }
        write!(f, "\n  command: {}", self.command_line)
    }
}

/// Shows the length of the record instead of its text, which may be megabytes.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, exit, rungs, skipped, last_events, unanswered, log, consoles, .. } = self;
        let Self { companions, command_line, pid, log_path, faults, record, .. } = self;
        f.debug_struct("Outcome")
            .field("cause", cause)
            .field("exit", exit)
            .field("rungs", rungs)
            .field("skipped", skipped)
            .field("last_events", last_events)
            .field("unanswered", unanswered)
            .field("log", log)
            .field("consoles", consoles)
            .field("companions", companions)
            .field("command_line", command_line)
            .field("pid", pid)
            .field("log_path", &log_path.as_deref().map(UntrustedText::from_utf8_lossy))
            .field("faults", faults)
            .field("record", &record.as_ref().map(|text| format_args!("{} bytes", text.len()).to_string()))
            .finish()
    }
}

fn write_companion(f: &mut fmt::Formatter<'_>, companion: &CompanionEnd) -> fmt::Result {
    let CompanionEnd { name, exit, is_early, log, command_line } = companion;
    let name = Printable::line(name);
    write!(f, "\n  companion {name}: ")?;
    match exit {
        Some(exit) => write!(f, "{exit}")?,
        None => f.write_str("no exit status")?,
    }
    f.write_str(if *is_early { ", before QEMU" } else { "" })?;
    write_block(f, &alloc::format!("companion {name} printed"), log)?;
    write!(f, "\n  companion {name} command: {command_line}")
}

/// Writes the last lines of a text, indented, so that no line of the guest can be taken for one of the outcome.
pub(crate) fn write_block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES);
    match (lines.len(), skipped) {
        (0, _) => return Ok(()),
        (_, 0) => write!(f, "\n  {title}:")?,
        _ => write!(f, "\n  {title} (the last {LINES} lines):")?,
    }
    lines[skipped..].iter().try_for_each(|line| write!(f, "\n    {}", Printable::log_line(line)))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if self.went_as_wanted() && !f.alternate() { Ok(()) } else { self.write_details(f) }
    }
}

//! Decides how a life ended, and who ended it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;

use crate::command_line::CommandLine;
use crate::event::Event;
use crate::fault::HostFault;
use crate::input::ExitStatus;
use crate::lifecycle::Rung;
use crate::text::printable;

/// How a life ended: everything that is known when it is over. It displays as a few lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Who or what ended it.
    pub cause: Cause,
    /// How the process ended; none when there was no process, or when it survived SIGKILL.
    pub exit: Option<ExitStatus>,
    /// The last event that tells of an end: `SHUTDOWN`, `RESET` or `GUEST_PANICKED`.
    pub last_event: Option<Event>,
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
}

/// Who or what ended a machine. Nothing here means success by itself; that is for the caller to say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// There was no process.
    NotStarted,
    /// We, because the launch had failed: the error of the launch says why.
    LaunchFailed,
    /// The caller, and this is what worked. [`Rung::Quit`] also stands for a `quit` among the caller's own commands.
    Asked(Rung),
    /// The guest powered off.
    PowerOff,
    /// The guest reset, and QEMU was told to end then (`-no-reboot`).
    Reset,
    /// The guest panicked and said so (pvpanic and the like).
    Panic,
    /// The guest wrote this value to an `isa-debug-exit` device.
    DebugExit(u32),
    /// A signal that the caller did not send. None: QEMU caught it and shut down in order; which one it was, and who
    /// sent it, stands in the log.
    Signal(Option<i32>),
    /// QEMU exited with this code, by itself.
    Exit(i32),
    /// QEMU shut down for another reason, in its own word.
    Other(String),
    /// Nobody was told, neither by QEMU nor by the operating system.
    Unknown,
    /// The process survived SIGKILL: the kernel does not let it go, or did not let us kill it.
    Unkillable,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("was not started"),
            Self::LaunchFailed => f.write_str("killed because its launch had failed"),
            Self::Asked(rung) => write!(f, "ended by the caller ({rung})"),
            Self::PowerOff => f.write_str("powered off by the guest"),
            Self::Reset => f.write_str("reset by the guest"),
            Self::Panic => f.write_str("panic of the guest"),
            Self::DebugExit(value) => write!(f, "exited by the guest (isa-debug-exit, value {value:#x})"),
            Self::Signal(Some(number)) => write!(f, "ended by signal {number}, which the caller did not send"),
            Self::Signal(None) => f.write_str("shut down on a signal that the caller did not send"),
            Self::Exit(code) => write!(f, "QEMU exited by itself (status {code})"),
            Self::Other(reason) => write!(f, "QEMU shut down ({reason})"),
            Self::Unknown => f.write_str("ended for a reason that is not known"),
            Self::Unkillable => f.write_str("could not be killed"),
        }
    }
}

/// What happened in a life as far as its outcome depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The rungs that were climbed: what works may be an earlier one than the last.
    pub(crate) rungs: Vec<Rung>,
    /// Whether the launch failed, and not because the caller gave it up.
    pub(crate) gave_up: bool,
    /// Whether a `quit` was accepted.
    pub(crate) quit: bool,
    /// Whether the guest has a device that ends QEMU with a value of its choice.
    pub(crate) debug_exit: bool,
    /// The last `SHUTDOWN`, `RESET` or `GUEST_PANICKED`. Kept apart from the history, out of which it may fall.
    pub(crate) last_event: Option<Event>,
    /// The last `SHUTDOWN`.
    pub(crate) shutdown: Option<Event>,
    pub(crate) unanswered: usize,
    pub(crate) log: String,
    pub(crate) faults: Vec<HostFault>,
}

impl Record {
    /// An event came.
    pub(crate) fn note(&mut self, event: &Event) {
        if matches!(event.name(), "SHUTDOWN" | "RESET" | "GUEST_PANICKED") {
            self.last_event = Some(event.clone());
        }
        if event.name() == "SHUTDOWN" {
            self.shutdown = Some(event.clone());
        }
    }

    fn climbed(&self, rung: Rung) -> bool {
        self.rungs.contains(&rung)
    }
}

impl Cause {
    const SIGTERM: i32 = 15;
    const SIGKILL: i32 = 9;

    /// Reads the evidence. QEMU gives the reason of an orderly end in its last SHUTDOWN event; a signal and a debug
    /// exit come without one.
    pub(crate) fn find(exit: Option<ExitStatus>, record: &Record, started: bool) -> Self {
        match exit {
            None if started => Self::Unkillable,
            None => Self::NotStarted,
            Some(ExitStatus::Signal { number: Self::SIGKILL, .. }) if record.climbed(Rung::Kill) => {
                if record.gave_up {
                    Self::LaunchFailed
                } else {
                    Self::Asked(Rung::Kill)
                }
            }
            Some(ExitStatus::Signal { number: Self::SIGTERM, .. }) if record.climbed(Rung::Terminate) => {
                Self::Asked(Rung::Terminate)
            }
            Some(ExitStatus::Signal { number, .. }) => Self::Signal(Some(number)),
            Some(ExitStatus::Code(code)) => Self::of_exit(Some(code), record),
            Some(ExitStatus::Unknown) => Self::of_exit(None, record),
        }
    }

    /// Reads the evidence of an exit, with its code if that is known.
    fn of_exit(code: Option<i32>, record: &Record) -> Self {
        // isa-debug-exit ends QEMU on the spot with (value << 1) | 1; 1 alone is QEMU's own failure.
        if let Some(code) = code.filter(|code| record.debug_exit && code & 1 == 1 && *code > 1) {
            return Self::DebugExit(code.unsigned_abs() >> 1);
        }
        match record.shutdown.as_ref().and_then(reason).as_deref() {
            Some("host-qmp-quit") => Self::Asked(Rung::Quit),
            Some("guest-shutdown") if record.climbed(Rung::PowerDown) => Self::Asked(Rung::PowerDown),
            Some("guest-shutdown") => Self::PowerOff,
            Some("guest-reset") => Self::Reset,
            Some("guest-panic") => Self::Panic,
            Some("host-signal") if record.climbed(Rung::Terminate) => Self::Asked(Rung::Terminate),
            Some("host-signal") => Self::Signal(None),
            Some(other) => Self::Other(other.to_string()),
            // Programs without a machine (qemu-storage-daemon) say nothing of their shutdown.
            None if record.quit => Self::Asked(Rung::Quit),
            None if code == Some(0) && record.climbed(Rung::Terminate) => Self::Asked(Rung::Terminate),
            None if code.is_none() && record.climbed(Rung::Kill) => Self::Asked(Rung::Kill),
            None => code.map_or(Self::Unknown, Self::Exit),
        }
    }
}

fn reason(shutdown: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        reason: String,
    }
    shutdown.read_data().ok().map(|Data { reason }| reason)
}

impl Outcome {
    /// The outcome of a life that did not come as far as a process.
    pub(crate) fn not_started(command_line: CommandLine) -> Self {
        Self {
            cause: Cause::NotStarted,
            exit: None,
            last_event: None,
            unanswered: 0,
            log: String::new(),
            consoles: Vec::new(),
            command_line,
            faults: Vec::new(),
        }
    }

    /// The lines below the first: exit status, last words, command line.
    pub(crate) fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(exit) = &self.exit {
            writeln!(f, "  process: {exit}")?;
        }
        if let Some(event) = &self.last_event {
            writeln!(f, "  last event: {event}")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "  commands without a reply: {}", self.unanswered)?;
        }
        for fault in &self.faults {
            writeln!(f, "  host: {fault}")?;
        }
        write_block(f, "printed", &self.log)?;
        for (name, text) in &self.consoles {
            write_block(f, &alloc::format!("console {name}"), text)?;
        }
        write!(f, "  command: {}", self.command_line)
    }
}

/// The last lines of a text, indented, so that nothing in it can be taken for ours.
fn write_block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {title}:")?;
    for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
        writeln!(f, "    {}", printable(line))?;
    }
    Ok(())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.cause)?;
        self.write_details(f)
    }
}

//! Decides who or what ended a run, from the evidence.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;

use crate::config::Config;
use crate::event::Event;
use crate::fault::HostFault;
use crate::input::ExitStatus;
use crate::lifecycle::{LaunchFailure, Lifecycle, Process, Rung};
use crate::signal::SignalName;
use crate::text::printable;

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
    /// A signal that the caller did not send.
    Signal {
        /// Its number, where it is known.
        number: Option<i32>,
        /// Who sent it, in QEMU's words. QEMU knows it of the signals that it catches (SIGTERM, SIGINT, SIGHUP); the
        /// kernel tells nobody who sent the others.
        sender: Option<String>,
    },
    /// QEMU exited with this code, by itself.
    Exit(i32),
    /// QEMU shut down for another reason, in its own word.
    Other(String),
    /// Nobody was told, neither by QEMU nor by the operating system.
    Unknown,
    /// Nothing: it was not ours, the caller let it go, and it runs on.
    Disconnected,
    /// It was not ours, and it closed its monitor without telling why.
    HungUp,
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
            Self::Signal { number, sender } => {
                f.write_str("ended by ")?;
                match number {
                    Some(number) => write!(f, "signal {number}")?,
                    None => f.write_str("a signal")?,
                }
                if let Some(sender) = sender {
                    write!(f, " from {sender}")?;
                }
                f.write_str(", which the caller did not send")
            }
            Self::Exit(code) => write!(f, "QEMU exited by itself (status {code})"),
            Self::Other(reason) => write!(f, "QEMU shut down ({reason})"),
            Self::Unknown => f.write_str("ended for a reason that is not known"),
            Self::Disconnected => f.write_str("disconnected by the caller, and left running"),
            Self::HungUp => f.write_str("closed its monitor"),
            Self::Unkillable => f.write_str("could not be killed"),
        }
    }
}

/// What happened in a run as far as its outcome depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The rungs that were climbed: what works may be an earlier one than the last.
    pub(crate) rungs: Vec<Rung>,
    /// Whether the guest has a device that ends QEMU with a value of its choice.
    pub(crate) debug_exit: bool,
    /// The last `SHUTDOWN`, `RESET` and `GUEST_PANICKED`, in the order in which they came. Kept apart from the history,
    /// out of which they may fall.
    pub(crate) last_events: Vec<Event>,
    pub(crate) unanswered: usize,
    pub(crate) log: String,
    pub(crate) faults: Vec<HostFault>,
}

impl Evidence {
    pub(crate) fn new(config: &Config) -> Self {
        // As `isa-debug-exit,iobase=…` or in JSON.
        let is_exit_device = |argument: &Vec<u8>| memchr::memmem::find(argument, b"isa-debug-exit").is_some();
        Self { debug_exit: config.arguments().iter().any(is_exit_device), ..Self::default() }
    }

    /// An event came.
    pub(crate) fn note(&mut self, event: &Event) {
        if matches!(event.name(), "SHUTDOWN" | "RESET" | "GUEST_PANICKED") {
            self.last_events.retain(|other| other.name() != event.name());
            self.last_events.push(event.clone());
        }
    }

    /// The reason of the last shutdown, in QEMU's word.
    fn shutdown_reason(&self) -> Option<String> {
        self.last_events.iter().find(|event| event.name() == "SHUTDOWN").and_then(reason)
    }

    fn climbed(&self, rung: Rung) -> bool {
        self.rungs.contains(&rung)
    }
}

impl Cause {
    /// Reads the evidence. QEMU gives the reason of an orderly end in its last SHUTDOWN event; a signal comes without one.
    pub(crate) fn find(run: &Lifecycle, evidence: &Evidence) -> Self {
        let from_outside = |number| Self::Signal { number, sender: None };
        let has_failed = run.failure().is_some_and(|failure| !matches!(failure, LaunchFailure::Cancelled(_)));
        match run.dead() {
            None if run.process() == Process::Foreign => Self::of_foreign(run, evidence),
            None if run.pid().is_some() => Self::Unkillable,
            None => Self::NotStarted,
            Some(ExitStatus::Signal { name: SignalName::Kill, .. }) if evidence.climbed(Rung::Kill) => {
                if has_failed {
                    Self::LaunchFailed
                } else {
                    Self::Asked(Rung::Kill)
                }
            }
            Some(ExitStatus::Signal { name: SignalName::Term, .. }) if evidence.climbed(Rung::Terminate) => {
                Self::Asked(Rung::Terminate)
            }
            Some(ExitStatus::Signal { number, .. }) => from_outside(Some(number)),
            Some(ExitStatus::Code(code)) => Self::of_exit(Some(code), run, evidence),
            Some(ExitStatus::Unknown) => Self::of_exit(None, run, evidence),
        }
    }

    /// Reads the evidence that a machine of another program left: there is no exit status.
    fn of_foreign(run: &Lifecycle, evidence: &Evidence) -> Self {
        match Self::of_exit(None, run, evidence) {
            _ if run.was_disconnected() => Self::Disconnected,
            Self::Unknown => Self::HungUp,
            cause => cause,
        }
    }

    /// Reads the evidence of an exit, with its code if that is known.
    fn of_exit(code: Option<i32>, run: &Lifecycle, evidence: &Evidence) -> Self {
        let reason = evidence.shutdown_reason();
        let reason = reason.as_deref();
        if let Some(value) = code.filter(|_| evidence.debug_exit).and_then(|code| Self::debug_exit(code, reason)) {
            return Self::DebugExit(value);
        }
        match reason {
            Some("host-qmp-quit") => Self::Asked(Rung::Quit),
            Some("guest-shutdown") if evidence.climbed(Rung::PowerDown) => Self::Asked(Rung::PowerDown),
            Some("guest-shutdown") => Self::PowerOff,
            Some("guest-reset") => Self::Reset,
            Some("guest-panic") => Self::Panic,
            Some("host-signal") if evidence.climbed(Rung::Terminate) => Self::Asked(Rung::Terminate),
            Some("host-signal") => Self::caught(&evidence.log),
            Some(other) => Self::Other(other.to_string()),
            // Programs without a machine (qemu-storage-daemon) say nothing of their shutdown.
            None if run.was_quit_accepted() => Self::Asked(Rung::Quit),
            None if code == Some(0) && evidence.climbed(Rung::Terminate) => Self::Asked(Rung::Terminate),
            None if code.is_none() && evidence.climbed(Rung::Kill) => Self::Asked(Rung::Kill),
            None => code.map_or(Self::Unknown, Self::Exit),
        }
    }
}

impl Cause {
    /// The value of `isa-debug-exit`, of which QEMU makes (value << 1) | 1.
    ///
    /// It ends there on the spot, and 1 is what its own failures have as well. Newer ones make of it a shutdown
    /// by the guest with that code, which tells the two apart. If such a one shall pause at a shutdown, it keeps the code
    /// until somebody ends it.
    fn debug_exit(code: i32, reason: Option<&str>) -> Option<u32> {
        let is_of_guest = match reason {
            Some("guest-shutdown") => true,
            Some("host-qmp-quit" | "host-signal") => false,
            _ => code > 1,
        };
        (is_of_guest && code & 1 == 1).then(|| code.unsigned_abs() >> 1)
    }

    /// The signal that QEMU caught. Only what it printed tells which one, and who sent it: `terminating on signal 15
    /// from pid 4711 (bash)` (`qemu_system_killed` in its `system/runstate.c`).
    fn caught(log: &str) -> Self {
        let told = log.lines().rev().find_map(|line| {
            let (_, told) = line.split_once("terminating on signal ")?;
            let (number, sender) = told.split_once(" from ").unwrap_or((told, ""));
            // Without a number it is not QEMU's line, but another that looks like it.
            Some((number.trim().parse().ok()?, printable(sender)))
        });
        let (number, sender) = told.unzip();
        Self::Signal { number, sender: sender.filter(|sender| !sender.is_empty()) }
    }
}

fn reason(shutdown: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        reason: String,
    }
    shutdown.read_data().ok().map(|Data { reason }| reason)
}

//! Cause of the end of a run, found from exit status, events, rungs and log.

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

/// Who or what ended a machine. No cause is a success or a failure by itself: that depends on what the caller expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No process was started.
    NotStarted,
    /// The machine killed the process because the launch had failed. The error of the launch has the reason.
    LaunchFailed,
    /// The caller ended the machine, and this rung worked. [`Rung::PowerDown`] means that the guest obeyed the power
    /// button. [`Rung::Quit`] also covers a `quit` that the caller executed itself.
    Asked(Rung),
    /// The guest powered off by itself (QEMU, `qapi/run-state.json`, `ShutdownCause`: `guest-shutdown`).
    PowerOff,
    /// The guest reset, and QEMU was configured to exit at a reset (`-no-reboot`).
    Reset,
    /// The guest panicked and reported it, by pvpanic for example, and QEMU exited.
    Panic,
    /// The guest wrote this value to an `isa-debug-exit` device.
    DebugExit(u32),
    /// A signal that the caller did not send.
    Signal {
        /// The number of the signal. `None` means that QEMU caught a signal, but its number is not in the log.
        number: Option<i32>,
        /// The sender in QEMU's words, for example `pid 4711 (bash)`. `None` means unknown: QEMU logs the sender only
        /// of signals that it catches (SIGTERM, SIGINT, SIGHUP), and `wait(2)` does not report a sender.
        sender: Option<String>,
    },
    /// QEMU exited by itself with this code.
    Exit(i32),
    /// QEMU shut down for another reason: a `ShutdownCause` such as `host-ui` (QEMU, `qapi/run-state.json`,
    /// `ShutdownCause`).
    Other(String),
    /// The cause is unknown: neither QEMU nor the operating system reported one.
    Unknown,
    /// The caller disconnected from the machine or detached it, and it runs on.
    Disconnected,
    /// A machine of another program closed its monitor without a reason.
    HungUp,
    /// The process survived SIGKILL: the kernel holds it, or did not permit the signal.
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

/// Evidence of a run: the facts from which its outcome is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The rungs that were climbed. The one that worked may be earlier than the last.
    pub(crate) rungs: Vec<Rung>,
    /// Whether the guest has an `isa-debug-exit` device, which ends QEMU with an exit status of the guest's choice.
    pub(crate) debug_exit: bool,
    /// The last event of each name among `SHUTDOWN`, `RESET` and `GUEST_PANICKED`, in order of arrival. Kept apart from
    /// the history, which may evict them.
    pub(crate) last_events: Vec<Event>,
    pub(crate) unanswered: usize,
    pub(crate) log: String,
    pub(crate) faults: Vec<HostFault>,
}

impl Evidence {
    pub(crate) fn new(config: &Config) -> Self {
        // The device may be named as `isa-debug-exit,iobase=…` or in JSON.
        let is_exit_device = |argument: &Vec<u8>| memchr::memmem::find(argument, b"isa-debug-exit").is_some();
        Self { debug_exit: config.arguments().iter().any(is_exit_device), ..Self::default() }
    }

    /// Keeps an event that may explain the end.
    pub(crate) fn note(&mut self, event: &Event) {
        if matches!(event.name(), "SHUTDOWN" | "RESET" | "GUEST_PANICKED") {
            self.last_events.retain(|other| other.name() != event.name());
            self.last_events.push(event.clone());
        }
    }

    /// Returns the reason of the last `SHUTDOWN` event (QEMU, `qapi/run-state.json`, `ShutdownCause`).
    fn shutdown_reason(&self) -> Option<String> {
        self.last_events.iter().find(|event| event.name() == "SHUTDOWN").and_then(reason)
    }

    fn climbed(&self, rung: Rung) -> bool {
        self.rungs.contains(&rung)
    }
}

impl Cause {
    /// Finds the cause in the evidence. QEMU reports the reason of an orderly end in a `SHUTDOWN` event. A process that
    /// a signal ended reports none.
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

    /// Finds the cause for a machine of another program, which has no exit status here.
    fn of_foreign(run: &Lifecycle, evidence: &Evidence) -> Self {
        match Self::of_exit(None, run, evidence) {
            _ if run.was_disconnected() => Self::Disconnected,
            Self::Unknown => Self::HungUp,
            cause => cause,
        }
    }

    /// Finds the cause of an exit. `None` means that the exit code is unknown.
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
            // qemu-storage-daemon has no machine, and sends no SHUTDOWN event (measured with QEMU 7.2.22).
            None if run.was_quit_accepted() => Self::Asked(Rung::Quit),
            None if code == Some(0) && evidence.climbed(Rung::Terminate) => Self::Asked(Rung::Terminate),
            None if code.is_none() && evidence.climbed(Rung::Kill) => Self::Asked(Rung::Kill),
            None => code.map_or(Self::Unknown, Self::Exit),
        }
    }
}

impl Cause {
    /// Returns the value that the guest wrote to `isa-debug-exit`. QEMU exits with `(value << 1) | 1` (QEMU,
    /// `hw/misc/debugexit.c`, `debug_exit_write`).
    ///
    /// QEMU 7.2 exits at once, without a `SHUTDOWN` event (measured with QEMU 7.2.22). Its own failures exit with 1
    /// too, so value 0 cannot be distinguished from them. Newer versions request a shutdown by the guest with that
    /// code, which removes the doubt. Such a QEMU may be configured to pause at a shutdown: then it exits with the code
    /// of the guest later, when a `quit` or a signal ends it, and the value is not the cause.
    fn debug_exit(code: i32, reason: Option<&str>) -> Option<u32> {
        let is_of_guest = match reason {
            Some("guest-shutdown") => true,
            Some("host-qmp-quit" | "host-signal") => false,
            _ => code > 1,
        };
        (is_of_guest && code & 1 == 1).then(|| code.unsigned_abs() >> 1)
    }

    /// Returns the signal that QEMU caught. The event does not name the signal or its sender, the log does:
    /// `terminating on signal 15 from pid 4711 (bash)` (QEMU, `system/runstate.c`, `qemu_kill_report`).
    fn caught(log: &str) -> Self {
        let told = log.lines().rev().find_map(|line| {
            let (_, told) = line.split_once("terminating on signal ")?;
            let (number, sender) = told.split_once(" from ").unwrap_or((told, ""));
            // A line without a number is not QEMU's, but only similar.
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

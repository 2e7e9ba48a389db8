//! Cause of the end of a run, found from exit status, events, rungs and log.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;

use crate::event::Event;
use crate::fault::HostFault;
use crate::input::ExitStatus;
use crate::lifecycle::{LaunchFailure, Lifecycle, Link, Process, Rung};
use crate::signal::SignalName;
use crate::text::UntrustedText;

/// Cause of the end of a machine. No cause is a success or a failure by itself: that depends on what the caller expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No process was started.
    NotStarted,
    /// The machine killed the process because the launch had failed. The error of the launch has the reason.
    LaunchFailed,
    /// The caller ended the machine, and this rung worked. [`Rung::PowerDown`] means that the guest powered off after the
    /// caller had pressed the power button. Both also cover a `quit` or `system_powerdown` that a caller executed itself,
    /// on any handle, through QMP or the human monitor.
    Asked(Rung),
    /// Another client of QEMU, on another monitor, executed `quit`.
    QuitByOther,
    /// A `quit` ended QEMU: that of the caller, which has no reply, or that of another client.
    QuitByUnknown,
    /// The guest powered off by itself (QEMU, `qapi/run-state.json`, `ShutdownCause`: `guest-shutdown`).
    PowerOff,
    /// The guest powered off after the power button was pressed (QEMU, `qapi/run-state.json`, `POWERDOWN`), and not by
    /// the caller.
    PowerButton,
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
        sender: Option<UntrustedText>,
    },
    /// QEMU exited with this code, and reported no reason. Without a monitor it reports none: a client of an
    /// [extra monitor](crate::Config::extra_monitor) may have ended it.
    Exit(i32),
    /// QEMU shut down for another reason: a `ShutdownCause` such as `host-ui` (QEMU, `qapi/run-state.json`,
    /// `ShutdownCause`).
    Other(UntrustedText),
    /// The cause is unknown: neither QEMU nor the operating system reported one.
    Unknown,
    /// The caller disconnected from the machine or detached it, and it runs on.
    Disconnected,
    /// A machine of another program closed its monitor without a reason.
    HungUp,
    /// A companion that the machine [requires](crate::Companion::required) has ended, and the machine was shut down.
    CompanionEnded(UntrustedText),
    /// The process survived SIGKILL: the kernel holds it, or did not permit the signal.
    Unkillable,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("was not started"),
            Self::LaunchFailed => f.write_str("killed because its launch had failed"),
            Self::Asked(rung) => write!(f, "ended by the caller ({rung})"),
            Self::QuitByOther => f.write_str("ended by a `quit` of another client"),
            Self::QuitByUnknown => {
                f.write_str("ended by a `quit`: the caller's, which has no reply, or another client's")
            }
            Self::PowerOff => f.write_str("powered off by the guest"),
            Self::PowerButton => f.write_str("powered off by the guest, after another client pressed the power button"),
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
            Self::Exit(code) => write!(f, "QEMU exited (status {code})"),
            Self::Other(reason) => write!(f, "QEMU shut down ({reason})"),
            Self::Unknown => f.write_str("ended for a reason that is not known"),
            Self::Disconnected => f.write_str("disconnected by the caller, and left running"),
            Self::HungUp => f.write_str("closed its monitor"),
            Self::CompanionEnded(name) => write!(f, "shut down after its companion {name} had ended"),
            Self::Unkillable => f.write_str("could not be killed"),
        }
    }
}

impl Cause {
    /// Returns what the guest did to end the machine. `None` means that it did nothing.
    pub(crate) fn of_guest(&self) -> Option<String> {
        Some(match self {
            Self::PowerOff | Self::PowerButton => "the guest powered off".into(),
            Self::Reset => "the guest reset".into(),
            Self::Panic => "the guest panicked".into(),
            Self::DebugExit(value) => alloc::format!("the guest exited (isa-debug-exit, value {value:#x})"),
            _ => return None,
        })
    }
}

/// Evidence of a run: the facts from which its outcome is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The rungs that were climbed. The one that worked may be earlier than the last.
    pub(crate) rungs: Vec<Rung>,
    /// The rungs that were left out, since they could have no effect.
    pub(crate) skipped: Vec<Rung>,
    /// Whether the guest has an `isa-debug-exit` device, which ends QEMU with an exit status of the guest's choice.
    pub(crate) debug_exit: bool,
    /// Whether the last `SHUTDOWN` event arrived before a `quit` was sent, so that no `quit` of this machine caused it.
    is_shutdown_first: bool,
    /// Whether QEMU accepted a `system_powerdown` of this machine.
    pub(crate) pressed_button: bool,
    /// Whether QEMU reported a pressed power button, by whichever client, since the last reset.
    is_button_pressed: bool,
    /// The last event of each name among `SHUTDOWN`, `RESET` and `GUEST_PANICKED`, in order of arrival. Kept apart from
    /// the history, which may evict them.
    pub(crate) last_events: Vec<Event>,
    pub(crate) unanswered: usize,
    pub(crate) log: String,
    pub(crate) faults: Vec<HostFault>,
    /// The name of the companion whose end has shut the machine down.
    pub(crate) missed_companion: Option<String>,
}

impl Evidence {
    /// Returns the evidence in the arguments of QEMU. `None` means that they have none.
    pub(crate) fn of_arguments(arguments: &[Vec<u8>]) -> Option<Box<Self>> {
        // The device may be named as `isa-debug-exit,iobase=…` or in JSON.
        let is_exit_device = |argument: &Vec<u8>| memchr::memmem::find(argument, b"isa-debug-exit").is_some();
        arguments.iter().any(is_exit_device).then(|| Box::new(Self { debug_exit: true, ..Self::default() }))
    }

    /// Reports whether an event may explain the end.
    pub(crate) fn is_in(event: &Event) -> bool {
        matches!(event.name(), "SHUTDOWN" | "POWERDOWN" | "RESET" | "GUEST_PANICKED")
    }

    /// Keeps an event that may explain the end. `has_sent_quit` is whether a `quit` of this machine was sent before.
    pub(crate) fn note(&mut self, event: &Event, has_sent_quit: bool) {
        match event.name() {
            "SHUTDOWN" => self.is_shutdown_first = !has_sent_quit,
            "POWERDOWN" => self.is_button_pressed = true,
            // After a reset the guest does not know of the button any more.
            "RESET" => self.is_button_pressed = false,
            _ => {}
        }
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
    /// Finds the cause in the evidence, in this order: a request of this machine that QEMU accepted, the reason that QEMU
    /// reported in a `SHUTDOWN` event, the sender of a signal that QEMU logged, the exit status. A process that a signal
    /// ended reports no reason. `signaller` is the process that sends the signals of this machine.
    pub(crate) fn find(run: &Lifecycle, evidence: &Evidence, signaller: Option<u32>) -> Self {
        match (Self::of_run(run, evidence, signaller), &evidence.missed_companion) {
            (Self::Asked(_), Some(name)) => Self::CompanionEnded(name.as_str().into()),
            (cause, _) => cause,
        }
    }

    fn of_run(run: &Lifecycle, evidence: &Evidence, signaller: Option<u32>) -> Self {
        let from_outside = |number| Self::Signal { number, sender: None };
        match run.dead() {
            None if run.process() == Process::Foreign => Self::of_foreign(run, evidence),
            None if run.pid().is_some() || run.process() == Process::Spawning => Self::Unkillable,
            None => Self::NotStarted,
            Some(ExitStatus::Signal { name: SignalName::Kill, .. }) if evidence.climbed(Rung::Kill) => {
                Self::of_kill(run)
            }
            Some(ExitStatus::Signal { name: SignalName::Term, .. }) if evidence.climbed(Rung::Terminate) => {
                Self::Asked(Rung::Terminate)
            }
            Some(ExitStatus::Signal { number, .. }) => from_outside(Some(number)),
            Some(ExitStatus::Code(code)) => Self::of_exit(Some(code), run, evidence, signaller),
            Some(ExitStatus::Unknown) => Self::of_exit(None, run, evidence, signaller),
        }
    }

    /// Finds the cause for a machine of another program, which has no exit status here.
    fn of_foreign(run: &Lifecycle, evidence: &Evidence) -> Self {
        match Self::of_exit(None, run, evidence, None) {
            _ if run.was_disconnected() => Self::Disconnected,
            Self::Unknown => Self::HungUp,
            cause => cause,
        }
    }

    /// Finds the cause of an exit. `None` means that the exit code is unknown.
    fn of_exit(code: Option<i32>, run: &Lifecycle, evidence: &Evidence, signaller: Option<u32>) -> Self {
        let reason = evidence.shutdown_reason();
        let reason = reason.as_deref();
        if let Some(value) = code.filter(|_| evidence.debug_exit).and_then(|code| Self::debug_exit(code, reason)) {
            return Self::DebugExit(value);
        }
        let caught = Caught::find(&evidence.log);
        let is_terminated_here =
            evidence.climbed(Rung::Terminate) && caught.as_ref().is_none_or(|caught| caught.may_be_of(signaller));
        match reason {
            // QEMU reports the last of several reasons, and logs a signal that it caught before (QEMU,
            // `system/runstate.c`, `qemu_system_killed`, `qemu_kill_report`).
            Some("host-qmp-quit") if caught.is_some() && !is_terminated_here => Self::of_signal(caught),
            Some("host-qmp-quit") if evidence.is_shutdown_first => Self::QuitByOther,
            Some("host-qmp-quit") if run.was_quit_accepted() => Self::Asked(Rung::Quit),
            Some("host-qmp-quit") => Self::QuitByUnknown,
            Some("guest-shutdown") if evidence.pressed_button || evidence.climbed(Rung::PowerDown) => {
                Self::Asked(Rung::PowerDown)
            }
            Some("guest-shutdown") if evidence.is_button_pressed => Self::PowerButton,
            Some("guest-shutdown") => Self::PowerOff,
            Some("guest-reset") => Self::Reset,
            Some("guest-panic") => Self::Panic,
            Some("host-signal") if is_terminated_here => Self::Asked(Rung::Terminate),
            // The `quit` came first: its reason was replaced by that of the signal.
            Some("host-signal") if run.was_quit_accepted() && !evidence.is_shutdown_first => Self::Asked(Rung::Quit),
            Some("host-signal") => Self::of_signal(caught),
            Some(other) => Self::Other(other.into()),
            // qemu-storage-daemon has no machine, and sends no SHUTDOWN event (measured with QEMU 7.2.22).
            None if run.was_quit_accepted() => Self::Asked(Rung::Quit),
            None if code == Some(0) && is_terminated_here => Self::Asked(Rung::Terminate),
            // Without a monitor there are no events, and the log is the only evidence.
            None if code == Some(0) && run.link() == Link::Absent && caught.is_some() => Self::of_signal(caught),
            None if code.is_none() && evidence.climbed(Rung::Kill) => Self::of_kill(run),
            None => code.map_or(Self::Unknown, Self::Exit),
        }
    }

    /// Finds the cause of an end by the SIGKILL of this machine.
    fn of_kill(run: &Lifecycle) -> Self {
        let has_failed = run.failure().is_some_and(|failure| !matches!(failure, LaunchFailure::Cancelled(_)));
        if has_failed { Self::LaunchFailed } else { Self::Asked(Rung::Kill) }
    }

    /// Returns the cause of an end by a signal that QEMU caught. `None` means that the log does not name it.
    fn of_signal(caught: Option<Caught>) -> Self {
        let (number, sender) = caught.map(|Caught { number, sender }| (number, sender)).unzip();
        Self::Signal { number, sender: sender.filter(|sender| !sender.is_empty()).map(Into::into) }
    }
}

/// A signal that QEMU caught, as its log names it. The `SHUTDOWN` event names neither the signal nor its sender.
struct Caught {
    number: i32,
    /// The sender in QEMU's words, for example `pid 4711 (bash)`. Empty means that the log does not name it.
    sender: String,
}

impl Caught {
    /// Finds the last line like `terminating on signal 15 from pid 4711 (bash)` (QEMU, `system/runstate.c`,
    /// `qemu_kill_report`). A line without a number is not QEMU's, but only similar.
    fn find(log: &str) -> Option<Self> {
        log.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once("terminating on signal ")?;
            let (number, sender) = rest.split_once(" from ").unwrap_or((rest, ""));
            Some(Self { number: number.trim().parse().ok()?, sender: sender.trim_end().to_string() })
        })
    }

    /// Returns whether this process may be the sender. A sender in another process id namespace has the pid 0.
    fn may_be_of(&self, signaller: Option<u32>) -> bool {
        let pid = self.sender.strip_prefix("pid ").and_then(|rest| rest.split(' ').next());
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
        let (Some(pid), Some(signaller)) = (pid, signaller) else { return true };
        pid == 0 || pid == signaller
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
}

fn reason(shutdown: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        reason: String,
    }
    shutdown.read_data().ok().map(|Data { reason }| reason)
}

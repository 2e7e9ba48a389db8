//! Errors of commands, launches, services and waits.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::command_line::CommandLine;
use crate::config::{Config, Service};
use crate::fault::{HostFault, Misuse, ProtocolError, Refusal};
use crate::lifecycle::{LaunchFailure, Phase};
use crate::outcome::{Cause, Outcome};
use crate::payload::Payload;
use crate::text::UntrustedText;

/// Why a command failed.
///
/// Each command that was accepted is answered exactly once. When the monitor closes, every command without a reply is
/// answered at once with [`Disconnected`](Self::Disconnected). Its [`Progress`] shows whether the command can be
/// repeated: an [`Unsent`](Progress::Unsent) one had no effect; a [`Sent`](Progress::Sent) one may have had one. At a
/// disconnect, QEMU drops the commands that it has queued (QEMU, `monitor/qmp.c`,
/// `monitor_qmp_cleanup_queue_and_resume`) and finishes the one that it executes. No reply reaches a later connection
/// (measured with QEMU 7.2.22).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The caller's fault. Nothing was sent. [`Misuse::Ended`] is not among them: see
    /// [`Disconnected`](Self::Disconnected).
    #[error(transparent)]
    Misuse(Misuse),
    /// QEMU refused the command. Argument errors are reported before any effect (`docs/interop/qmp-spec.rst`,
    /// Compatibility Considerations).
    #[error(transparent)]
    Refused(Refusal),
    /// The reply cannot be read, or is larger than [`Limits::message`](crate::Limits::message). Whether the command
    /// took effect is unknown.
    #[error("the reply cannot be read, and what the command did is unknown: {0}")]
    Broken(ProtocolError),
    /// The command succeeded, but its reply is not of the type [`Command::Reply`](crate::Command::Reply).
    #[error("the reply{} is not of the type that the command names: {reason}", to(&.reply.command()))]
    Unexpected {
        /// Where the reply differs, as serde reports it.
        reason: UntrustedText,
        /// The reply as QEMU sent it.
        reply: Payload,
    },
    /// The monitor was closed before the reply arrived, or before the call: a command to a machine that has ended is
    /// [`Unsent`](Progress::Unsent). So the error of a command to a QEMU that dies does not depend on the moment of the
    /// call. [`Outcome`] reports how the machine ended.
    #[error("the monitor was closed {0}")]
    Disconnected(Progress),
    /// The deadline passed before the reply arrived. A command that was sent may still take effect. Its late reply is
    /// counted and dropped; it reaches no other caller, and the connection stays usable. [`Liveness`] is the result of
    /// the heartbeat that was sent meanwhile.
    #[error("no reply within the deadline, {0}{1}")]
    TimedOut(Progress, Liveness),
    /// The caller gave up the call, with a means of its runtime (`Cancel` of `qemu-machine-blocking`). A command that was
    /// sent may still take effect, and its late reply is counted and dropped. One that was queued is never sent.
    #[error("the call was cancelled, and what the command did is unknown")]
    Cancelled,
}

/// A machine that has ended refuses a command with [`Misuse::Ended`], which becomes
/// [`Disconnected`](CommandError::Disconnected), as for a command that was accepted just before the end.
impl From<Misuse> for CommandError {
    fn from(misuse: Misuse) -> Self {
        match misuse {
            Misuse::Ended => Self::Disconnected(Progress::Unsent),
            misuse => Self::Misuse(misuse),
        }
    }
}

/// Names a command that has a reply, for an error message.
fn to(command: &UntrustedText) -> String {
    if command.is_empty() { String::new() } else { format!(" to `{command}`") }
}

/// How far a command came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a command is either sent or not")]
pub enum Progress {
    /// The command was still queued here. It had no effect, and can be repeated.
    Unsent,
    /// The command was sent, or was in [`Machine::outgoing`](crate::Machine::outgoing) already. Whether it took effect
    /// is unknown.
    Sent,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent => "before the command was sent",
            Self::Sent => "after the command was sent",
        })
    }
}

/// Whether a monitor answered a heartbeat while a command timed out.
///
/// The heartbeat is an out-of-band `query-yank` (QEMU, `qapi/yank.json`, `query-yank`). QEMU executes it at once in the
/// monitor's thread, past the main loop and the commands queued there (QEMU, `monitor/qmp.c`, `handle_qmp_command`). It
/// is sent when half of a command's time is over, if QEMU offered out-of-band execution. At most one heartbeat is on
/// the wire, and commands that are answered sooner cause none.
/// [`Config::without_heartbeat`](crate::Config::without_heartbeat) disables heartbeats.
///
/// A dead QEMU needs no heartbeat: its monitor closes, and the command fails at once with
/// [`CommandError::Disconnected`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "the monitor answered, or did not, or was not asked")]
pub enum Liveness {
    /// The monitor answered: QEMU is busy, with this command or with another. A longer deadline may help.
    Busy,
    /// The monitor did not answer: QEMU is stopped (SIGSTOP), hangs as a whole, or gets no processor time. Only in the
    /// last case a longer deadline helps.
    Stuck,
    /// No heartbeat was sent: out-of-band execution was not negotiated, the protocol has none, or heartbeats are
    /// disabled. Or the deadline was too short for its answer.
    Unknown,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "; QEMU is busy: its monitor answers out of band",
            Self::Stuck => "; QEMU is stuck: its monitor does not answer out of band either",
            Self::Unknown => "",
        })
    }
}

/// Why a launch failed, with everything that is known about the run. [`launch_cause`](Self::launch_cause) returns the
/// cause as a value, also where QEMU reports it only in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchError {
    /// The caller's fault. Nothing was started.
    Misuse(Misuse),
    /// The machine did not become ready, and the run is over: the process was ended, and everything that was created
    /// was removed. What failed of that is in [`Outcome::cause`] and [`Outcome::faults`].
    Failed {
        /// Why it did not become ready.
        failure: LaunchFailure,
        /// How the run ended: exit status, log, command line.
        outcome: Box<Outcome>,
    },
}

impl LaunchError {
    /// Returns the error of a launch that failed on the host before a process was started.
    #[must_use]
    pub fn not_started(fault: HostFault, command_line: &CommandLine) -> Self {
        let outcome = Box::new(Outcome::not_started(command_line.clone()));
        Self::Failed { failure: LaunchFailure::Host(fault), outcome }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(misuse) => write!(f, "launch: {misuse}"),
            Self::Failed { failure, outcome } => {
                let what = if outcome.command_line.arguments().is_empty() { "attach" } else { "launch" };
                write!(f, "{what} failed: ")?;
                write_failure(f, failure, outcome)?;
                outcome.write_details(f)
            }
        }
    }
}

/// Writes why a launch failed, and what to do if the guest has ended QEMU before the monitor was ready.
fn write_failure(f: &mut fmt::Formatter<'_>, failure: &LaunchFailure, outcome: &Outcome) -> fmt::Result {
    const HELD: &str = "without `Config::autostart`, the guest is held until the monitor is ready";
    let LaunchFailure::Exited(phase) = failure else { return write!(f, "{failure}") };
    let is_started = Config::starts_guest(outcome.command_line.arguments());
    let phase: &dyn fmt::Display = match phase {
        // The process had ended when its last replies and events were read.
        Phase::Running => &"as soon as its monitor was ready",
        other => other,
    };
    match (outcome.cause.of_guest(), &outcome.cause) {
        (Some(end), _) if is_started => write!(f, "{end}, and QEMU ended {phase}: {HELD}"),
        (Some(end), _) => write!(f, "{end}, and QEMU ended {phase}"),
        // QEMU sends no events before the capabilities negotiation (`docs/interop/qmp-spec.rst`, Capabilities
        // Negotiation), and exits with status 0 when the guest powers off or resets (measured with QEMU 7.2.22).
        (None, Cause::Exit(0)) if is_started => {
            write!(f, "QEMU ended with status 0 {phase}, as it does when the guest ends it: {HELD}")
        }
        (None, _) => write!(f, "{failure}"),
    }
}

impl core::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Misuse(misuse) => Some(misuse),
            Self::Failed { failure, .. } => Some(failure),
        }
    }
}

impl From<Misuse> for LaunchError {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Why a service of a machine does not answer: the guest agent, or qtest. The machine itself is not affected.
///
/// ```
/// use qemu_machine_core::{LaunchError, Misuse, Service, ServiceError};
///
/// // On mio, a service is a machine that is attached, and this converts the error of its launch.
/// let error = ServiceError::new(Service::GuestAgent, LaunchError::Misuse(Misuse::ServiceInUse(Service::GuestAgent)));
/// assert_eq!(error.to_string(), "the guest agent service is in use by another handle: drop that one first");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// The caller's fault: the machine has no such service ([`Misuse::NoService`]), or another handle uses it
    /// ([`Misuse::ServiceInUse`]).
    Misuse(Misuse),
    /// The service did not answer in time, or not as its protocol requires, or refused the handshake. The connection is
    /// closed, and the call can be repeated.
    Silent {
        /// The service.
        service: Service,
        /// Why it did not become ready.
        failure: LaunchFailure,
        /// How the connection ended.
        outcome: Box<Outcome>,
    },
}

impl ServiceError {
    /// Converts the error of the launch that attached to this service.
    #[must_use]
    pub fn new(service: Service, error: LaunchError) -> Self {
        match error {
            LaunchError::Misuse(misuse) => Self::Misuse(misuse),
            LaunchError::Failed { failure, outcome } => Self::Silent { service, failure, outcome },
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(misuse) => fmt::Display::fmt(misuse, f),
            Self::Silent { service, failure, outcome } => {
                match failure {
                    // The agent has answered, and the failure names it.
                    LaunchFailure::NotSynchronised(_) => write!(f, "{failure}")?,
                    _ => write!(f, "the {service} does not answer: {failure}")?,
                }
                outcome.write_details(f)
            }
        }
    }
}

impl core::error::Error for ServiceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Misuse(misuse) => Some(misuse),
            Self::Silent { failure, .. } => Some(failure),
        }
    }
}

impl From<Misuse> for ServiceError {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Why a wait found nothing.
///
/// A wait that fails loses no events: it only looks at the history and the consoles. Wait again from the same
/// [`Mark`](crate::Mark).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The caller's fault.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The deadline passed before the wait found anything.
    #[error("the deadline passed before the wait found anything")]
    TimedOut,
    /// The caller gave up the wait, with a means of its runtime (`Cancel` of `qemu-machine-blocking`).
    #[error("the wait was cancelled")]
    Cancelled,
    /// The machine ended or was disconnected from, and the wait was not for its [end](crate::Wait::end). Nothing more
    /// can arrive.
    #[error("the machine ended first: {0:#}")]
    Ended(Box<Outcome>),
    /// The monitor was closed while the process runs on, and the wait was only for events. The wait first goes on for
    /// up to five seconds: if the process ends in that time, the error is [`Ended`](Self::Ended), with the reason.
    #[error("the monitor was closed: no event can come any more")]
    Disconnected,
    /// Another caller took the event out of the queue of the subscription.
    #[error("another caller took the event: wait again for the next one")]
    Taken,
    /// The wait was only for subscriptions that were ended meanwhile.
    #[error("the subscription was ended during the wait: subscribe again")]
    Unsubscribed,
    /// The wait found something that the call does not return: [`Hit::into_end`](crate::Hit::into_end) returns only the
    /// end, [`Machine::claim_event`](crate::Machine::claim_event) only an event.
    #[error("the wait found something that this call does not return")]
    FoundOther,
}

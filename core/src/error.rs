//! Errors: what each kind of call fails with.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::command_line::CommandLine;
use crate::config::Service;
use crate::fault::{HostFault, Misuse, ProtocolError, Refusal};
use crate::lifecycle::LaunchFailure;
use crate::outcome::Outcome;
use crate::payload::Payload;

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The caller's fault; nothing was sent.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// QEMU refused the command.
    #[error(transparent)]
    Refused(Refusal),
    /// The reply broke the protocol; what the command did is unknown.
    #[error("the reply cannot be read, and what the command did is unknown: {0}")]
    Broken(ProtocolError),
    /// The reply is valid QMP, but not of the type that the command names.
    #[error("the reply is not of the type that the command names: {reason}")]
    Unexpected {
        /// Where it differs.
        reason: String,
        /// The reply as it came.
        reply: Payload,
    },
    /// The monitor was closed before the reply came.
    #[error("the monitor was closed {0}")]
    Disconnected(Progress),
    /// The deadline passed before the reply came. The monitor was asked meanwhile whether it lives.
    #[error("no reply within the deadline, {0}{1}")]
    TimedOut(Progress, Liveness),
}

/// How far a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "what is not sent is unsent")]
pub enum Progress {
    /// QEMU was not told: the command had no effect.
    Unsent,
    /// It was sent, or handed over for sending: what it did is unknown.
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

/// Whether a monitor gave a heartbeat while a command ran out of time.
///
/// When half of a command's time is over, and QEMU offered out-of-band execution, it is asked something that its
/// monitor answers in a thread of its own (`query-yank`), past the main loop and the commands that wait there. Only one
/// such question is on the wire at a time, and none for commands that are answered in time.
/// [`Config::without_heartbeat`](crate::Config::without_heartbeat) forbids it.
///
/// A QEMU that is dead needs no sign: its monitor is closed, which is [`CommandError::Disconnected`] at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "it answered, or did not, or was not asked")]
pub enum Liveness {
    /// It answered: QEMU is busy, with this command or with another. To wait for longer may help.
    Busy,
    /// It did not answer either: QEMU is stopped, or hangs as a whole. To wait for longer does not help.
    Stuck,
    /// It was not asked, or too late to tell: out-of-band execution was not offered, or is not known in this dialect.
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

/// Why a launch failed, with everything that is known about the run that ended there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchError {
    /// The caller's fault; nothing was started.
    Misuse(Misuse),
    /// The machine did not become ready. Everything is cleaned up.
    Failed {
        /// What kept it.
        failure: LaunchFailure,
        /// How that run ended: exit status, last words, command line.
        outcome: Box<Outcome>,
    },
}

impl LaunchError {
    /// The error of a launch that did not come as far as a process: the host lacks something.
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
                write!(f, "{what} failed: {failure}")?;
                outcome.write_details(f)
            }
        }
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

/// Why a service of a machine does not answer: the agent in its guest, or its qtest. The machine is not affected.
///
/// ```
/// use qemu_machine_core::{LaunchError, Misuse, Service, ServiceError};
///
/// // On mio a service is attached to as a machine of its own, and this says what that one's launch failed with.
/// let error = ServiceError::new(Service::GuestAgent, LaunchError::Misuse(Misuse::ServiceInUse(Service::GuestAgent)));
/// assert_eq!(error.to_string(), "the guest agent service is in use by another handle: drop that one first");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// The caller's fault: there is no such service ([`Misuse::NoService`]), or it is in use ([`Misuse::ServiceInUse`]).
    Misuse(Misuse),
    /// The service was not ready to answer. The connection is closed, and the call can be tried again.
    Silent {
        /// The service.
        service: Service,
        /// What kept the other side.
        failure: LaunchFailure,
        /// How the connection ended.
        outcome: Box<Outcome>,
    },
}

impl ServiceError {
    /// What it means for a service that the launch of what is attached to it failed.
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
                write!(f, "the {service} does not answer: {failure}")?;
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

/// Why a wait did not find what it waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The caller's fault.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The deadline passed first.
    #[error("the deadline passed before what was waited for came")]
    TimedOut,
    /// The machine ended first; nothing more can come.
    #[error("the machine ended first: {0:#}")]
    Ended(Box<Outcome>),
    /// The monitor was closed, and only events were waited for.
    #[error("the monitor was closed: no event can come any more")]
    Disconnected,
    /// Another caller took the event out of the queue of the subscription before this one did.
    #[error("another caller took the event: wait again for the next one")]
    Taken,
    /// The subscriptions that were waited for have ended meanwhile.
    #[error("the subscription was ended while it was waited for")]
    Unsubscribed,
    /// The wait found something else than the call gives: [`Hit::found`](crate::Hit::found) of the wait says what.
    #[error("the wait found something else than this call gives")]
    FoundOther,
}

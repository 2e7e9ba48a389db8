//! Failures in which the command has no exit code, and the exit codes of `kernel-test` for them.

use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{Cause, LaunchError, UntrustedText, WaitError};

/// The reason why the command has no exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The kernel hung: it did not start the command within the time limit, or it reported a stall and the limit passed.
    #[error("the kernel hangs: {what} within {limit:?}")]
    Hung {
        /// The event that did not happen, or the report of the kernel.
        what: UntrustedText,
        /// The time limit.
        limit: Duration,
    },
    /// The kernel panicked, with this message.
    #[error("the kernel panicked: {0}")]
    Panicked(UntrustedText),
    /// The machine ended before the command did: a power-off, a reset, or QEMU died.
    #[error("the machine ended before the command did: {cause}{}", indented(.log))]
    Ended {
        /// The cause.
        cause: Cause,
        /// The output of QEMU.
        log: UntrustedText,
    },
    /// QEMU stopped the guest, which cannot continue: KVM failed in it (`internal-error`), or a disk did (`io-error`).
    #[error("QEMU stopped the guest: {status}{}", indented(.log))]
    Stopped {
        /// The run state (QEMU, `qapi/run-state.json`, `RunState`).
        status: UntrustedText,
        /// What QEMU printed.
        log: UntrustedText,
    },
    /// QEMU did not start.
    #[error("{0}")]
    NotStarted(Box<LaunchError>),
    /// The command did not end within the time limit.
    #[error("the command did not end within {0:?}")]
    TimedOut(Duration),
    /// The guest could not be prepared for the command, or reported something else than an exit code.
    #[error("the guest: {0}")]
    Guest(UntrustedText),
    /// The host has a problem: a file is missing, or cannot be written.
    #[error("{0}")]
    Host(UntrustedText),
    /// The wait for the machine failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl Failure {
    /// Returns the exit code of `kernel-test`, from 120 to 125. Commands seldom use these codes; 126 and 127 are those of
    /// a shell that cannot run a command, and those above belong to signals.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Hung { .. } => 120,
            Self::Panicked(_) => 121,
            Self::Ended { .. } | Self::Stopped { .. } => 122,
            Self::NotStarted(_) => 123,
            Self::TimedOut(_) => 124,
            Self::Guest(_) | Self::Host(_) | Self::Wait(_) => 125,
        }
    }

    /// Returns the failure in one word, for tables and reports: `hang`, `panic`, `ended`, `launch`, `timeout` or `setup`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hung { .. } => "hang",
            Self::Panicked(_) => "panic",
            Self::Ended { .. } | Self::Stopped { .. } => "ended",
            Self::NotStarted(_) => "launch",
            Self::TimedOut(_) => "timeout",
            Self::Guest(_) | Self::Host(_) | Self::Wait(_) => "setup",
        }
    }

    /// Returns a failure of this host with a file.
    pub(crate) fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        let path = path.as_os_str().as_encoded_bytes();
        Self::Host(format!("{}: {error}", String::from_utf8_lossy(path)).into())
    }
}

/// Returns what QEMU printed, on indented lines below the message.
fn indented(log: &UntrustedText) -> String {
    log.multiline().to_string().lines().map(|line| format!("\n  {line}")).collect()
}

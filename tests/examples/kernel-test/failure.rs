//! Failures in which the command has no exit code: their messages, and the exit codes of this program.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use qemu_machine_blocking::{
    Cause, CommandError, LaunchError, Mark, Outcome, ServiceError, UntrustedText, Vm, WaitError,
};

use crate::guest::{CONSOLE, REPORT};

/// The part of `--help` about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit code: that of the command, which is 126 or 127 if the command cannot be run. Otherwise a message on stderr begins
with `kernel-test: `, and the exit code is
  121  the kernel panicked
  122  the machine ended before the command did: a power-off, a reset, or QEMU died
  123  QEMU did not start
  124  the command, or the boot, took too long
  125  the command line is not valid, or this host has a problem";

/// Why the command has no exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the kernel panicked: {0}")]
    Panicked(UntrustedText),
    #[error("the machine ended before the command did: {cause}{log}")]
    Ended { cause: Cause, log: String },
    #[error("{0}")]
    NotStarted(LaunchError),
    #[error("{what} within {limit:?}")]
    Hung { what: &'static str, limit: Duration },
    #[error("the guest agent: {0}")]
    Agent(Box<dyn Error + Send + Sync>),
    #[error("the guest reported {0:?}, which is not an exit code")]
    Report(String),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error("{0}")]
    Host(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Panicked(_) => 121,
            Self::Ended { .. } => 122,
            Self::NotStarted(_) => 123,
            Self::Hung { .. } => 124,
            Self::Agent(_) | Self::Report(_) | Self::Wait(_) | Self::Host(_) => 125,
        })
    }

    /// The failure for a machine that ended by itself. A kernel that panics prints that, and `panic=-1` makes it reset
    /// the machine. A command that prints the same text and resets is mistaken for a panic.
    pub(crate) fn of_end(vm: &Vm, outcome: &Outcome) -> Self {
        let printed = printed(vm, CONSOLE);
        let last_words = printed.lines().find_map(|line| Some(line.split_once("Kernel panic - not syncing: ")?.1));
        match (&outcome.cause, last_words) {
            (Cause::Reset, Some(why)) => Self::Panicked(why.trim_end().into()),
            (cause, _) => Self::Ended { cause: cause.clone(), log: block(&outcome.log) },
        }
    }

    /// The failure for a machine that still runs after the time limit.
    pub(crate) fn hung(vm: &Vm, limit: Duration) -> Self {
        let ready = printed(vm, REPORT).contains("ready.");
        let what = if ready { "the command did not end" } else { "the guest did not start the command" };
        Self::Hung { what, limit }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Agent(error.into())
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Agent(error.into())
    }
}

/// Returns what QEMU printed, on indented lines below the message.
fn block(log: &UntrustedText) -> String {
    log.multiline().to_string().lines().map(|line| format!("\n  {line}")).collect()
}

fn printed(vm: &Vm, console: &str) -> String {
    let printed = vm.console(console, &Mark::default()).expect("the console is configured");
    String::from_utf8_lossy(&printed).into_owned()
}

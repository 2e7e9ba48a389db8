//! Decides what is told when there is no exit code of the command, and what we exit with then.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use qemu_machine_blocking::{Cause, CommandError, LaunchError, Mark, Outcome, ServiceError, Vm, WaitError};

use crate::guest::{CONSOLE, REPORT};

/// Part of `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit code: that of the command, which is 126 or 127 when it cannot be run. Otherwise a message begins with
`kernel-test: ` on stderr, and the exit code is
  121  when the kernel panicked
  122  when the machine ended before the command did: a power-off, a reset, or QEMU died
  123  when QEMU did not start
  124  when the command, or the boot, took too long
  125  when we were called wrongly, or something else is wrong on this host";

/// Why there is no exit code of the command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the kernel panicked: {0}")]
    Panicked(String),
    #[error("the machine ended before the command did: {cause}{log}")]
    Ended { cause: Cause, log: String },
    #[error("{0}")]
    NotStarted(LaunchError),
    #[error("{what} within {limit:?}")]
    Hung { what: &'static str, limit: Duration },
    #[error("the guest agent: {0}")]
    Agent(Box<dyn Error + Send + Sync>),
    #[error("the guest reported {0:?}, which is no exit code")]
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

    /// The machine ended by itself. A kernel that panics says so, and resets the machine: we tell it to, by `panic=-1`.
    /// A command that does the same is taken for one.
    pub(crate) fn of_end(vm: &Vm, outcome: &Outcome) -> Self {
        let printed = printed(vm, CONSOLE);
        let last_words = printed.lines().find_map(|line| Some(line.split_once("Kernel panic - not syncing: ")?.1));
        match (&outcome.cause, last_words) {
            (Cause::Reset, Some(why)) => Self::Panicked(why.trim_end().to_owned()),
            (cause, _) => Self::Ended { cause: cause.clone(), log: block(&outcome.log) },
        }
    }

    /// The machine runs, and nothing came of it.
    pub(crate) fn hung(vm: &Vm, limit: Duration) -> Self {
        let ready = printed(vm, REPORT).contains("ready.");
        let what = if ready { "the command did not end" } else { "the guest did not come to run the command" };
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

/// What QEMU printed, if it did, on lines of its own below the message.
fn block(log: &str) -> String {
    log.lines().map(|line| format!("\n  {line}")).collect()
}

fn printed(vm: &Vm, console: &str) -> String {
    let printed = vm.console(console, &Mark::default()).expect("it is one of ours");
    String::from_utf8_lossy(&printed).into_owned()
}

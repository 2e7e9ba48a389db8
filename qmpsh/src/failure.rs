//! Failures of an instruction, by the exit code that they lead to.

use std::fmt;

use qemu_machine_blocking::{CommandError, Misuse, UntrustedText};

use crate::line::Trouble;
use crate::show::printable;

/// Why an instruction has no result, by the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// QEMU refused the command, or would, by its schema.
    Refused(String),
    /// The command line or the line is not valid.
    Unclear(String),
    /// There is no connection to a monitor or an agent.
    NotConnected(String),
    /// The reply is missing, or could not be written.
    Lost(String),
}

impl Failure {
    /// A refusal in QEMU's words, without the command, which the user has just typed.
    pub(crate) fn refused(class: &str, description: &str) -> Self {
        Self::Refused(format!("{}: {}", printable(class), printable(description)))
    }

    /// Returns the exit code; `--help` lists them.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Unclear(_) => 2,
            Self::NotConnected(_) => 3,
            Self::Lost(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Unclear(text) | Self::NotConnected(text) | Self::Lost(text)) = self;
        // What QEMU or the user wrote is escaped already, in one line. This escapes the rest, and keeps our lines.
        write!(f, "{}", UntrustedText::from(text.as_str()).multiline())
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => Self::refused(&refusal.class, &refusal.description),
            CommandError::Misuse(ended @ Misuse::Ended) => Self::Lost(ended.to_string()),
            CommandError::Misuse(misuse) => Self::Unclear(misuse.to_string()),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unfinished => {
                Self::Unclear("not complete: a quote, a bracket or a transaction is not closed, or `\\` is last".into())
            }
            Trouble::Unclear(text) => Self::Unclear(printable(text)),
            Trouble::Invalid(invalid) => Self::Refused(invalid.to_string()),
        }
    }
}

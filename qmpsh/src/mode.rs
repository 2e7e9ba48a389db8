//! Modes of the shell: the interpreter of its plain lines.

/// The interpreter of plain lines, with a prompt and a history of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// QMP commands.
    #[default]
    Qmp,
    /// The human monitor (HMP).
    Human,
    /// The guest agent.
    Agent,
}

/// The prompt for a line that continues the one before.
pub(crate) const CONTINUED: &str = "... ";

impl Mode {
    /// Returns the prompt.
    pub(crate) fn prompt(self) -> &'static str {
        match self {
            Self::Qmp => "qmp> ",
            Self::Human => "hmp> ",
            Self::Agent => "qga> ",
        }
    }

    /// Returns the name of the history file, in the directory of the shell. The lines of one mode are of no use in another.
    pub(crate) fn history(self) -> &'static str {
        match self {
            Self::Qmp => "history",
            Self::Human => "history-hmp",
            Self::Agent => "history-agent",
        }
    }
}

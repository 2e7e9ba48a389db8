//! Client of the monitor: executes instructions, and maps replies and failures to output and exit codes.

use std::fmt;

use qemu_machine_blocking::commands::{HumanMonitorCommand, HumanMonitorError, QuerySchema};
use qemu_machine_blocking::{Cause, CommandError, Deadline, Rung, Schema, State, UntrustedText, Value, Vm};

use crate::help::help;
use crate::line::{Instruction, Trouble};
use crate::show::{Escapes, Layout, printable, show};

/// A machine, with the schema of its commands.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) vm: Vm,
    /// `None` means that lines are for the human monitor, or that the peer has no schema, as another QMP server may.
    pub(crate) schema: Option<Schema>,
    timeout: Deadline,
    pub(crate) hmp: bool,
}

/// The result of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Value(Value),
    /// Text of several lines.
    Text(String),
}

/// Why an instruction has no result, by the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// QEMU refused the command, or would, by its schema.
    Refused(String),
    /// The command line or the line is not valid.
    Unclear(String),
    /// There is no connection to a monitor.
    NotConnected(String),
    /// The reply is missing, or could not be written.
    Lost(String),
}

/// The time that QEMU may take to end after it accepted `quit`.
const END_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

impl Client {
    /// A client of a machine. Fetches the schema, unless all lines are for the human monitor.
    pub(crate) fn new(vm: Vm, timeout: Deadline, hmp: bool) -> Self {
        let schema = if hmp { None } else { vm.execute_by(QuerySchema, timeout).ok() };
        Self { vm, schema, timeout, hmp }
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// As [`Instruction::read`].
    pub(crate) fn read(&self, line: &str) -> Result<Instruction, Trouble> {
        if self.hmp { Ok(Instruction::read_human(line)) } else { Instruction::read(line, self.schema.as_ref()) }
    }

    /// Reads words that a shell has split.
    ///
    /// # Errors
    ///
    /// As [`Instruction::read_words`].
    pub(crate) fn read_words(&self, words: &[String]) -> Result<Instruction, Trouble> {
        if self.hmp {
            return Ok(Instruction::read_human(&words.join(" ")));
        }
        Instruction::read_words(words, self.schema.as_ref())
    }

    /// Executes an instruction, and waits for the reply. After a `quit` it also waits for the end of QEMU.
    ///
    /// # Errors
    ///
    /// [`Failure::Refused`], [`Failure::Unclear`] or [`Failure::Lost`].
    pub(crate) fn ask(&self, instruction: &Instruction) -> Result<Reply, Failure> {
        let answer = match instruction {
            Instruction::Nothing | Instruction::Exit => Ok(Reply::Nothing),
            Instruction::Help(about) => help(about, self.schema.as_ref()).map(Reply::Text).map_err(Failure::Refused),
            Instruction::Command(name, arguments) => self.value((name.as_str(), arguments)),
            Instruction::Raw(object) => self
                .vm
                .execute_raw_by(object, self.timeout)
                .map_err(Failure::from)
                .and_then(|reply| unwrap(reply.into_value())),
            Instruction::Human(line) => self.human(line),
        };
        if instruction.ends_qemu() { self.last(answer) } else { answer }
    }

    fn value(&self, command: (&str, &Value)) -> Result<Reply, Failure> {
        Ok(Reply::Value(self.vm.execute_by(command, self.timeout)?))
    }

    fn human(&self, line: &str) -> Result<Reply, Failure> {
        let command = HumanMonitorCommand::new(line);
        let said = self.vm.execute_by(command, self.timeout)?.checked().map_err(Failure::reported)?;
        let said = said.replace("\r\n", "\n");
        let said = said.trim_end();
        Ok(if said.is_empty() { Reply::Nothing } else { Reply::Text(said.into()) })
    }

    /// Corrects the result of a command that ends QEMU: QEMU may close the monitor before it replies.
    fn last(&self, answer: Result<Reply, Failure>) -> Result<Reply, Failure> {
        if let Err(Failure::Refused(_) | Failure::Unclear(_)) = answer {
            return answer;
        }
        // A QEMU that takes longer still runs, and that is no failure of the command.
        let ended = self.vm.wait(END_WITHIN);
        match (answer, ended) {
            (Err(_), Ok(outcome)) if outcome.cause == Cause::Asked(Rung::Quit) => Ok(Reply::Nothing),
            (answer, _) => answer,
        }
    }

    /// Reports whether the machine has ended, or is ending.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.vm.state(), State::Ending | State::Ended)
    }
}

/// Returns the result or the error in the reply to a raw command.
fn unwrap(mut message: Value) -> Result<Reply, Failure> {
    if let Some(error) = message.get("error") {
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        return Err(Failure::refused(&text("class"), &text("desc")));
    }
    Ok(Reply::Value(message["return"].take()))
}

impl Reply {
    /// Returns the text to print. `None` means that nothing is printed.
    pub(crate) fn shown(&self, layout: Layout, escapes: Escapes) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(escapes.json(show(value, layout))),
            Self::Text(text) => Some(escapes.text(text)),
        }
    }
}

impl Failure {
    /// A refusal in QEMU's words, without the command, which the user has just typed.
    fn refused(class: &str, description: &str) -> Self {
        Self::Refused(format!("{}: {}", printable(class), printable(description)))
    }

    /// An error of the human monitor, in one line.
    fn reported(error: HumanMonitorError) -> Self {
        Self::Refused(error.text.lines().map(printable).collect::<Vec<_>>().join("; "))
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
            CommandError::Misuse(misuse) => Self::Unclear(misuse.to_string()),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unfinished => Self::Unclear("a quote or a bracket is not closed".into()),
            Trouble::Unclear(text) => Self::Unclear(printable(text)),
            Trouble::Invalid(invalid) => Self::Refused(invalid.to_string()),
        }
    }
}

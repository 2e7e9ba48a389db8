//! Parser of a line: a command, JSON, a transaction, a line for the human monitor or the agent, or a word of the shell.

use qemu_machine_blocking::core::schema::Invalid;
use qemu_machine_blocking::{Schema, Value, json};

use crate::json_text;
use crate::split::{Unfinished, Word, cut, joined, json_end};
use crate::transaction::{self, OPEN};
use crate::value::Unparsed;

/// The meaning of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Instruction {
    /// An empty line, or a comment.
    Nothing,
    /// A command, with an object of arguments.
    Command(String, Value),
    /// A command that is written as JSON, without its `id`. `None` means that it had no `id`.
    Raw { object: String, id: Option<String> },
    /// A command for the human monitor.
    Human(String),
    /// An instruction for the guest agent of the machine.
    Guest(Box<Instruction>),
    /// Help on a command or an event; arguments select a variant. Without words, the overview.
    Help(Vec<Word>),
    /// The end of QEMU, and then of the shell, with this exit status.
    Quit(u8),
    /// The end of the shell, with this exit status. `None` means that of the last command.
    Exit(Option<u8>),
}

/// Why a line is not an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The line continues: a quote, a bracket or a transaction is not closed, or it ends with a backslash.
    Unfinished,
    /// The line is not valid.
    Unclear(String),
    /// The line is valid, but the command is not, by QEMU's schema.
    Invalid(Box<Invalid>),
}

/// The commands of the shell itself. QEMU has no command with one of these names.
pub(crate) const OWN: [&str; 4] = ["agent", "exit", "help", "hmp"];

/// The commands of the shell itself when lines are for the agent.
pub(crate) const OWN_OF_AGENT: [&str; 2] = ["exit", "help"];

impl Instruction {
    /// Reads a line. With a schema, values get its types, and the command is checked.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read(line: &str, schema: Option<&Schema>) -> Result<Self, Trouble> {
        let Some(line) = complete(line)? else { return Ok(Self::Nothing) };
        if line.starts_with('{') {
            return Self::json(&line);
        }
        if let Some(human) = after("hmp", &line) {
            return Ok(Self::Human(human.into()));
        }
        if let Some(guest) = after("agent", &line) {
            return Self::read_guest(guest).and_then(Self::for_guest);
        }
        if let Some(body) = line.strip_prefix(OPEN) {
            return Self::transaction(body, schema);
        }
        Self::of_words(&cut(&line)?, schema)
    }

    /// Reads a line for the human monitor. Only `exit`, and `quit` with a status, are commands of the shell there: `help`
    /// is QEMU's.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read_human(line: &str) -> Result<Self, Trouble> {
        let Some(line) = complete(line)? else { return Ok(Self::Nothing) };
        Ok(match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["exit"] => Self::Exit(None),
            ["exit", status] => Self::Exit(Some(exit_status("exit", status)?)),
            ["quit" | "q", status] => Self::Quit(exit_status("quit", status)?),
            _ => Self::Human(line),
        })
    }

    /// Reads a line for the guest agent, which has no schema.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read_guest(line: &str) -> Result<Self, Trouble> {
        let Some(line) = complete(line)? else { return Ok(Self::Nothing) };
        if line.starts_with('{') { Self::json(&line) } else { Self::of_guest_words(&cut(&line)?) }
    }

    /// Reads words that a shell has split.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read_words(words: &[String], schema: Option<&Schema>) -> Result<Self, Trouble> {
        match words {
            [json] if json.trim_start().starts_with('{') => Self::read(json, schema),
            [hmp, rest @ ..] if hmp == "hmp" && !rest.is_empty() => Ok(Self::Human(rest.join(" "))),
            [agent, rest @ ..] if agent == "agent" && !rest.is_empty() => {
                Self::read_guest_words(rest).and_then(Self::for_guest)
            }
            words => Self::of_words(&whole(words), schema),
        }
    }

    /// Reads words for the guest agent that a shell has split.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read_guest_words(words: &[String]) -> Result<Self, Trouble> {
        match words {
            [json] if json.trim_start().starts_with('{') => Self::read_guest(json),
            words => Self::of_guest_words(&whole(words)),
        }
    }

    /// Returns the instruction for the guest agent of the machine. `exit` is none: a script would go on after it.
    fn for_guest(instruction: Self) -> Result<Self, Trouble> {
        if let Self::Exit(_) = instruction {
            let text = "`agent exit`: `exit` ends the shell, and is written without `agent`";
            return Err(Trouble::Unclear(text.into()));
        }
        Ok(Self::Guest(Box::new(instruction)))
    }

    fn of_words(words: &[Word], schema: Option<&Schema>) -> Result<Self, Trouble> {
        let (key, rest) = named(words)?;
        match (key, rest) {
            ("help", rest) => return Ok(Self::Help(rest.to_vec())),
            ("exit", []) => return Ok(Self::Exit(None)),
            ("exit", [Word { key: status, value: None, .. }]) => {
                return Ok(Self::Exit(Some(exit_status("exit", status)?)));
            }
            ("quit", [Word { key: status, value: None, .. }]) => return Ok(Self::Quit(exit_status("quit", status)?)),
            ("hmp", _) => return Err(Trouble::Unclear("`hmp`: a command for the human monitor is missing".into())),
            ("agent", _) => return Err(Trouble::Unclear("`agent`: a command for the guest agent is missing".into())),
            _ => {}
        }
        let unknown = |schema: &Schema| schema.arguments(key).is_none().then(|| schema.check(&key).err()).flatten();
        if let Some(unknown) = schema.and_then(unknown) {
            return Err(unknown.into());
        }
        let given = Unparsed::gather(rest).map_err(Trouble::Unclear)?;
        let arguments = given.value(schema.and_then(|schema| schema.arguments(key)));
        if let Some(schema) = schema {
            schema.check(&(key, &arguments))?;
        }
        Ok(Self::Command(key.to_owned(), arguments))
    }

    fn of_guest_words(words: &[Word]) -> Result<Self, Trouble> {
        Ok(match named(words)? {
            ("help", rest) => Self::Help(rest.to_vec()),
            ("exit", []) => Self::Exit(None),
            ("exit", [Word { key: status, value: None, .. }]) => Self::Exit(Some(exit_status("exit", status)?)),
            (name, rest) => {
                Self::Command(name.to_owned(), Unparsed::gather(rest).map_err(Trouble::Unclear)?.value(None))
            }
        })
    }

    /// Reads a command in JSON. An `id` is removed, since the library gives each command its own; the rest stays as it is
    /// written.
    fn json(line: &str) -> Result<Self, Trouble> {
        json_end(line)?;
        let is_valid = line.parse::<Value>().is_ok();
        let (object, id) = match json_text::without(line, "id").filter(|_| is_valid) {
            Some((object, id)) => (object, Some(id)),
            None => (line.to_owned(), None),
        };
        Ok(Self::Raw { object, id })
    }

    /// Reads the text after `transaction(`. Each action is checked before the transaction is closed. One without actions
    /// is nothing.
    fn transaction(body: &str, schema: Option<&Schema>) -> Result<Self, Trouble> {
        let draft = transaction::split(body)?;
        let actions: Vec<_> =
            draft.actions.iter().map(|words| Self::action(words, schema)).collect::<Result<_, _>>()?;
        if !draft.is_closed {
            return Err(Trouble::Unfinished);
        }
        if actions.is_empty() {
            return Ok(Self::Nothing);
        }
        Ok(Self::Command("transaction".into(), json!({"actions": actions})))
    }

    fn action(words: &[Word], schema: Option<&Schema>) -> Result<Value, Trouble> {
        let (name, rest) = named(words)?;
        let given = Unparsed::gather(rest).map_err(Trouble::Unclear)?;
        let data = given.value(schema.and_then(|schema| transaction::data(schema, name)));
        let action = json!({"type": name, "data": data});
        if let Some(schema) = schema {
            let checked = schema.check(&("transaction", &json!({"actions": [action]})));
            checked.map_err(|invalid| of_action(name, invalid))?;
        }
        Ok(action)
    }

    /// Reports whether QEMU ends when the instruction succeeds. `q` is `quit` (QEMU, `hmp-commands.hx`).
    pub(crate) fn ends_qemu(&self) -> bool {
        match self {
            Self::Command(name, _) => name == "quit",
            Self::Raw { object, .. } => object.parse().is_ok_and(|object: Value| object["execute"] == "quit"),
            Self::Human(line) => ["q", "quit"].contains(&line.as_str()),
            Self::Quit(_) => true,
            Self::Nothing | Self::Guest(_) | Self::Help(_) | Self::Exit(_) => false,
        }
    }
}

/// Reports whether a line may contain a secret, so that it is neither in the history nor in an error.
pub(crate) fn may_be_secret(line: &str) -> bool {
    let line = line.to_lowercase();
    ["password", "passwd", "secret"].iter().any(|word| line.contains(word))
}

/// Joins the lines of an instruction. `None` means that there is none: the line is empty or a comment.
fn complete(line: &str) -> Result<Option<String>, Trouble> {
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok(None);
    }
    Ok(Some(joined(line)?.trim().to_owned()))
}

/// Returns the text after a word and white space, if the line begins with them.
fn after<'a>(word: &str, line: &'a str) -> Option<&'a str> {
    let rest = line.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace))?;
    Some(rest.trim_start())
}

/// Returns the mismatch in an action with the name of that and of its argument, as for a command.
fn of_action(name: &str, mut invalid: Invalid) -> Invalid {
    if let Some(argument) = invalid.at.strip_prefix("actions[0].data.") {
        invalid.at = argument.to_owned();
        name.clone_into(&mut invalid.command);
    }
    invalid
}

fn whole(words: &[String]) -> Vec<Word> {
    words.iter().map(|word| Word::whole(word)).collect()
}

/// Returns the name at the beginning of words, and the words after it.
fn named(words: &[Word]) -> Result<(&str, &[Word]), Trouble> {
    match words.split_first() {
        Some((Word { key, value: None, .. }, rest)) => Ok((key, rest)),
        _ => Err(Trouble::Unclear("the name of a command comes first, then its arguments".into())),
    }
}

/// Reads the exit status in `exit N` and `quit N`. The kernel passes eight bits of it to the parent (`exit(3)`).
fn exit_status(command: &str, text: &str) -> Result<u8, Trouble> {
    let unclear = || Trouble::Unclear(format!("`{command} {text}`: an exit status is a number from 0 to 255"));
    text.parse().map_err(|_| unclear())
}

impl From<Unfinished> for Trouble {
    fn from(_: Unfinished) -> Self {
        Self::Unfinished
    }
}

impl From<Invalid> for Trouble {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(Box::new(invalid))
    }
}

#[cfg(test)]
mod tests;

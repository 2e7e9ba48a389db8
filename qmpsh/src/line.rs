//! Parser of a line: a command, JSON, a line for the human monitor, or a word of the shell.

use qemu_machine_blocking::core::schema::Invalid;
use qemu_machine_blocking::{Schema, Value};

use crate::split::{Unfinished, Word, cut, json_end};
use crate::value::Unparsed;

/// The meaning of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Instruction {
    /// An empty line, or a comment.
    Nothing,
    /// A command, with an object of arguments.
    Command(String, Value),
    /// A command that is written as JSON.
    Raw(String),
    /// A command for the human monitor.
    Human(String),
    /// Help on a command or an event; arguments select a variant. Without words, the overview.
    Help(Vec<Word>),
    /// The end of the shell.
    Exit,
}

/// Why a line is not an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The line continues: a quote or a bracket is not closed.
    Unfinished,
    /// The line is not valid.
    Unclear(String),
    /// The line is valid, but the command is not, by QEMU's schema.
    Invalid(Box<Invalid>),
}

/// The commands of the shell itself. QEMU has no command with one of these names.
pub(crate) const OWN: [&str; 3] = ["exit", "help", "hmp"];

impl Instruction {
    /// Reads a line. With a schema, values get its types, and the command is checked.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(crate) fn read(line: &str, schema: Option<&Schema>) -> Result<Self, Trouble> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(Self::Nothing);
        }
        if line.starts_with('{') {
            return match json_end(line) {
                Ok(_) => Ok(Self::Raw(line.into())),
                Err(Unfinished) => Err(Trouble::Unfinished),
            };
        }
        if let Some(human) = line.strip_prefix("hmp").filter(|rest| rest.starts_with(char::is_whitespace)) {
            return Ok(Self::Human(human.trim().into()));
        }
        Self::of_words(&cut(line)?, schema)
    }

    /// Reads a line for the human monitor. Only `exit` is a command of the shell there: `help` is QEMU's.
    pub(crate) fn read_human(line: &str) -> Self {
        match line.trim() {
            line if line.is_empty() || line.starts_with('#') => Self::Nothing,
            "exit" => Self::Exit,
            line => Self::Human(line.into()),
        }
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
            words => Self::of_words(&words.iter().map(|word| Word::whole(word)).collect::<Vec<_>>(), schema),
        }
    }

    fn of_words(words: &[Word], schema: Option<&Schema>) -> Result<Self, Trouble> {
        let Some((Word { key, value: None, .. }, rest)) = words.split_first() else {
            return Err(Trouble::Unclear("the name of a command comes first, then its arguments".into()));
        };
        match &**key {
            "help" => return Ok(Self::Help(rest.to_vec())),
            "exit" if rest.is_empty() => return Ok(Self::Exit),
            "hmp" => return Err(Trouble::Unclear("`hmp`: a command for the human monitor is missing".into())),
            _ => {}
        }
        let unknown = |schema: &Schema| schema.arguments(key).is_none().then(|| schema.check(key).err()).flatten();
        if let Some(unknown) = schema.and_then(unknown) {
            return Err(unknown.into());
        }
        let given = Unparsed::gather(rest).map_err(Trouble::Unclear)?;
        let arguments = given.value(schema.and_then(|schema| schema.arguments(key)));
        if let Some(schema) = schema {
            schema.check(&(key.as_str(), &arguments))?;
        }
        Ok(Self::Command(key.clone(), arguments))
    }

    /// Reports whether QEMU ends when the instruction succeeds. `q` is `quit` (QEMU, `hmp-commands.hx`).
    pub(crate) fn ends_qemu(&self) -> bool {
        match self {
            Self::Command(name, _) => name == "quit",
            Self::Raw(object) => object.parse().is_ok_and(|object: Value| object["execute"] == "quit"),
            Self::Human(line) => ["q", "quit"].contains(&line.as_str()),
            Self::Nothing | Self::Help(_) | Self::Exit => false,
        }
    }
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

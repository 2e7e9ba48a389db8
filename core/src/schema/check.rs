//! Check of a command against the schema of a QEMU, with the first mismatch as its error.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde_json::{Map, Value};

use super::nearest::nearest;
use super::{Kind, Member, Schema, Shape};
use crate::command::Command;
use crate::text::Printable;

/// Commands that accept members which are not in the schema. The properties of a device are in none (QEMU,
/// `qapi/qdev.json`, `device_add`); older QEMUs leave those of a network backend or an object out as well. To refuse an
/// unknown member here would refuse most uses of the command.
const OPEN: [&str; 3] = ["device_add", "netdev_add", "object-add"];

/// Mismatch between a command and the schema of a QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalid {
    /// The name of the command.
    pub command: String,
    /// The member of the arguments: `file.filename`, or `servers[0].port`. Empty means the arguments as a whole.
    pub at: String,
    /// The mismatch there.
    pub problem: Problem,
    /// The known name or value that is most similar to the unknown one. `None` means that none is similar.
    pub nearest: Option<String>,
}

/// Kind of mismatch between a command and the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// This QEMU has no such command.
    UnknownCommand,
    /// This QEMU does not execute the command out of band.
    NotOutOfBand,
    /// The command has no such argument.
    UnknownArgument,
    /// A mandatory argument is missing.
    Missing,
    /// The value has the wrong kind of JSON.
    WrongKind {
        /// The kind in the schema.
        expected: Kind,
        /// The kind of the value.
        found: Kind,
    },
    /// The value is not one of the enum.
    UnknownValue(String),
    /// The arguments could not be serialized as JSON, for this reason.
    Unwritable(String),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, at, problem, nearest } = self;
        let place = if at.is_empty() { "the arguments".to_string() } else { format!("`{}`", Printable::line(at)) };
        write!(f, "`{}`", Printable::line(command))?;
        match problem {
            Problem::UnknownCommand => f.write_str(": no such command"),
            Problem::NotOutOfBand => f.write_str(" cannot be executed out of band"),
            Problem::UnknownArgument => write!(f, ": no argument {place}"),
            Problem::Missing => write!(f, ": {place} is missing"),
            Problem::WrongKind { expected, found } => write!(f, ": {place} must be {expected}, and is {found}"),
            Problem::UnknownValue(value) => write!(f, ": {place} cannot be `{}`", Printable::line(value)),
            Problem::Unwritable(reason) => {
                write!(f, ": {place} cannot be written as JSON: {}", Printable::line(reason))
            }
        }?;
        match nearest {
            Some(nearest) => write!(f, "; did you mean `{}`?", Printable::line(nearest)),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Invalid {}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Enum => "one of several words",
            Self::Array => "an array",
            Self::Object => "an object",
            Self::Alternate => "one of several kinds",
        })
    }
}

/// A mismatch, and its place relative to the value that is being checked.
struct Wrong {
    at: String,
    problem: Problem,
    nearest: Option<String>,
}

impl Wrong {
    fn here(problem: Problem) -> Self {
        Self { at: String::new(), problem, nearest: None }
    }

    /// Returns the same mismatch with its place relative to the enclosing value.
    fn below(mut self, member: &str) -> Self {
        let dot = if self.at.is_empty() || self.at.starts_with('[') { "" } else { "." };
        self.at = format!("{member}{dot}{}", self.at);
        self
    }
}

impl Schema {
    /// Checks a command against the schema: that the command exists, that it takes these arguments, and, if the command
    /// is to be executed out of band, that it can be.
    ///
    /// A command that passes may still fail when QEMU executes it. Some commands accept arguments which are not in the
    /// schema (the properties of a device, in `device_add`); unknown arguments of those pass.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with the first mismatch, its place, and the most similar known name.
    pub fn check<C: Command>(&self, command: &C) -> Result<(), Invalid> {
        let name = command.name();
        let wrong = match command.arguments().map(serde_json::to_value).transpose() {
            Ok(arguments) => {
                let arguments = arguments.filter(|arguments| !arguments.is_null());
                let arguments = arguments.unwrap_or_else(|| Value::Object(Map::new()));
                self.check_arguments(name, &arguments, command.out_of_band())
            }
            Err(error) => Err(Wrong::here(Problem::Unwritable(error.to_string()))),
        };
        wrong.map_err(|Wrong { at, problem, nearest }| Invalid { command: name.to_string(), at, problem, nearest })
    }

    fn check_arguments(&self, name: &str, arguments: &Value, out_of_band: bool) -> Result<(), Wrong> {
        let Some(signature) = self.commands.get(name) else {
            let nearest = nearest(name, self.commands());
            return Err(Wrong { nearest, ..Wrong::here(Problem::UnknownCommand) });
        };
        if out_of_band && !signature.out_of_band {
            return Err(Wrong::here(Problem::NotOutOfBand));
        }
        let Some(shape) = self.shape(&signature.arguments) else { return Ok(()) };
        match arguments {
            Value::Object(members) if OPEN.contains(&name) && shape.tag().is_none() => shape.check_known(members),
            arguments => shape.check(arguments),
        }
    }
}

impl<'a> Shape<'a> {
    fn check(self, value: &Value) -> Result<(), Wrong> {
        match (self.kind(), value) {
            (Kind::Any, _)
            | (Kind::Null, Value::Null)
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::String, Value::String(_))
            | (Kind::Number, Value::Number(_)) => Ok(()),
            (Kind::Integer, Value::Number(number)) if !number.is_f64() => Ok(()),
            (Kind::Enum, Value::String(word)) => self.check_word(word),
            (Kind::Array, Value::Array(elements)) => self.check_elements(elements),
            (Kind::Object, Value::Object(members)) => self.check_object(members),
            (Kind::Alternate, value) => match self.alternatives().find(|shape| shape.takes(value)) {
                Some(shape) => shape.check(value),
                None => self.wrong_kind(value),
            },
            (_, value) => self.wrong_kind(value),
        }
    }

    fn wrong_kind(self, value: &Value) -> Result<(), Wrong> {
        Err(Wrong::here(Problem::WrongKind { expected: self.kind(), found: kind_of(value) }))
    }

    /// Returns whether this alternative is meant. Alternatives differ in their kind of JSON (QEMU,
    /// `qapi/introspect.json`, `SchemaInfoAlternate`).
    fn takes(self, value: &Value) -> bool {
        match (self.kind(), kind_of(value)) {
            (Kind::Any, _) | (Kind::Enum, Kind::String) | (Kind::Number, Kind::Integer) => true,
            (kind, other) => kind == other,
        }
    }

    fn check_word(self, word: &str) -> Result<(), Wrong> {
        if self.values().any(|value| value == word) {
            return Ok(());
        }
        let problem = Problem::UnknownValue(word.to_string());
        Err(Wrong { nearest: nearest(word, self.values()), ..Wrong::here(problem) })
    }

    fn check_elements(self, elements: &[Value]) -> Result<(), Wrong> {
        let Some(shape) = self.element() else { return Ok(()) };
        let mut elements = elements.iter().enumerate();
        elements.try_for_each(|(index, value)| shape.check(value).map_err(|wrong| wrong.below(&format!("[{index}]"))))
    }

    fn check_object(self, members: &Map<String, Value>) -> Result<(), Wrong> {
        // The tag selects the other members, so it is checked first. Unknown members are reported before missing ones:
        // a misspelt mandatory name is both, and only the first report can suggest the right name.
        let tag = self.members().find(|member| Some(member.name) == self.tag());
        if let Some((tag, value)) = tag.and_then(|tag| Some((tag, members.get(tag.name)?))) {
            tag.shape.check(value).map_err(|wrong| wrong.below(tag.name))?;
        }
        let known = |name: &str| self.known(members).any(|member| member.name == name);
        if let Some(unknown) = members.keys().find(|name| !known(name)) {
            let others = self.known(members).filter(|member| !members.contains_key(member.name));
            let nearest = nearest(unknown, others.map(|member| member.name));
            return Err(Wrong { nearest, ..Wrong::here(Problem::UnknownArgument) }.below(unknown));
        }
        self.check_known(members)
    }

    /// Checks the members that are in the schema, and ignores all others.
    fn check_known(self, members: &Map<String, Value>) -> Result<(), Wrong> {
        self.certain(members).try_for_each(|member| match members.get(member.name) {
            Some(value) => member.shape.check(value).map_err(|wrong| wrong.below(member.name)),
            None if member.optional => Ok(()),
            None => Err(Wrong::here(Problem::Missing).below(member.name)),
        })
    }

    /// Returns the members that this object may have. Without a tag in the object these include the members of every
    /// variant.
    fn known(self, members: &Map<String, Value>) -> impl Iterator<Item = Member<'a>> {
        let is_open = self.tag().is_some_and(|tag| !members.contains_key(tag));
        let any = is_open.then(|| self.members_of_any());
        self.certain(members).chain(any.into_iter().flatten())
    }

    /// Returns the members that this object has for sure, given its tag.
    fn certain(self, members: &Map<String, Value>) -> impl Iterator<Item = Member<'a>> {
        self.members_with(self.tag().and_then(|tag| members.get(tag)).and_then(Value::as_str))
    }
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) if number.is_f64() => Kind::Number,
        Value::Number(_) => Kind::Integer,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }
}

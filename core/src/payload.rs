//! Payload of a reply: its JSON, as QEMU sent it, with the name of the command.

use alloc::string::ToString;
use core::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::command_name::CommandName;
use crate::json;
use crate::text::{Printable, UntrustedText};

/// Valid JSON that is not parsed yet, as QEMU sent it. It is a slice of the received bytes, not a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    json: Bytes,
    command: CommandName,
}

impl Payload {
    /// Returns a payload of no known command.
    pub(crate) fn new(json: Bytes) -> Self {
        Self { json, command: CommandName::default() }
    }

    /// Returns the same payload, as the reply to this command.
    pub(crate) fn of(self, command: CommandName) -> Self {
        Self { command, ..self }
    }

    /// Returns the name of the command that this is the reply to. Empty for a command that the caller wrote as JSON.
    #[must_use]
    pub fn command(&self) -> UntrustedText {
        self.command.to_string().into()
    }

    /// Returns the JSON as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Returns the JSON as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.json).unwrap_or_default()
    }

    /// Parses the JSON as a value of a type.
    ///
    /// # Errors
    ///
    /// When the JSON is not of that type, with line and column; or when it is nested more than 127 levels deep, with its
    /// depth. [`read_value`](Self::read_value) reads more levels.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        json::read(&self.json)
    }

    /// Parses the JSON as a [`Value`] of at most 1,024 levels, with little of the stack whatever the depth. The drop of
    /// so deep a value recurses: see [`drop_deep`](crate::drop_deep).
    ///
    /// # Errors
    ///
    /// When the JSON is nested deeper, with its depth; or holds a number that no `f64` can be.
    pub fn read_value(&self) -> Result<Value, serde_json::Error> {
        json::read_value(&self.json)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable::json(self.as_str()), f)
    }
}

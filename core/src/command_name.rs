//! Name of a command: read from its encoded body, and kept while the command is on the wire.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::Deserialize;

use crate::text::lossy;
use crate::wire::find_special;

/// The beginnings of a body that this module's encoder wrote.
const PLAIN: [&[u8]; 2] = [b"{\"execute\":\"", b"{\"exec-oob\":\""];

/// The name of a command on the wire, with its escapes. A short name costs no allocation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum CommandName {
    /// The length, and an array that holds so many bytes of name.
    Short(u8, [u8; Self::SHORT]),
    Long(Box<[u8]>),
}

impl CommandName {
    /// The longest command name has 38 bytes: `blockdev-snapshot-delete-internal-sync` (measured with QEMU 7.2.22).
    const SHORT: usize = 46;

    /// Returns the name in a body without its id. A raw command has an empty name: its caller receives the reply
    /// unparsed, and a refusal too, so no [`Refusal`](crate::Refusal) names it.
    pub(crate) fn of(body: &[u8]) -> Self {
        let name = find(body);
        let mut short = [0; Self::SHORT];
        match short.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name);
                Self::Short(name.len() as u8, short)
            }
            None => Self::Long(name.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// The name of no command: it is empty.
impl Default for CommandName {
    fn default() -> Self {
        Self::Short(0, [0; Self::SHORT])
    }
}

/// Writes the name as the caller passed it: without the escapes of JSON.
impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&unescaped(self.as_bytes()))
    }
}

impl fmt::Debug for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&lossy(self.as_bytes()), f)
    }
}

/// Returns the name in a body without its id, also of a raw command. Empty means that the body has none.
pub(crate) fn name_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Written {
        #[serde(alias = "exec-oob")]
        execute: String,
    }
    match find(body) {
        b"" => {
            serde_json::from_slice(&[body, b"}"].concat()).map_or_else(|_| String::new(), |Written { execute }| execute)
        }
        name => unescaped(name),
    }
}

/// Finds the name in a body: up to its closing quote, or the first word of a line for qtest.
fn find(body: &[u8]) -> &[u8] {
    let Some(rest) = PLAIN.iter().find_map(|begin| body.strip_prefix(*begin)) else {
        let is_line = body.first().is_some_and(|first| *first != b'{');
        let word = body.trim_ascii_start().split(u8::is_ascii_whitespace).next();
        return word.filter(|_| is_line).unwrap_or_default();
    };
    let end = match find_special(rest, 0) {
        Some(end) if rest[end] == b'"' => Some(end),
        Some(_) => end_of_escaped(rest),
        None => None,
    };
    &rest[..end.unwrap_or(rest.len())]
}

/// Finds the closing quote of a name with escapes.
#[cold]
fn end_of_escaped(name: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    name.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    })
}

fn unescaped(name: &[u8]) -> String {
    let name = lossy(name);
    if name.contains('\\') { serde_json::from_str(&format!("\"{name}\"")).unwrap_or(name) } else { name }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use crate::command::OutOfBand;
    use crate::wire::Encoded;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_read_back_as_it_was_encoded(name in any::<String>(), with_arguments in any::<bool>()) {
            let command = |name| Encoded::command(&name).expect("it has no arguments");
            let encoded = match with_arguments {
                true => Encoded::command(&(&*name, [("a", "\"}")].into_iter().collect::<std::collections::BTreeMap<_, _>>())),
                false => Ok(command(&*name)),
            };
            let encoded = encoded.expect("an object");
            prop_assert_eq!(CommandName::of(&encoded.body).to_string(), name.clone());
            prop_assert_eq!(name_of(&encoded.body), name);
        }
    }

    #[test]
    fn each_kind_of_command_has_a_name() {
        let named = |encoded: Encoded| (CommandName::of(&encoded.body).to_string(), name_of(&encoded.body));
        let both = |name: &str| (name.to_string(), name.to_string());
        assert_eq!(named(Encoded::command(&OutOfBand("query-yank")).unwrap()), both("query-yank"));
        assert_eq!(named(Encoded::line("  readb 0x70").unwrap()), both("readb"));
        let raw = Encoded::raw(br#" { "arguments": {}, "exec-oob" : "a-b" } "#).unwrap();
        assert_eq!(named(raw), (String::new(), "a-b".into()));
        assert_eq!(named(Encoded::raw(b"{}").unwrap()), both(""));
        let long = "x".repeat(100);
        assert_eq!(named(Encoded::command(&long).unwrap()), both(&long));
    }
}

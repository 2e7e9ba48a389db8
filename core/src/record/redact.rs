//! Decides how a secret is taken out of a record so that what is left still replays: each byte of it becomes another.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use memchr::memmem;
use serde_json::Value;

use super::{Entry, Line, Record, Told};
use crate::input::Channel;

/// A text that is too short to be hidden wherever it stands: half of the record would be hidden with it.
/// Of how many bytes a secret is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {0} bytes")]
pub struct TooShort(pub usize);

impl Record {
    const SHORTEST: usize = 4;

    /// Hides a text wherever it stands: in commands, in replies, on consoles, in arguments; also where it came in several
    /// pieces. Returns in how many places it was.
    ///
    /// # Errors
    ///
    /// [`TooShort`] below four bytes.
    ///
    /// ```
    /// # use qemu_machine_core::{Config, Machine};
    /// let config = Config::new("qemu-system-x86_64").args(["-object", "secret,id=s0,data=hunter22"]);
    /// let mut record = Machine::new(config.recorded())?.record().expect("it is recorded");
    /// assert_eq!(record.redact("hunter22"), Ok(1));
    /// assert!(record.to_string().contains("secret,id=s0,data=xxxxxxxx"));
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    pub fn redact(&mut self, secret: &str) -> Result<usize, TooShort> {
        if secret.len() < Self::SHORTEST {
            return Err(TooShort(Self::SHORTEST));
        }
        let quoted = Value::from(secret).to_string();
        let escaped = quoted.trim_matches('"');
        let mut hidden = self.change(|bytes| hide(bytes, secret.as_bytes()));
        if escaped != secret {
            hidden += self.change(|bytes| hide(bytes, escaped.as_bytes()));
        }
        Ok(hidden)
    }

    /// Hides the text behind this member of JSON objects, in commands, replies and events: `password`, say. And where such
    /// a text is long enough, wherever else it stands. Returns in how many places it was.
    pub fn redact_member(&mut self, name: &str) -> usize {
        let key = Value::from(name).to_string();
        let mut secrets = Vec::new();
        let mut hidden = self.change(|bytes| hide_member(bytes, key.as_bytes(), &mut secrets));
        for secret in secrets {
            hidden += self.redact(&secret).unwrap_or_default();
        }
        hidden
    }

    /// Changes bytes in place: those of each channel and direction as one stream, and each other text by itself. Counts
    /// what is changed.
    fn change(&mut self, mut each: impl FnMut(&mut [u8]) -> usize) -> usize {
        let mut streams: BTreeMap<(bool, Channel), Vec<u8>> = BTreeMap::new();
        for (stream, bytes) in self.lines.iter_mut().filter_map(Line::streamed) {
            streams.entry(stream).or_default().extend_from_slice(bytes);
        }
        let mut changed: usize = streams.values_mut().map(|bytes| each(bytes)).sum();
        let mut positions = BTreeMap::new();
        for line in &mut self.lines {
            if let Some((stream, bytes)) = line.streamed() {
                let from = positions.entry(stream).or_insert(0);
                bytes.copy_from_slice(&streams[&stream][*from..*from + bytes.len()]);
                *from += bytes.len();
            } else {
                changed += line.change(&mut each);
            }
        }
        changed
    }
}

impl Line {
    /// The bytes of a channel, with which it is and whether they went out.
    fn streamed(&mut self) -> Option<((bool, Channel), &mut [u8])> {
        match &mut self.entry {
            Entry::Told(Told::Received { from, bytes }) => Some(((false, *from), bytes)),
            Entry::Told(Told::Sent { to, bytes }) => Some(((true, *to), bytes)),
            _ => None,
        }
    }

    fn change(&mut self, each: &mut impl FnMut(&mut [u8]) -> usize) -> usize {
        let Ok(mut json) = serde_json::to_value(&*self) else { return 0 };
        let changed = change_texts(&mut json, each);
        // A secret that is a word of the record itself stays in those.
        let Ok(line) = serde_json::from_value(json) else { return 0 };
        *self = line;
        changed
    }
}

fn change_texts(json: &mut Value, each: &mut impl FnMut(&mut [u8]) -> usize) -> usize {
    match json {
        Value::String(text) => {
            let mut bytes = core::mem::take(text).into_bytes();
            let changed = each(&mut bytes);
            *text = String::from_utf8(bytes).unwrap_or_default();
            changed
        }
        Value::Array(items) => items.iter_mut().map(|item| change_texts(item, each)).sum(),
        Value::Object(members) => members.values_mut().map(|member| change_texts(member, each)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// What a byte of a secret becomes: a number stays one.
fn mask(secret: &mut [u8]) {
    let mask = if secret.iter().all(u8::is_ascii_digit) { b'1' } else { b'x' };
    secret.fill(mask);
}

fn hide(bytes: &mut [u8], secret: &[u8]) -> usize {
    let places: Vec<usize> = memmem::find_iter(bytes, secret).collect();
    for at in &places {
        mask(&mut bytes[*at..*at + secret.len()]);
    }
    places.len()
}

/// Hides the strings behind a key in its quotes, and adds them to the secrets.
fn hide_member(bytes: &mut [u8], key: &[u8], secrets: &mut Vec<String>) -> usize {
    let places: Vec<usize> = memmem::find_iter(bytes, key).map(|at| at + key.len()).collect();
    let mut hidden = 0;
    for behind in places {
        let Some(start) = string_behind_colon(&bytes[behind..]).map(|start| behind + start) else { continue };
        let length = end_of_string(&bytes[start..]);
        let inside = &mut bytes[start..start + length];
        let quoted = [b"\"", &*inside, b"\""].concat();
        secrets.extend(serde_json::from_slice::<String>(&quoted));
        mask(inside);
        hidden += 1;
    }
    hidden
}

/// Where the string begins that stands behind a colon, if that is what comes.
fn string_behind_colon(bytes: &[u8]) -> Option<usize> {
    let value = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(bytes.len() - value.len())
}

/// How long the inside of a string is.
fn end_of_string(bytes: &[u8]) -> usize {
    let mut escaped = false;
    let is_end = |byte: &u8| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    };
    bytes.iter().position(is_end).unwrap_or(bytes.len())
}

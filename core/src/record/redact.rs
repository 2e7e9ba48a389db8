//! Redaction of secrets in a record: each byte of a secret is replaced in the inputs, and a replay writes the outputs
//! again, so that the redacted record still replays.

use crate::record;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use super::line::{Entry, Line};
use super::lines::Record;
use super::mask::{SecretKind, Secrets, hide_named};
use super::text::{digits, undigits};
use crate::channel::Channel;
use crate::machine::Machine;

/// The error for a secret that is too short: its text occurs by chance in half of the lines, which would be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is too short: it must have at least {0} bytes")]
pub struct TooShort(usize);

/// Stream whose bytes are searched as one, since a secret may be split over several lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    // The order matters: values from our side are found before those of a peer.
    Sent(Channel),
    Typed(String),
    Received(Channel),
}

impl Record {
    /// The fewest bytes of a secret: shorter texts occur by chance in every other line.
    const SHORTEST: usize = 4;

    /// The most values, and the most bytes of a value, that are searched in the whole record. A peer chooses both, and
    /// without a bound it could make the redaction take for ever.
    const MOST: usize = 1_000;
    const LONGEST: usize = 4 << 10;

    /// Masks a text everywhere: in commands, replies, consoles and arguments, also if it arrived in several pieces, or
    /// is escaped in JSON or in an option. Returns the number of places in inputs and sent bytes.
    ///
    /// Other encodings of the text, such as base64, are not found. Do not redact a word of the protocol (`return`):
    /// without it the record replays as another run.
    ///
    /// # Errors
    ///
    /// [`TooShort`] when the secret has fewer than four bytes.
    ///
    /// ```
    /// # use qemu_machine_core::{Config, Machine};
    /// let config = Config::new("qemu-system-x86_64").args(["-object", "secret,id=s0,data=hunter22"]);
    /// let mut record = Machine::new(config.recorded())?.record().expect("a recorded machine");
    /// assert_eq!(record.redact("hunter22"), Ok(1));
    /// assert!(record.to_string().contains("secret,id=s0,data=xxxxxxxx"));
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    pub fn redact(&mut self, secret: &str) -> Result<usize, TooShort> {
        if secret.len() < Self::SHORTEST {
            return Err(TooShort(Self::SHORTEST));
        }
        let secrets = Secrets::new([secret]);
        let hidden = self.change(|bytes, kind| secrets.hide(bytes, kind));
        self.say_again();
        Ok(hidden)
    }

    /// Masks the values of this name: of members of JSON objects (`"password": "…"`) in commands, replies and events,
    /// and of options (`password=…`). A value of 4 bytes to 4 KiB is then masked everywhere else too, as by
    /// [`redact`](Self::redact). This is done for the first thousand values: those that we sent come before those of a
    /// peer. Numbers, arrays and objects stay. Returns the number of places in inputs and sent bytes.
    pub fn redact_member(&mut self, name: &str) -> usize {
        let mut found = Vec::new();
        let mut hidden = self.change(|bytes, _| hide_named(bytes, name, &mut found));
        let mut known = BTreeSet::new();
        let fits = |secret: &&String| (Self::SHORTEST..=Self::LONGEST).contains(&secret.len());
        let found = found.iter().filter(fits).map(|secret| &**secret).filter(|secret| known.insert(*secret));
        let secrets = Secrets::new(found.take(Self::MOST));
        hidden += self.change(|bytes, kind| secrets.hide(bytes, kind));
        self.say_again();
        hidden
    }

    /// Changes all texts in place: each stream as one text, other texts by themselves. Returns the number of changes in
    /// inputs.
    fn change(&mut self, mut each: impl FnMut(&mut [u8], SecretKind) -> usize) -> usize {
        let is_said = |line: &Line| matches!(line.entry, Entry::Output(_));
        let told = self.change_lines(|line| !is_said(line), &mut each);
        let streamed = self.change_streams(&mut each);
        told + streamed + self.change_lines(is_said, &mut each)
    }

    fn change_lines(
        &mut self,
        which: impl Fn(&Line) -> bool,
        each: &mut impl FnMut(&mut [u8], SecretKind) -> usize,
    ) -> usize {
        let lines = self.lines.iter_mut().filter(|line| which(line));
        lines.map(|line| if line.streamed().is_some() { 0 } else { line.change(each) }).sum()
    }

    fn change_streams(&mut self, each: &mut impl FnMut(&mut [u8], SecretKind) -> usize) -> usize {
        let mut streams: BTreeMap<Stream, Vec<u8>> = BTreeMap::new();
        for (stream, bytes) in self.lines.iter_mut().filter_map(Line::streamed) {
            streams.entry(stream).or_default().extend_from_slice(bytes);
        }
        let changed = streams.iter_mut().map(|(stream, bytes)| each(bytes, stream.kind())).sum();
        let mut positions = BTreeMap::new();
        for (stream, bytes) in self.lines.iter_mut().filter_map(Line::streamed) {
            let Some(whole) = streams.get(&stream) else { continue };
            let from = positions.entry(stream).or_insert(0);
            bytes.copy_from_slice(&whole[*from..*from + bytes.len()]);
            *from += bytes.len();
        }
        changed
    }

    /// Writes the outputs and the sent bytes again, by a replay of the changed inputs. After a gap a replay is
    /// impossible: there the outputs stay, with the secrets masked.
    fn say_again(&mut self) {
        let gap = self.lines.iter().position(|line| matches!(line.entry, Entry::Dropped(_)));
        let whole = gap.unwrap_or(self.lines.len());
        let Some(first @ Line { entry: Entry::Machine(beginning), .. }) = self.lines.first() else { return };
        let Ok(mut machine) = Machine::at_first_line(beginning, first) else { return };
        for line in &self.lines[1..whole] {
            if let Entry::Input(input) = &line.entry {
                machine.repeat(line.at, input);
            }
        }
        self.lines.splice(..whole, machine.lines_from(0).iter().cloned());
    }
}

impl Stream {
    /// Returns the encoding of the stream: the monitor's is JSON.
    fn kind(&self) -> SecretKind {
        match self {
            Self::Received(Channel::Monitor) | Self::Sent(Channel::Monitor) => SecretKind::Json,
            Self::Received(_) | Self::Sent(_) | Self::Typed(_) => SecretKind::Plain,
        }
    }
}

impl Line {
    /// Returns the stream and the bytes of the line, if it has bytes of a stream.
    fn streamed(&mut self) -> Option<(Stream, &mut [u8])> {
        match &mut self.entry {
            Entry::Input(record::Input::Received { from, bytes }) => Some((Stream::Received(*from), bytes)),
            Entry::Input(record::Input::Sent { to, bytes }) => Some((Stream::Sent(*to), bytes)),
            Entry::Input(record::Input::ConsoleWrite { console, text }) => Some((Stream::Typed(console.clone()), text)),
            _ => None,
        }
    }

    /// Masks the texts of a line. Returns the number of places if the line is an input, otherwise 0.
    fn change(&mut self, each: &mut impl FnMut(&mut [u8], SecretKind) -> usize) -> usize {
        let kind = match &self.entry {
            Entry::Input(record::Input::Execute(_) | record::Input::Undo { .. })
            | Entry::Output(record::Output::Answered { .. } | record::Output::Event(_)) => SecretKind::Json,
            _ => SecretKind::Plain,
        };
        let is_told = !matches!(self.entry, Entry::Output(_));
        let Ok(json) = serde_json::to_value(&*self) else { return 0 };
        let mut masked = json.clone();
        let mut changed = change_texts(&mut masked, &mut |bytes| each(bytes, kind));
        if changed > 0 {
            match serde_json::from_value(masked) {
                Ok(line) => *self = line,
                Err(_) => changed = self.change_one_by_one(json, &mut |bytes| each(bytes, kind)),
            }
        }
        if is_told { changed } else { 0 }
    }

    /// Masks the texts of a line one at a time, for a line that cannot be parsed when all are masked: an address
    /// becomes `0.0.0.0:0`, and a word of the record's format stays.
    fn change_one_by_one(&mut self, mut json: Value, each: &mut impl FnMut(&mut [u8]) -> usize) -> usize {
        let mut changed = 0;
        let mut places = Vec::new();
        find_texts(&json, "", &mut places);
        for place in places {
            let Some(text) = json.pointer(&place).cloned() else { continue };
            let mut masked = text.clone();
            let count = change_texts(&mut masked, each);
            for candidate in [masked, Value::from("0.0.0.0:0"), text].into_iter().filter(|_| count > 0) {
                json.pointer_mut(&place).into_iter().for_each(|text| *text = candidate.clone());
                if let Ok(line) = serde_json::from_value(json.clone()) {
                    *self = line;
                    break;
                }
            }
            changed += count;
        }
        changed
    }
}

/// Changes each text, also one in hexadecimal digits. Returns the number of changes.
fn change_texts(json: &mut Value, each: &mut impl FnMut(&mut [u8]) -> usize) -> usize {
    match json {
        Value::String(text) => {
            let mut bytes = core::mem::take(text).into_bytes();
            let changed = each(&mut bytes);
            *text = String::from_utf8(bytes).unwrap_or_default();
            changed
        }
        Value::Object(members) if members.len() == 1 && members.contains_key("hex") => {
            let digits_of = |value: &Value| value.as_str().and_then(undigits);
            let Some(mut bytes) = members.get("hex").and_then(digits_of) else { return 0 };
            let changed = each(&mut bytes);
            members.insert("hex".to_string(), digits(&bytes).into());
            changed
        }
        Value::Array(items) => items.iter_mut().map(|item| change_texts(item, each)).sum(),
        Value::Object(members) => members.values_mut().map(|member| change_texts(member, each)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Collects the JSON pointers (RFC 6901) of all texts.
fn find_texts(json: &Value, here: &str, places: &mut Vec<String>) {
    match json {
        Value::String(_) => places.push(here.to_string()),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| find_texts(item, &format!("{here}/{index}"), places));
        }
        // No member of a line has a slash or a tilde in its name.
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| find_texts(member, &format!("{here}/{name}"), places));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

//! Redaction of secrets in a record: each byte of a secret is replaced in the inputs, and the outputs are written again by
//! a replay, so that the redacted record still replays.

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

/// A text that is too short to be hidden wherever it stands: half of the record would be hidden with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {0} bytes")]
pub struct TooShort(usize);

/// Bytes that are one stream, in whatever pieces they came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    // What is ours comes first.
    Sent(Channel),
    Typed(String),
    Received(Channel),
}

impl Record {
    /// Below that, texts are words of every other line.
    const SHORTEST: usize = 4;

    /// A peer decides how many texts stand behind a name, and how long they are; and each is looked for in all of the
    /// record.
    const MOST: usize = 1_000;
    const LONGEST: usize = 4 << 10;

    /// Hides a text wherever it stands: in commands, in replies, on consoles, in arguments; also where it came in several
    /// pieces, and where JSON or an option has it escaped. Returns in how many places it was told.
    ///
    /// What a program made of it (in base64, say) is not found. A secret that is a word of the protocol (`return`) makes
    /// another run of it.
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
        let secrets = Secrets::new([secret]);
        let hidden = self.change(|bytes, kind| secrets.hide(bytes, kind));
        self.say_again();
        Ok(hidden)
    }

    /// Hides the text behind this name: as a member of JSON objects (`"password": "…"`) in commands, replies and events, and
    /// as an option (`password=…`). Where such a text has four bytes to four kilobytes, it is hidden wherever else it stands,
    /// as with [`redact`](Self::redact); of more than a thousand, those that were said first, and by us before a peer.
    /// Numbers, lists and objects behind it stay. Returns in how many places something was hidden.
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

    /// Changes what was told, in place: streams as one, other texts by themselves. Counts what is changed.
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

    /// What a machine says follows from what it is told, and so does what goes out. Behind a gap nothing follows: there
    /// what was said stays, hidden as well.
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
    /// What goes over a monitor is JSON.
    fn kind(&self) -> SecretKind {
        match self {
            Self::Received(Channel::Monitor) | Self::Sent(Channel::Monitor) => SecretKind::Json,
            Self::Received(_) | Self::Sent(_) | Self::Typed(_) => SecretKind::Plain,
        }
    }
}

impl Line {
    /// The bytes of a stream, if it is some.
    fn streamed(&mut self) -> Option<(Stream, &mut [u8])> {
        match &mut self.entry {
            Entry::Input(record::Input::Received { from, bytes }) => Some((Stream::Received(*from), bytes)),
            Entry::Input(record::Input::Sent { to, bytes }) => Some((Stream::Sent(*to), bytes)),
            Entry::Input(record::Input::ConsoleWrite { console, text }) => Some((Stream::Typed(console.clone()), text)),
            _ => None,
        }
    }

    /// Hides something in the texts of a line, and counts where it was told.
    fn change(&mut self, each: &mut impl FnMut(&mut [u8], SecretKind) -> usize) -> usize {
        let kind = match &self.entry {
            Entry::Input(record::Input::Execute(_))
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

    /// Some texts cannot be masked: an address becomes that of nobody, and a word of the record stays.
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

/// Changes each text, also where it is in hexadecimal digits.
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

/// The JSON pointers (RFC 6901) of all texts.
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

//! Messages of the peer: greeting, reply, event, or an error that names no command.
//!
//! The envelope is looked for once, in the frame; what it carries stays a slice of the frame until somebody asks for a
//! value. Members that QMP does not know are ignored (QMP specification, section "Compatibility
//! considerations"), and so are new capabilities, events and error classes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::envelope::Envelope;
use super::scan;
use crate::event::Event;
use crate::fault::{ProtocolError, Refusal};
use crate::payload::Payload;
use crate::text::excerpt;

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "QMP has no others")]
pub enum Message {
    /// The first word of a monitor.
    Greeting(Greeting),
    /// The end of a command.
    Reply {
        /// The id of the command on the wire; none when it is not one of ours.
        id: Option<u16>,
        /// What the command returned.
        result: Result<Payload, ErrorReply>,
    },
    /// Something happened.
    Event(Event),
    /// An error that names no command: QEMU could not read a request so far as to find its id.
    Nameless(ErrorReply),
}

/// The error in a reply. It says nothing of the command: which one it is for follows from the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The class of the error: [`Refusal::class`].
    pub class: String,
    /// The description, for people: [`Refusal::description`].
    pub description: String,
}

impl ErrorReply {
    /// The refusal of this command.
    #[must_use]
    pub fn of(self, command: String) -> Refusal {
        let Self { class, description } = self;
        Refusal { command, class, description }
    }
}

/// What a monitor says of itself when it is connected.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Greeting {
    /// The version of QEMU.
    pub version: Version,
    /// What it can do beyond the basic protocol. The set is open; `oob` is the one defined today.
    #[serde(default, deserialize_with = "names")]
    pub capabilities: Vec<String>,
}

/// The version of a QEMU. Good for people; ask the schema, not the version, for what a QEMU can do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The numbers.
    pub qemu: Numbers,
    /// What the distribution calls its package; may be empty.
    #[serde(default)]
    pub package: String,
}

/// The three numbers of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Numbers {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbers { major, minor, micro } = self.qemu;
        write!(f, "{major}.{minor}.{micro}")?;
        if self.package.is_empty() { Ok(()) } else { write!(f, " ({})", self.package) }
    }
}

impl Message {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object, or not one that QMP knows.
    ///
    /// ```
    /// use qemu_machine_core::wire::Message;
    ///
    /// let frame = br#"{"return": {}, "id": 3}"#[..].into();
    /// assert!(matches!(Message::read(&frame), Ok(Message::Reply { id: Some(3), result: Ok(_) })));
    /// ```
    pub fn read(frame: &Bytes) -> Result<Self, ProtocolError> {
        let malformed = |reason: String| ProtocolError::Malformed { reason, excerpt: excerpt(frame) };
        if frame.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("not an object".to_string()));
        }
        let envelope: Envelope<'_> = match scan::envelope(frame) {
            Some(envelope) => envelope,
            None => serde_json::from_slice(frame).map_err(|error| malformed(error.to_string()))?,
        };
        if let Some(event) = envelope.event {
            let event = Event::read(frame, event, envelope.data);
            return event.map(Self::Event).map_err(|error| malformed(error.to_string()));
        }
        if envelope.value.is_some() && envelope.error.is_some() {
            // Whichever were believed, the other would be as true: what the command did is not known.
            return Err(malformed("both `return` and `error`".to_string()));
        }
        if let Some(value) = envelope.value {
            let payload = Payload(frame.slice_ref(value));
            return Ok(Self::Reply { id: envelope.id.and_then(ours), result: Ok(payload) });
        }
        if let Some(error) = envelope.error {
            let error: ErrorMember = object(error).map_err(malformed)?;
            let error = ErrorReply { class: error.class, description: error.desc };
            return Ok(match envelope.id {
                Some(id) => Self::Reply { id: ours(id), result: Err(error) },
                None => Self::Nameless(error),
            });
        }
        match envelope.greeting {
            Some(greeting) => object(greeting).map(Self::Greeting).map_err(malformed),
            None => Err(malformed("no member that QMP knows".to_string())),
        }
    }
}

/// Our ids are small numbers without a sign; whatever else comes back was never sent by us.
fn ours(id: &[u8]) -> Option<u16> {
    core::str::from_utf8(id).ok()?.parse().ok()
}

/// Reads a member that must be an object: serde alone would read a struct from a list of its parts as well.
fn object<'a, T: Deserialize<'a>>(member: &'a [u8]) -> Result<T, String> {
    if member.first() != Some(&b'{') {
        return Err("a member is not an object".to_string());
    }
    serde_json::from_slice(member).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct ErrorMember {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

/// Reads the names out of a list that may hold more than names one day.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Vec<serde_json::Value> = Deserialize::deserialize(deserializer)?;
    Ok(list.iter().filter_map(|item| item.as_str().map(ToString::to_string)).collect())
}

//! Messages of the peer: greeting, reply, event, or an error that names no command.
//!
//! The envelope is read once; the values in it stay slices of the frame until the caller reads one. Members that QMP
//! does not define are ignored, since new versions of QEMU may add some (`docs/interop/qmp-spec.rst`, Compatibility
//! Considerations). Capabilities, event names and error classes are open sets; a closed set would reject a newer QEMU.

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
use crate::text::{UntrustedText, excerpt};

/// A message of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "QMP defines no other messages")]
pub enum Message {
    /// The greeting of a monitor (`docs/interop/qmp-spec.rst`, Server Greeting).
    Greeting(Greeting),
    /// The reply to a command (`docs/interop/qmp-spec.rst`, Commands Responses).
    Reply {
        /// The id of the command. `None` means that the reply has no id, or one that no session sends.
        id: Option<u16>,
        /// The value that the command returned, or its error.
        result: Result<Payload, ErrorReply>,
    },
    /// An event (`docs/interop/qmp-spec.rst`, Asynchronous events).
    Event(Event),
    /// An error without an id: QEMU met the error before it had read the id of the request
    /// (`docs/interop/qmp-spec.rst`, Error). One malformed request can yield several (measured with QEMU 7.2.22).
    Nameless(ErrorReply),
}

/// The error in a reply. It does not name the command; the id of the reply does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The class of the error: [`Refusal::class`] (QEMU, `qapi/error.json`, `QapiErrorClass`).
    pub class: UntrustedText,
    /// The description: [`Refusal::description`]. It is for people, not for parsing (`docs/interop/qmp-spec.rst`,
    /// Error).
    pub description: UntrustedText,
}

impl ErrorReply {
    /// Returns the refusal of this command.
    #[must_use]
    pub fn of(self, command: String) -> Refusal {
        let Self { class, description } = self;
        Refusal { command: command.into(), class, description }
    }
}

/// The greeting that a monitor sends when a client connects (`docs/interop/qmp-spec.rst`, Server Greeting).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Greeting {
    /// The version of QEMU.
    pub version: Version,
    /// The capabilities that the monitor offers. The set is open; QEMU defines only `oob` (QEMU, `qapi/control.json`,
    /// `QMPCapability`). Entries that are not strings are dropped.
    #[serde(default, deserialize_with = "names")]
    pub capabilities: Vec<String>,
}

/// The version of a QEMU. It is for people: a program finds out from the schema what a QEMU can do, since distributions
/// backport features.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The numbers.
    pub qemu: Numbers,
    /// The name of the distribution's package. Empty in an upstream QEMU (QEMU, `qapi/control.json`, `VersionInfo`).
    #[serde(default)]
    pub package: UntrustedText,
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
    /// Reads a message from a frame.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Malformed`] when the frame is not a JSON object, or has no member that QMP defines.
    ///
    /// ```
    /// use qemu_machine_core::wire::Message;
    ///
    /// let frame = br#"{"return": {}, "id": 3}"#[..].into();
    /// assert!(matches!(Message::read(&frame), Ok(Message::Reply { id: Some(3), result: Ok(_) })));
    /// ```
    #[inline]
    pub fn read(frame: &Bytes) -> Result<Self, ProtocolError> {
        let malformed = |reason: String| ProtocolError::Malformed { reason: reason.into(), excerpt: excerpt(frame) };
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
            // Either may be true, so the outcome of the command is unknown.
            return Err(malformed("both `return` and `error`".to_string()));
        }
        if let Some(value) = envelope.value {
            let payload = Payload::new(frame.slice_ref(value));
            return Ok(Self::Reply { id: envelope.id.and_then(ours), result: Ok(payload) });
        }
        if let Some(error) = envelope.error {
            let error: ErrorMember = object(error).map_err(malformed)?;
            let error = ErrorReply { class: error.class.into(), description: error.desc.into() };
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

/// Returns whether a message has an id, of whatever kind.
pub(crate) fn has_id(frame: &[u8]) -> bool {
    let envelope = scan::envelope(frame).or_else(|| serde_json::from_slice(frame).ok());
    envelope.is_some_and(|envelope: Envelope<'_>| envelope.id.is_some())
}

/// Reads an id. A session sends only numbers of 16 bits without a sign, so any other id belongs to no command of ours.
fn ours(id: &[u8]) -> Option<u16> {
    let digit = |digit: u8| digit.is_ascii_digit().then(|| u16::from(digit - b'0'));
    let (first, rest) = id.split_first()?;
    rest.iter().try_fold(digit(*first)?, |id, next| id.checked_mul(10)?.checked_add(digit(*next)?))
}

/// Reads a member that must be an object. serde alone would read a struct from an array as well.
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

/// Reads the strings of a list, and drops its other entries, so that a future kind of entry is no error.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Vec<serde_json::Value> = Deserialize::deserialize(deserializer)?;
    Ok(list.iter().filter_map(|item| item.as_str().map(ToString::to_string)).collect())
}

//! Events that QEMU sends, with their history, subscriptions and patterns.

mod filter;
mod history;
mod matcher;
mod queue;
mod streaming;
mod subscription;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, Range};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::json;
use crate::text::Printable;

pub(crate) use filter::Filter;
pub use history::History;
pub use matcher::matches;
pub(crate) use streaming::Patterns;
pub use subscription::SubscriptionId;
pub(crate) use subscription::Subscriptions;

/// An asynchronous event, as QEMU sent it (`docs/interop/qmp-spec.rst`, Asynchronous events).
///
/// Names and data are open sets: events that this library does not know are handled as all others. QEMU limits some
/// events to one per second and drops all but the last of a burst (`docs/interop/qmp-spec.rst`, Asynchronous events),
/// so do not count them.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The message that the ranges point into.
    frame: Frame,
    name: Range<usize>,
    data: Option<Range<usize>>,
}

/// A full queue of events grows by one part in `QUEUE_GROWTH`, since doubling could take twice the bound in bytes.
const QUEUE_GROWTH: usize = 4;

/// The members of an event that few callers need. They are parsed on demand.
#[derive(Default, Deserialize)]
struct Stamped {
    #[serde(default)]
    timestamp: Timestamp,
}

/// The bytes of an event.
#[derive(Clone)]
enum Frame {
    /// A slice of the received bytes.
    Received(Bytes),
    /// A copy: one allocation, shared by all clones.
    Owned(Arc<[u8]>),
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Frame {}

/// Time of an event, by the clock of QEMU's host. Both members are -1 when QEMU could not read the host time
/// (`docs/interop/qmp-spec.rst`, Asynchronous events).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    pub seconds: i64,
    /// Microseconds within that second.
    pub microseconds: i64,
}

impl Event {
    /// Memory that a kept event occupies beside its message, in bytes: its slot in a queue, a share of the queue's
    /// spare capacity, and the overhead of the allocation. [`Limits::events`](crate::Limits::events) and
    /// [`Limits::subscription`](crate::Limits::subscription) count it.
    pub const OVERHEAD: usize = size_of::<Self>() + size_of::<Self>() / QUEUE_GROWTH + 4 * size_of::<usize>();

    /// Returns an event whose name and data are slices of `frame`. The name is still in its quotes.
    ///
    /// # Errors
    ///
    /// When the name is not a JSON string.
    pub(crate) fn read(frame: &Bytes, name: &[u8], data: Option<&[u8]>) -> Result<Self, serde_json::Error> {
        let range = |part: &[u8]| {
            let start = (part.as_ptr() as usize).wrapping_sub(frame.as_ptr() as usize);
            start..start + part.len()
        };
        let data = data.map(range);
        let text = name.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        if let Some(plain) = text.filter(|text| memchr::memchr(b'\\', text).is_none()) {
            return Ok(Self { frame: Frame::Received(frame.clone()), name: range(plain), data });
        }
        // QEMU escapes no name. For a peer that does, the unescaped name is stored after a copy of the message.
        let plain: String = serde_json::from_slice(name)?;
        let mut copy = Vec::with_capacity(frame.len() + plain.len());
        copy.extend_from_slice(frame);
        copy.extend_from_slice(plain.as_bytes());
        Ok(Self { name: frame.len()..copy.len(), frame: Frame::Owned(copy.into()), data })
    }

    /// Returns the name, for example `SHUTDOWN`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.frame.get(self.name.clone()).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// Returns the data as JSON text. `None` means that the event has no data, as `STOP`.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        let range = self.data.clone()?;
        self.frame.get(range).and_then(|data| core::str::from_utf8(data).ok())
    }

    /// Returns the whole message as bytes, as QEMU sent it, without the line feed behind it: with all members in their
    /// order, and with integers beyond 64 bits.
    ///
    /// ```
    /// # use qemu_machine_core::wire::Message;
    /// # let frame = br#"{"event": "X", "data": {"z": 18446744073709551616, "a": 1}}"#[..].into();
    /// # let Ok(Message::Event(event)) = Message::read(&frame) else { unreachable!() };
    /// assert_eq!(event.as_bytes(), br#"{"event": "X", "data": {"z": 18446744073709551616, "a": 1}}"#);
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // A name that was unescaped follows the message; any other is inside of it, before the last brace.
        let end = if self.name.end == self.frame.len() { self.name.start } else { self.frame.len() };
        self.frame.get(..end).unwrap_or_default()
    }

    /// Returns the whole message as text, as [`as_bytes`](Self::as_bytes).
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Parses the data as a value of a type. Data that is absent counts as `null`.
    ///
    /// # Errors
    ///
    /// When the data is not of that type, or is nested more than 127 levels deep. Fields may be absent: `DEVICE_DELETED`
    /// has no `device` for some devices (measured with QEMU 7.2.22).
    ///
    /// ```
    /// # use qemu_machine_core::wire::Message;
    /// # let frame = br#"{"event": "SHUTDOWN", "data": {"guest": true}}"#[..].into();
    /// # let Ok(Message::Event(event)) = Message::read(&frame) else { unreachable!() };
    /// let data: serde_json::Value = event.read_data()?;
    /// assert_eq!(data["guest"], true);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn read_data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        json::read(self.data_or_null().as_bytes())
    }

    /// Parses the data as a [`Value`], as [`Payload::read_value`](crate::Payload::read_value). Data that is absent
    /// counts as `null`.
    ///
    /// # Errors
    ///
    /// When the data is nested more than 1,024 levels deep, or holds a number that no `f64` can be.
    pub fn read_value(&self) -> Result<Value, serde_json::Error> {
        json::read_value(self.data_or_null().as_bytes())
    }

    /// Returns the time of the event, by QEMU's clock. A timestamp that is absent or cannot be read is
    /// [`Timestamp::default`], which is zero.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        // The unescaped name may follow the message, so only the first JSON value is read.
        let mut message = serde_json::Deserializer::from_slice(&self.frame);
        Stamped::deserialize(&mut message).unwrap_or_default().timestamp
    }

    /// Returns the data as JSON text. Data that is absent counts as `null`.
    pub(crate) fn data_or_null(&self) -> &str {
        self.data().unwrap_or("null")
    }

    /// Returns the memory that the event occupies where it is kept, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.frame.len() + Self::OVERHEAD
    }

    /// Returns the same event in memory of its own. A slice would keep the whole buffer alive that it was received in,
    /// and a buffer may be larger by any factor: a large message may have come before the event.
    pub(crate) fn retained(self) -> Self {
        match self.frame {
            Frame::Received(bytes) => Self { frame: Frame::Owned(Arc::from(&*bytes)), ..self },
            Frame::Owned(_) => self,
        }
    }

    /// Returns an event without content, which stands for one that is not kept.
    pub(super) fn placeholder() -> Self {
        Self { frame: Frame::Received(Bytes::new()), name: 0..0, data: None }
    }

    /// Returns whether it stands for an event that is not kept. Every other event has a message.
    pub(super) fn is_placeholder(&self) -> bool {
        self.frame.is_empty()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable::line(self.name()), f)?;
        let Some(data) = self.data() else { return Ok(()) };
        f.write_str(" ")?;
        fmt::Display::fmt(&Printable::json(data), f)
    }
}

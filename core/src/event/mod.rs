//! Events: what QEMU reports by itself, the history, subscriptions and patterns.

mod filter;
mod history;
mod matcher;
mod queue;
mod subscription;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, Range};

use bytes::Bytes;
use serde::Deserialize;

pub(crate) use filter::Filter;
pub use history::History;
pub use matcher::matches;
pub use subscription::SubscriptionId;
pub(crate) use subscription::Subscriptions;

/// Something that happened in QEMU, as it said it.
///
/// Names and data are open sets: an event that this library has never heard of is as good as any other.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The message that the ranges point into.
    frame: Frame,
    name: Range<usize>,
    data: Option<Range<usize>>,
}

/// A full queue of events grows by one part in so many, so that its memory does not double.
const QUEUE_GROWTH: usize = 4;

/// The members of an event that few callers ask for, read on demand.
#[derive(Default, Deserialize)]
struct Stamped {
    #[serde(default)]
    timestamp: Timestamp,
}

/// The bytes of an event.
#[derive(Clone)]
enum Frame {
    /// A slice of what was received.
    Received(Bytes),
    /// A copy, which costs one allocation however many have it.
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

/// When QEMU says that an event happened, in its host's time. Both are -1 when it could not tell the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    pub seconds: i64,
    /// Microseconds within that second.
    pub microseconds: i64,
}

impl Event {
    /// How many bytes of memory an event that is kept takes beside those of its message: its place in a queue, with the
    /// room that the queue has to grow, and what an allocator and its counts add. Bounds of events count them.
    pub const OVERHEAD: usize = size_of::<Self>() + size_of::<Self>() / QUEUE_GROWTH + 4 * size_of::<usize>();

    /// Payloads below this size are copied out of the received buffer when they are kept: a slice of it would keep
    /// the whole buffer alive.
    const COPIED_BELOW: usize = 4096;

    /// An event whose name and data are slices of `frame`; the name still in its quotes.
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
        // No QEMU escapes a name. Who does gets it unescaped, behind a copy of the message.
        let plain: String = serde_json::from_slice(name)?;
        let mut copy = Vec::with_capacity(frame.len() + plain.len());
        copy.extend_from_slice(frame);
        copy.extend_from_slice(plain.as_bytes());
        Ok(Self { name: frame.len()..copy.len(), frame: Frame::Owned(copy.into()), data })
    }

    /// The name, for example `SHUTDOWN`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.frame.get(self.name.clone()).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// The data as JSON; none for events that carry none.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        let range = self.data.clone()?;
        self.frame.get(range).and_then(|data| core::str::from_utf8(data).ok())
    }

    /// Reads the data as a value of a type. Events without data read as `null`.
    ///
    /// # Errors
    ///
    /// When it is not of that type.
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
        serde_json::from_str(self.data().unwrap_or("null"))
    }

    /// When it happened, by QEMU's clock. A time that cannot be read is the default.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        // Behind the message there may be its name.
        let mut message = serde_json::Deserializer::from_slice(&self.frame);
        Stamped::deserialize(&mut message).unwrap_or_default().timestamp
    }

    /// How much memory it takes where it is kept.
    pub(crate) fn size(&self) -> usize {
        self.frame.len() + Self::OVERHEAD
    }

    /// The same event, holding no more of the received buffer than it should.
    pub(crate) fn retained(self) -> Self {
        if self.frame.len() >= Self::COPIED_BELOW || matches!(self.frame, Frame::Owned(_)) {
            return self;
        }
        Self { frame: Frame::Owned(Arc::from(&*self.frame)), ..self }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.data().map_or(Ok(()), |data| write!(f, " {data}"))
    }
}

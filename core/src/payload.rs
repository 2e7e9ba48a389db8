//! Payload of a reply: its JSON, as QEMU sent it.

use core::fmt;

use bytes::Bytes;
use serde::Deserialize;

/// JSON as it came, checked to be valid, not yet read. A slice of the received bytes, not a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub(crate) Bytes);

impl Payload {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text. JSON is UTF-8, and this was checked.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Reads it as a value of a type.
    ///
    /// # Errors
    ///
    /// When it is not of that type; the error says where.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

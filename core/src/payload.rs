//! Payload of a reply: its JSON, as QEMU sent it.

use core::fmt;

use bytes::Bytes;
use serde::Deserialize;

/// Valid JSON that is not parsed yet, as QEMU sent it. It is a slice of the received bytes, not a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub(crate) Bytes);

impl Payload {
    /// Returns the JSON as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the JSON as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Parses the JSON as a value of a type.
    ///
    /// # Errors
    ///
    /// When the JSON is not of that type. The error has line and column.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

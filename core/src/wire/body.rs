//! Decides where the bytes of a command are until it is sent: in itself when it is short, which costs no allocation.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// The bytes of a command. Where they are makes no difference to what they are.
#[derive(Clone)]
pub(crate) struct Body {
    short: [u8; Self::SHORT],
    length: usize,
    /// All of them, when they are too many to be short.
    long: Vec<u8>,
}

impl Body {
    /// A command without arguments is its name and 13 bytes; the longest name that QEMU has is of 39.
    const SHORT: usize = 64;

    pub(crate) fn push(&mut self, more: &[u8]) {
        let end = self.length + more.len();
        match self.short.get_mut(self.length..end) {
            Some(room) if self.long.is_empty() => {
                room.copy_from_slice(more);
                self.length = end;
            }
            _ => {
                if self.long.is_empty() {
                    self.long.reserve(end);
                    self.long.extend_from_slice(&self.short[..self.length]);
                }
                self.long.extend_from_slice(more);
            }
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self { short: [0; Self::SHORT], length: 0, long: Vec::new() }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.length] } else { &self.long }
    }
}

impl From<Vec<u8>> for Body {
    fn from(long: Vec<u8>) -> Self {
        Self { long, ..Self::default() }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_when_they_become_many() {
        let mut body = Body::default();
        let mut all = Vec::new();
        for number in 0..40_u8 {
            let more = [number; 3];
            body.push(&more);
            all.extend_from_slice(&more);
            assert_eq!(*body, *all);
            assert_eq!(body.long.is_empty(), all.len() <= Body::SHORT);
            assert_eq!(body, Body::from(all.clone()));
        }
    }
}

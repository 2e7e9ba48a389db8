//! Bytes of an encoded command; short ones are stored inline and cost no allocation.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// The bytes of a command. Two bodies with the same bytes are equal, stored inline or not.
#[derive(Clone)]
pub(crate) struct Body {
    short: [u8; Self::SHORT],
    length: usize,
    /// All bytes of a body that is longer than [`SHORT`](Self::SHORT); empty otherwise.
    long: Vec<u8>,
}

impl Body {
    /// A command without arguments is its name and 13 more bytes. The longest command name has 38 bytes (measured with
    /// QEMU 7.2.22).
    const SHORT: usize = 64;

    /// Appends bytes, and moves the body to the heap when it becomes too long to be inline.
    #[inline]
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

    #[inline]
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
    fn bytes_keep_their_order_when_a_body_moves_to_the_heap() {
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

//! Console of a machine: its latest output, and the input that is still to be sent.

use alloc::string::String;

use bytes::{Buf, BytesMut};

use crate::outbox::Outbox;

/// A console: its latest output, bounded, and the input that is queued for it.
///
/// Positions count all bytes that the console has printed, over all runs. So the number of evicted bytes is known
/// exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    name: String,
    output: BytesMut,
    /// The position of the first byte that is kept.
    first: u64,
    limit: usize,
    input: Outbox,
}

impl Console {
    /// Returns a console that keeps `limit` bytes of output.
    pub(crate) fn new(name: String, limit: usize) -> Self {
        Self { name, output: BytesMut::new(), first: 0, limit, input: Outbox::default() }
    }

    /// Returns the name of the console in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the position of the first byte that is kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the position of the next byte, which is the number of bytes printed so far.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.output.len() as u64
    }

    /// Returns the output from a position on, as far as it is kept. Empty when nothing was printed after it.
    #[must_use]
    pub fn since(&self, position: u64) -> &[u8] {
        let skipped = position.saturating_sub(self.first);
        usize::try_from(skipped).ok().and_then(|skipped| self.output.get(skipped..)).unwrap_or_default()
    }

    /// Returns the output between two positions, as far as it is kept.
    pub(crate) fn between(&self, begin: u64, end: u64) -> &[u8] {
        let output = self.since(begin);
        let behind = usize::try_from(self.end().saturating_sub(end)).unwrap_or(usize::MAX);
        &output[..output.len().saturating_sub(behind)]
    }

    /// Returns where the line begins that this position is in, as far as it is kept.
    pub(crate) fn line_at(&self, position: u64) -> u64 {
        let position = position.clamp(self.first, self.end());
        let before = usize::try_from(position - self.first).ok().and_then(|length| self.output.get(..length));
        let end = before.and_then(|before| memchr::memrchr(b'\n', before));
        end.map_or(self.first, |at| self.first + at as u64 + 1)
    }

    /// Adds output. Waits must search it before the surplus is [trimmed](Self::trim), or they miss a text in a large
    /// piece of output.
    pub(crate) fn printed(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Evicts the oldest bytes beyond the bound.
    pub(crate) fn trim(&mut self) {
        let surplus = self.output.len().saturating_sub(self.limit);
        self.output.advance(surplus);
        self.first += surplus as u64;
    }

    /// Begins a new run: drops the output and input of the previous one. Positions go on.
    pub(crate) fn restart(&mut self) {
        self.first = self.end();
        self.output.clear();
        self.input.clear();
    }

    pub(crate) fn input(&self) -> &Outbox {
        &self.input
    }

    pub(crate) fn input_mut(&mut self) -> &mut Outbox {
        &mut self.input
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the output is split, the newest bytes are kept and the others are counted.
        #[test]
        fn keeps_the_newest_and_counts_the_rest(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            limit in 1_usize..30,
        ) {
            let mut console = Console::new(String::from("tty"), limit);
            let mut whole = Vec::new();
            for piece in &pieces {
                console.printed(piece);
                console.trim();
                whole.extend_from_slice(piece);
                let first = whole.len().saturating_sub(limit);
                prop_assert_eq!(console.first(), first as u64);
                prop_assert_eq!(console.end(), whole.len() as u64);
                prop_assert_eq!(console.since(0), &whole[first..]);
                prop_assert_eq!(console.since(console.end()), b"");
                prop_assert_eq!(console.since(console.end() + 9), b"");
            }
        }
    }
}

//! Decides what is remembered of a console, and what is still to be typed on it.

use alloc::string::String;

use bytes::{Buf, BytesMut};

use crate::outbox::Outbox;

/// One console: its latest output, bounded, and the input that waits to be sent.
///
/// Positions count the bytes that it printed in the run, so that what fell out of the bound is known exactly.
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
    /// A console that remembers `limit` bytes.
    pub(crate) fn new(name: String, limit: usize) -> Self {
        Self { name, output: BytesMut::new(), first: 0, limit, input: Outbox::default() }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The position of the first byte that is remembered: so many bytes fell out.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The position of the next byte: so many bytes were printed.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.output.len() as u64
    }

    /// What was printed from a position on, as far as it is remembered.
    #[must_use]
    pub fn since(&self, position: u64) -> &[u8] {
        let skipped = position.saturating_sub(self.first);
        usize::try_from(skipped).ok().and_then(|skipped| self.output.get(skipped..)).unwrap_or_default()
    }

    /// It printed something. Whoever waits for a text looks before the surplus is [trimmed](Self::trim), so that no
    /// text falls out unseen.
    pub(crate) fn printed(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Forgets what does not fit the bound.
    pub(crate) fn trim(&mut self) {
        let surplus = self.output.len().saturating_sub(self.limit);
        self.output.advance(surplus);
        self.first += surplus as u64;
    }

    /// Begins a new run: nothing of the last one is remembered, and positions go on.
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
        /// Whatever is printed in whatever pieces: the newest bytes are kept, and the rest is counted.
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

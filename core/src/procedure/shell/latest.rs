//! Bounded text: the latest bytes, and the number of those that were dropped.

use alloc::vec::Vec;

use crate::text::UntrustedText;

/// The latest bytes of a text, and the number of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latest {
    bytes: Vec<u8>,
    limit: usize,
    /// The number of bytes that were dropped already. More than the limit is kept, so that few bytes are moved.
    dropped: u64,
}

impl Latest {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, dropped: 0 }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
        let surplus = self.bytes.len().saturating_sub(self.limit);
        if surplus > self.limit.max(SLACK) {
            self.bytes.drain(..surplus - SLACK);
            self.dropped += (surplus - SLACK) as u64;
        }
    }

    /// Adds a line.
    pub(super) fn push_line(&mut self, line: &[u8]) {
        line.iter().chain(b"\n").for_each(|byte| self.push(*byte));
    }

    /// Removes bytes at the end, at most [`SLACK`].
    pub(super) fn remove_last(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len().saturating_sub(count));
    }

    /// Returns where the line begins that has no end yet, as a number of bytes before it.
    pub(super) fn line(&self) -> u64 {
        self.dropped + memchr::memrchr(b'\n', &self.bytes).map_or(0, |at| at + 1) as u64
    }

    /// Removes what is after so many bytes, as far as it is kept.
    pub(super) fn truncate(&mut self, at: u64) {
        self.bytes.truncate(self.index(at));
    }

    /// Removes the first copy of a text after so many bytes, if there is one.
    pub(super) fn remove(&mut self, after: u64, text: &str) {
        let from = self.index(after).min(self.bytes.len());
        if let Some(at) = memchr::memmem::find(&self.bytes[from..], text.as_bytes()) {
            self.bytes.drain(from + at..from + at + text.len());
        }
    }

    /// Removes all.
    pub(super) fn remove_all(&mut self) {
        *self = Self::new(self.limit);
    }

    fn index(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.dropped)).unwrap_or(usize::MAX)
    }

    /// Returns the text and the number of bytes before it. It begins with a whole character.
    pub(super) fn text(&self) -> (UntrustedText, u64) {
        let surplus = self.bytes.len().saturating_sub(self.limit);
        let is_inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let inside = self.bytes[surplus..].iter().take(3).take_while(is_inside).count();
        let begin = if surplus == 0 && self.dropped == 0 { 0 } else { surplus + inside };
        (UntrustedText::from_utf8_lossy(&self.bytes[begin..]), self.dropped + begin as u64)
    }

    /// Returns the last lines of the text, at most so many.
    pub(super) fn last_lines(&self, most: usize) -> UntrustedText {
        let (text, _) = self.text();
        let text = text.trim_end();
        let begin = text.rmatch_indices('\n').nth(most.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
        text.get(begin..).unwrap_or_default().into()
    }
}

/// The most bytes at the end that can be removed again: longer than a marker.
pub(super) const SLACK: usize = 128;

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The latest bytes are kept, and the others are counted.
        #[test]
        fn the_latest_bytes_stay(text in "[a-c\n]{0,2000}", limit in 0_usize..600, removed in 0..SLACK) {
            let mut latest = Latest::new(limit);
            text.bytes().for_each(|byte| latest.push(byte));
            latest.remove_last(removed);
            let left = &text[..text.len().saturating_sub(removed)];
            let (kept, dropped) = latest.text();
            let expected = left.len().saturating_sub(limit);
            prop_assert_eq!(kept.as_str(), &left[expected..]);
            prop_assert_eq!(dropped, expected as u64);
            prop_assert!(latest.bytes.len() <= 2 * limit.max(SLACK) + SLACK);
        }
    }

    #[test]
    fn a_text_begins_with_a_character_and_ends_with_lines() {
        let mut latest = Latest::new(4);
        "a\u{e4}\u{1f600}b".bytes().for_each(|byte| latest.push(byte));
        assert_eq!(latest.text(), ("b".into(), 7));
        let mut latest = Latest::new(100);
        "one\ntwo\nthree\n".bytes().for_each(|byte| latest.push(byte));
        assert_eq!((latest.last_lines(2), latest.last_lines(9)), ("two\nthree".into(), "one\ntwo\nthree".into()));
    }
}

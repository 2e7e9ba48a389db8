//! Search of console output for a text or a pattern, which continues where it stopped.

use alloc::vec::Vec;

use crate::plain::Plain;
#[cfg(feature = "regex")]
use crate::regex::{Matcher, Regex};

/// Search for a text or a pattern. The output may be split anywhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Search {
    /// For these bytes, as they are printed.
    Bytes(Vec<u8>),
    /// For this text, in the output without escape sequences.
    Plain(Plain, TextMatcher),
    /// For a pattern, in the output with or without escape sequences.
    #[cfg(feature = "regex")]
    Regex {
        plain: Option<Plain>,
        matcher: Matcher,
        /// The position after the latest byte that the matcher has received.
        end: u64,
    },
}

/// Result of a search in one piece of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Searched {
    /// The match ends at this position.
    Found(u64),
    /// There is no match. The search goes on at this position.
    UpTo(u64),
}

impl Search {
    pub(crate) fn text(text: Vec<u8>, is_plain: bool) -> Self {
        if is_plain { Self::Plain(Plain::default(), TextMatcher::new(text)) } else { Self::Bytes(text) }
    }

    /// Returns a search for a pattern that begins at this position, after this byte.
    #[cfg(feature = "regex")]
    pub(crate) fn regex(regex: &Regex, is_plain: bool, begin: u64, before: Option<u8>) -> Self {
        Self::Regex { plain: is_plain.then(Plain::default), matcher: regex.matcher(before), end: begin }
    }

    /// Searches the output that begins at this position.
    pub(super) fn find(&mut self, begin: u64, output: &[u8]) -> Searched {
        let behind = begin + output.len() as u64;
        match self {
            Self::Bytes(text) => match memchr::memmem::find(output, text) {
                Some(at) => Searched::Found(begin + (at + text.len()) as u64),
                // The last bytes may be the beginning of the text.
                None => Searched::UpTo(begin + output.len().saturating_sub(text.len() - 1) as u64),
            },
            Self::Plain(plain, matcher) => {
                let mut places = (begin..).zip(output);
                let found = places.find(|(_, byte)| plain.push(**byte).is_some_and(|byte| matcher.push(byte)));
                found.map_or(Searched::UpTo(behind), |(at, _)| Searched::Found(at + 1))
            }
            #[cfg(feature = "regex")]
            Self::Regex { plain, matcher, end } => {
                for (at, byte) in (begin..).zip(output) {
                    let text = plain.as_mut().map_or(Some(*byte), |plain| plain.push(*byte));
                    let Some(byte) = text else { continue };
                    if matcher.push(byte) {
                        return Searched::Found(*end);
                    }
                    *end = at + 1;
                }
                if matcher.is_certain() { Searched::Found(*end) } else { Searched::UpTo(behind) }
            }
        }
    }
}

/// Matcher of a text, byte by byte: the algorithm of Knuth, Morris and Pratt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextMatcher {
    text: Vec<u8>,
    /// For each beginning of the text, how long the longest shorter beginning is with which it ends.
    borders: Vec<usize>,
    /// How many bytes of the text match.
    matched: usize,
}

impl TextMatcher {
    fn new(text: Vec<u8>) -> Self {
        let mut borders: Vec<usize> = Vec::with_capacity(text.len());
        for (index, byte) in text.iter().enumerate() {
            let border = if index == 0 { 0 } else { extended(&text, &borders, borders[index - 1], *byte) };
            borders.push(border);
        }
        Self { text, borders, matched: 0 }
    }

    /// Adds a byte. Returns whether the text is complete.
    fn push(&mut self, byte: u8) -> bool {
        self.matched = extended(&self.text, &self.borders, self.matched, byte);
        self.matched == self.text.len()
    }
}

/// Returns how long the longest beginning of the text is that the bytes so far end with, after one more byte. Before it, that
/// was `matched`.
fn extended(text: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    loop {
        if text.get(matched) == Some(&byte) {
            return matched + 1;
        }
        match matched.checked_sub(1).and_then(|last| borders.get(last)) {
            Some(border) => matched = *border,
            None => return 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A text is found in output with escape sequences where it is in the output without them, wherever that is split.
        #[test]
        fn plain_text_is_found_however_the_output_is_split(
            parts in prop::collection::vec(("[ab]{0,4}", "(\x1b\\[[0-9;]{0,4}m|\x1b\\]0;[a-b]{0,4}\x07|)"), 0..12),
            text in "[ab]{1,5}",
            size in 1_usize..9,
        ) {
            let printed: String = parts.iter().flat_map(|(text, sequence)| [&**text, sequence]).collect();
            let mut search = Search::text(text.clone().into_bytes(), true);
            let (mut begin, mut found) = (7, None);
            for piece in printed.as_bytes().chunks(size) {
                match search.find(begin, piece) {
                    Searched::Found(at) => {
                        found = Some((at - 7) as usize);
                        break;
                    }
                    Searched::UpTo(at) => begin = at,
                }
            }
            let plain = |length: usize| Plain::text(&printed.as_bytes()[..length]);
            let has_it = |length: &usize| plain(*length).ends_with(text.as_bytes());
            prop_assert_eq!(found, (0..=printed.len()).find(has_it));
        }
    }
}

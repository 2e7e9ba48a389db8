//! Filter of escape sequences: what a terminal executes and does not print is removed from console output.

use alloc::vec::Vec;

/// Filter of escape sequences, byte by byte, so that a sequence may be split anywhere. It keeps no bytes.
///
/// The sequences are those of ECMA-48 (section 5.4, control sequences; section 5.6, control strings) and of xterm
/// ("Operating System Commands"): colours, movements of the cursor, titles, bracketed paste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    within: Within,
    /// The bytes of the present sequence so far.
    length: usize,
}

/// Where the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence, after `ESC [`.
    Control,
    /// In a control string, such as a title, after `ESC ]`. It ends with BEL, or with `ESC \`.
    ControlString,
}

/// The longest sequence, in bytes: 4 KiB. Text follows it, so that a sequence without an end does not hide all output after
/// it. The longest that are in use set a title or name a link (`OSC 8`), and have at most 2 KiB.
const LONGEST: usize = 4 << 10;

const ESCAPE: u8 = 0x1b;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const BELL: u8 = 0x07;

impl Plain {
    /// Returns the byte if it is text. A line feed is always text, and ends a sequence: a kernel that prints into the middle
    /// of one must not lose its line.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u8> {
        let (within, is_text) = match (self.within, byte) {
            (_, b'\n') => (Within::Text, true),
            (_, ESCAPE) => (Within::Escape, false),
            (Within::Text, _) => (Within::Text, true),
            (_, CANCEL | SUBSTITUTE) => (Within::Text, false),
            (Within::Escape, b'[') => (Within::Control, false),
            (Within::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (Within::ControlString, false),
            // An intermediate byte, as in `ESC ( B`.
            (Within::Escape, 0x20..=0x2f) => (Within::Escape, false),
            (Within::Escape, 0x30..=0x7e) | (Within::Control, 0x40..=0x7e) => (Within::Text, false),
            (Within::Control, 0x20..=0x3f) => (Within::Control, false),
            (Within::ControlString, BELL) => (Within::Text, false),
            (Within::ControlString, _) => (Within::ControlString, false),
            (Within::Escape | Within::Control, _) => (Within::Text, true),
        };
        self.length = if within == Within::Text { 0 } else { self.length + 1 };
        self.within = if self.length < LONGEST { within } else { Within::Text };
        is_text.then_some(byte)
    }

    /// Returns the text in these bytes.
    pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Self::default();
        bytes.iter().filter_map(|byte| plain.push(*byte)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_are_removed() {
        for (printed, text) in [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b[?2004h# \x1b[?2004l\rx", "# \rx"),
            ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
            ("\x1b(Ba\x1b7b\x1bMc", "abc"),
            ("\x1bPq#0;2\x1b\\a", "a"),
            ("\x1b[3\nb", "\nb"),
            ("\x1b]0;title\nb", "\nb"),
            ("\x1b[3\x18b\x1b]0\x1ac", "bc"),
            ("\x1b[3\u{e4}b", "\u{e4}b"),
            ("a\x1b", "a"),
            ("\x1b\x1b[1mb", "b"),
        ] {
            assert_eq!(String::from_utf8(Plain::text(printed.as_bytes())).unwrap(), text, "{printed:?}");
        }
    }

    #[test]
    fn a_sequence_without_an_end_hides_a_bounded_part() {
        for begin in ["\x1b]", "\x1b["] {
            let printed = [begin, &"1".repeat(10_000)].concat();
            let text = Plain::text(printed.as_bytes());
            assert_eq!(text.len(), printed.len() - LONGEST, "{begin:?}");
        }
    }

    proptest! {
        /// No byte of the text is lost or added, whatever sequences are between.
        #[test]
        fn all_text_between_sequences_stays(parts in prop::collection::vec(("[a-z\r\n]{0,5}", "(\x1b\\[[0-9;?]{0,5}[a-zA-Z]|\x1b\\][0-9];[a-z]{0,5}(\x07|\x1b\\\\)|\x1b\\([A-B])"), 0..9)) {
            let printed: String = parts.iter().flat_map(|(text, sequence)| [&**text, sequence]).collect();
            let text: String = parts.iter().map(|(text, _)| &**text).collect();
            prop_assert_eq!(Plain::text(printed.as_bytes()), text.into_bytes());
        }
    }
}

//! Lines of a console on the page, with their times and styles.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::style::Style;
use crate::plain::Plain;
use crate::text::{Printable, lossy};
use crate::time::Moment;

/// One line of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// When its first byte, or its line feed, was received.
    pub(super) at: Moment,
    /// The text, which is printable.
    pub(super) text: String,
    /// The parts with a style other than the default, in units of UTF-16, as JavaScript counts.
    pub(super) styled: Vec<Styled>,
}

/// A part of a line that has a style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Styled {
    pub(super) from: usize,
    pub(super) length: usize,
    pub(super) style: Style,
}

/// Decoder of a console's bytes. Colours are kept, other escape sequences are removed, and other controls become printable.
///
/// A carriage return begins a new line, as a line feed does, so that nothing on the page is overwritten.
#[derive(Debug, Default)]
pub(super) struct Screen {
    plain: Plain,
    /// The bytes of the present escape sequence.
    sequence: Vec<u8>,
    style: Style,
    /// The time of the present line. `None` means that it has no bytes.
    began: Option<Moment>,
    /// The bytes of the present line that have the present style.
    part: Vec<u8>,
    text: String,
    /// The length of the text in units of UTF-16.
    units: usize,
    /// The bytes of the present line.
    bytes: usize,
    styled: Vec<Styled>,
    has_returned: bool,
}

impl Screen {
    /// The longest line in bytes, up to 3 more of its last character: 4 KiB. A longer one continues in the next line, so that
    /// a browser can display it.
    const LONGEST: usize = 4 << 10;
    const CONTINUATION: usize = 3;

    const ESCAPE: u8 = 0x1b;

    /// Reads bytes, and passes each complete line on.
    pub(super) fn push(&mut self, at: Moment, bytes: &[u8], each: &mut impl FnMut(Row)) {
        for byte in bytes {
            match self.plain.push(*byte) {
                Some(byte) => {
                    self.sequence.clear();
                    self.print(at, byte, each);
                }
                None => self.control(*byte),
            }
        }
    }

    /// Passes on the present line, if it has bytes, and begins anew: the stream ends here.
    pub(super) fn finish(&mut self, each: &mut impl FnMut(Row)) {
        if let Some(began) = self.began {
            self.line(began, each);
        }
        *self = Self::default();
    }

    fn control(&mut self, byte: u8) {
        if byte == Self::ESCAPE {
            self.sequence.clear();
        }
        self.sequence.push(byte);
        if let [Self::ESCAPE, b'[', parameters @ .., b'm'] = &*self.sequence {
            let mut style = self.style;
            style.select(parameters);
            self.sequence.clear();
            if style != self.style {
                self.end_part();
                self.style = style;
            }
        }
    }

    fn print(&mut self, at: Moment, byte: u8, each: &mut impl FnMut(Row)) {
        let extra = if (0x80..0xc0).contains(&byte) { Self::CONTINUATION } else { 0 };
        match byte {
            b'\n' => return self.line(at, each),
            b'\r' => {
                self.has_returned = self.began.is_some();
                return;
            }
            _ if self.has_returned || self.bytes >= Self::LONGEST + extra => self.line(at, each),
            _ => {}
        }
        self.began.get_or_insert(at);
        self.bytes += 1;
        self.part.push(byte);
    }

    fn end_part(&mut self) {
        let before = self.text.len();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{:#}", Printable::lines(&lossy(&self.part)));
        self.part.clear();
        let length = self.text.get(before..).unwrap_or_default().chars().map(char::len_utf16).sum();
        if length > 0 && self.style != Style::default() {
            self.styled.push(Styled { from: self.units, length, style: self.style });
        }
        self.units += length;
    }

    fn line(&mut self, at: Moment, each: &mut impl FnMut(Row)) {
        self.end_part();
        let (text, styled) = (core::mem::take(&mut self.text), core::mem::take(&mut self.styled));
        each(Row { at: self.began.take().unwrap_or(at), text, styled });
        (self.units, self.bytes, self.has_returned) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;

    /// Returns each line with its time in seconds, and its styled parts.
    fn shown(chunks: &[&[u8]]) -> Vec<(u64, String, String)> {
        let (mut screen, mut rows) = (Screen::default(), Vec::new());
        for (second, chunk) in (0..).zip(chunks) {
            screen.push(Moment::new(Duration::from_secs(second)), chunk, &mut |row| rows.push(row));
        }
        screen.finish(&mut |row| rows.push(row));
        let part = |part: &Styled| format!("{}+{}:{}", part.from, part.length, part.style);
        let styled = |row: &Row| row.styled.iter().map(part).collect::<Vec<_>>().join(",");
        let row = |row: Row| (row.at.since(Moment::ORIGIN).as_secs(), row.text.clone(), styled(&row));
        rows.into_iter().map(row).collect()
    }

    fn texts(printed: &[u8]) -> Vec<String> {
        shown(&[printed]).into_iter().map(|(_, text, _)| text).collect()
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let rows = shown(&[b"a", b"b\nc\n", b"\n", b"d"]);
        let rows: Vec<_> = rows.iter().map(|(at, text, _)| (*at, &**text)).collect();
        assert_eq!(rows, [(0, "ab"), (1, "c"), (2, ""), (3, "d")]);
    }

    #[test]
    fn styles_continue_across_chunks_and_lines() {
        let rows = shown(&[b"x\x1b[1;3", b"1mr\xc3", b"\xa4\ns\x1b[0", b"mt"]);
        assert_eq!(rows, [(0, "xrä".into(), "1+2:b f1".into()), (2, "st".into(), "0+1:b f1".into())]);
        assert_eq!(shown(&["😀\x1b[4m😀".as_bytes()]), [(0, "😀😀".into(), "2+2:u".into())]);
    }

    #[test]
    fn a_carriage_return_begins_a_line_and_loses_nothing() {
        assert_eq!(texts(b"10%\r20%\r\r\n\rx\r\ny\r"), ["10%", "20%", "x", "y"]);
    }

    #[test]
    fn other_controls_are_removed_or_printable() {
        assert_eq!(texts(b"\x1b]0;title\x07a\x1b[2J\x1b[10;5Hb\x1b[?25lc\x08\0\x7f\td"), ["abc\\u{8}\\0\\u{7f}\td"]);
        assert_eq!(texts("\u{202e}\u{2028}\u{9b}31mx\u{feff}".as_bytes()), ["\\u{202e}\\u{2028}\\u{9b}31mx\\u{feff}"]);
        assert_eq!(texts(b"\xff\xfe"), ["\u{fffd}\u{fffd}"]);
        assert_eq!(texts(b"\x1b]m\x1b\\\x1b[>4mx"), ["x"]);
    }

    #[test]
    fn a_line_without_an_end_is_divided() {
        let rows = texts("ä".repeat(5000).as_bytes());
        assert_eq!(rows.iter().map(|row| row.chars().count()).collect::<Vec<_>>(), [2048, 2048, 904]);
    }

    #[test]
    fn continuation_bytes_without_a_first_byte_are_divided() {
        let rows = texts(&[0x80; 10_000]);
        assert_eq!(rows.iter().map(|row| row.chars().count()).collect::<Vec<_>>(), [4099, 4099, 1802]);
    }

    proptest! {
        #[test]
        fn the_rows_do_not_depend_on_the_chunks(
            printed in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\x1b[;01m\r\n"[..])], 0..80),
            cut in 0_usize..80,
        ) {
            let rows = |chunks: &[&[u8]]| shown(chunks).into_iter().map(|(_, text, styled)| (text, styled)).collect::<Vec<_>>();
            let (head, tail) = printed.split_at(cut.min(printed.len()));
            prop_assert_eq!(rows(&[head, tail]), rows(&[&printed]));
            for (text, _) in rows(&[&printed]) {
                prop_assert!(text.chars().all(|one| one == '\t' || crate::text::is_printable(one)), "{:?}", text);
            }
        }
    }
}

//! Filter for a terminal: colours of the guest pass, and all else that controls a terminal becomes visible.

use std::mem;

use qemu_machine_blocking::UntrustedText;

/// The sequence that ends all colours.
pub(crate) const PLAIN: &str = "\x1b[0m";

const ESCAPE: u8 = 0x1b;

/// The longest sequence of colours that passes, in bytes. Two colours of 24 bits with all attributes need fewer.
const LONGEST: usize = 64;

/// Filter for one stream. A sequence or a character may be split anywhere.
///
/// A sequence of colours is `ESC [`, digits, `;` and `:`, and `m` (ECMA-48, 8.3.117, SGR). [`UntrustedText::multiline`]
/// escapes all else: sequences that write the clipboard, set a title, or make the terminal answer as if the user typed,
/// also those that begin with a control character of eight bits, and characters that reorder text.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Whether a carriage return passes, so that a program can print its progress. Otherwise it is visible: in a line that
    /// begins with the name of its kernel, it would overwrite the name.
    keeps_returns: bool,
    /// A character or a sequence whose end has not come.
    begun: Vec<u8>,
    is_coloured: bool,
}

impl Filter {
    pub(crate) fn new(keeps_returns: bool) -> Self {
        Self { keeps_returns, begun: Vec::new(), is_coloured: false }
    }

    /// Returns the form of these bytes for a terminal.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = [&*mem::take(&mut self.begun), bytes].concat();
        self.begun = bytes.split_off(bytes.len() - begun(&bytes));
        self.shown(&bytes)
    }

    /// Returns the form of what has no end, and the end of the colours.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let begun = mem::take(&mut self.begun);
        let mut shown = self.shown(&begun);
        if mem::take(&mut self.is_coloured) {
            shown.extend(PLAIN.bytes());
        }
        shown
    }

    fn shown(&mut self, bytes: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(bytes);
        let (mut rest, mut shown) = (&*text, String::new());
        while !rest.is_empty() {
            let length = match colours(rest) {
                Some(sequence) => {
                    self.is_coloured = !matches!(sequence, "\x1b[m" | PLAIN);
                    shown.push_str(sequence);
                    sequence.len()
                }
                None if self.keeps_returns && rest.starts_with('\r') => {
                    shown.push('\r');
                    1
                }
                None => {
                    let is_end = |letter| letter == '\x1b' || letter == '\r' && self.keeps_returns;
                    let end = rest.char_indices().skip(1).find(|(_, letter)| is_end(*letter));
                    let end = end.map_or(rest.len(), |(at, _)| at);
                    shown += &UntrustedText::from(&rest[..end]).multiline().to_string();
                    end
                }
            };
            rest = &rest[length..];
        }
        shown.into_bytes()
    }
}

/// Returns the sequence of colours at the begin of a text. `None` means that there is none.
fn colours(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.bytes().position(|byte| !is_parameter(byte))?;
    let length = text.len() - parameters.len() + end + 1;
    (parameters.as_bytes()[end] == b'm' && length <= LONGEST).then(|| &text[..length])
}

fn is_parameter(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b';' | b':')
}

/// Returns how many bytes at the end are the begin of a sequence of colours, or of a character.
fn begun(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(LONGEST - 1)..];
    let sequence = tail.iter().rposition(|byte| *byte == ESCAPE).map(|at| &tail[at..]);
    let is_begun = |sequence: &&[u8]| match sequence[1..] {
        [] => true,
        [b'[', ref parameters @ ..] => parameters.iter().all(|byte| is_parameter(*byte)),
        _ => false,
    };
    if let Some(sequence) = sequence.filter(is_begun) {
        return sequence.len();
    }
    // A character has at most four bytes.
    let is_begun = |length: &usize| {
        let end = std::str::from_utf8(&bytes[bytes.len() - length..]);
        end.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=3.min(bytes.len())).find(is_begun).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(keeps_returns: bool, parts: &[&[u8]]) -> String {
        let mut filter = Filter::new(keeps_returns);
        let mut shown: Vec<u8> = parts.iter().flat_map(|part| filter.push(part)).collect();
        shown.extend(filter.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn colours_pass_and_everything_else_is_visible() {
        for (printed, expected) in [
            ("\x1b[1;31mred\x1b[0m\tü\n", "\x1b[1;31mred\x1b[0m\tü\n"),
            ("\x1b[38:2::1:2:3mx\x1b[m", "\x1b[38:2::1:2:3mx\x1b[m"),
            // A colour that the guest does not end.
            ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
            ("\x1b]52;c;cm0=\x07", "\\u{1b}]52;c;cm0=\\u{7}"),
            ("\x1b]0;title\x1b\\x\x1b[6n\x1bc", "\\u{1b}]0;title\\u{1b}\\x\\u{1b}[6n\\u{1b}c"),
            ("\x1b[?4m\x1b[>4;2m\x1b[31", "\\u{1b}[?4m\\u{1b}[>4;2m\\u{1b}[31"),
            ("\u{9b}31m\u{202e}\u{8}", "\\u{9b}31m\\u{202e}\\u{8}"),
            ("\x1b\x1b[32m", "\\u{1b}\x1b[32m\x1b[0m"),
        ] {
            assert_eq!(shown(false, &[printed.as_bytes()]), expected, "{printed:?}");
            let bytes: Vec<_> = printed.as_bytes().chunks(1).collect();
            assert_eq!(shown(false, &bytes), expected, "{printed:?}, in bytes");
        }
        let endless = format!("\x1b[{}m", "1".repeat(LONGEST));
        assert_eq!(shown(false, &[endless.as_bytes()]), endless.replace('\x1b', "\\u{1b}"));
        assert_eq!(shown(false, &[b"\x9b31m\xff"]), "\u{fffd}31m\u{fffd}");
    }

    #[test]
    fn a_carriage_return_passes_where_it_overwrites_no_name() {
        assert_eq!(shown(true, &[b"10%\r", b"20%\r\n"]), "10%\r20%\r\n");
        assert_eq!(shown(false, &[b"10%\r20%\r\n"]), "10%\\r20%\n");
    }

    proptest! {
        /// Whatever the guest prints and however it is split, only colours control the terminal.
        #[test]
        fn no_other_control_character_passes(parts in prop::collection::vec(
            prop_oneof!["[\x1b\\[0-9;m\r\n\u{9b}a]{0,9}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..9)], 0..9,
        ), keeps_returns: bool) {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            let shown = shown(keeps_returns, &parts);
            for (at, letter) in shown.char_indices().filter(|(_, letter)| letter.is_control()) {
                let is_colour = letter == '\x1b' && colours(&shown[at..]).is_some();
                prop_assert!(is_colour || matches!(letter, '\n' | '\t') || letter == '\r' && keeps_returns, "{shown:?}");
            }
        }
    }
}

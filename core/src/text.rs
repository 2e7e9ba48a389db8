//! Untrusted text: its printable form, and the lossy conversion from bytes.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write as _};
use core::ops::Deref;

use serde::{Deserialize, Serialize};

/// Text of a peer, a guest, a log, the operating system or a caller, which may contain anything: escape sequences that
/// control a terminal, characters that reorder the text around them, line feeds that forge lines of a log.
///
/// [`as_str`](Self::as_str), the methods of `str` (by `Deref`), `String::from` and `Serialize` return the text as it came: do
/// not print their result. `Display` and `Debug` are printable:
///
/// | format | result |
/// |---|---|
/// | `{}` | One line. Each control, format, separator or unassigned character is escaped as by [`char::escape_debug`]; quotes and backslashes are not. The middle of a text of more than 1 KiB is left out. |
/// | `{:#}` | The same, and complete. |
/// | `{:?}` | As a string literal of Rust. The middle of a text of more than 1 KiB is left out. |
/// | [`multiline`](Self::multiline) | Several lines: line feeds and tabs stay. Complete. |
/// | [`json`](Self::json) | JSON stays JSON: the escapes are those of JSON. Complete. |
///
/// `to_string` formats the text, so it returns the printable form.
///
/// ```
/// use qemu_machine_core::UntrustedText;
///
/// let text = UntrustedText::from("\x1b]52;c;cm0gLXJm\x07\nerror: none");
/// assert_eq!(text.to_string(), r"\u{1b}]52;c;cm0gLXJm\u{7}\nerror: none");
/// assert_eq!(text.multiline().to_string(), "\\u{1b}]52;c;cm0gLXJm\\u{7}\nerror: none");
/// assert_eq!(UntrustedText::from("[\"\u{202e}\"]").json().to_string(), r#"["\u202e"]"#);
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UntrustedText(String);

impl UntrustedText {
    /// Returns bytes as text. Invalid UTF-8 is replaced.
    #[must_use]
    pub fn from_utf8_lossy(bytes: &[u8]) -> Self {
        Self(lossy(bytes))
    }

    /// Returns the text as it came. Do not print it to a terminal or a log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a form of the text for several lines: line feeds and tabs stay, and all other characters are escaped as
    /// by `{}`. A carriage return before a line feed is left out. The form is complete. Its lines are the peer's: indent
    /// them, or mark them otherwise, where they could be taken for other lines.
    pub fn multiline(&self) -> impl fmt::Display {
        Printable::lines(&self.0)
    }

    /// Returns a form of JSON text that is still JSON, of the same value: the characters that `{}` escapes become
    /// `\uXXXX`, and white space between the tokens becomes blanks. The form is complete.
    pub fn json(&self) -> impl fmt::Display {
        Printable { text: &self.0, form: Form::Json, limit: usize::MAX }
    }
}

/// Writes one printable line.
impl fmt::Display for UntrustedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable::line(&self.0), f)
    }
}

/// Writes a string literal.
impl fmt::Debug for UntrustedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shortened(&self.0, LIMIT) {
            Some((head, left_out, tail)) => fmt::Debug::fmt(&format!("{head}{}{tail}", LeftOut(left_out)), f),
            None => fmt::Debug::fmt(&self.0, f),
        }
    }
}

// There is no `AsRef<str>`: with it, Clippy suggests `as_ref` instead of `to_string`, and the text would be printed raw.
impl Deref for UntrustedText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for UntrustedText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for UntrustedText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<UntrustedText> for String {
    fn from(text: UntrustedText) -> Self {
        text.0
    }
}

impl PartialEq<str> for UntrustedText {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for UntrustedText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for UntrustedText {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

/// The longest text that is written completely, in bytes. Of a longer one, each end is half of it.
const LIMIT: usize = 1 << 10;

/// Borrowed text whose `Display` is printable. `{:#}` writes a long text completely.
pub(crate) struct Printable<'a> {
    text: &'a str,
    form: Form,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Line,
    Lines,
    Json,
}

impl<'a> Printable<'a> {
    /// Returns the form on one line.
    pub(crate) fn line(text: &'a str) -> Self {
        Self { text, form: Form::Line, limit: LIMIT }
    }

    /// Returns the form of a line of a log or a console. Tabs stay: they are common there, and do no harm.
    pub(crate) fn log_line(line: &'a str) -> Self {
        Self { text: line.trim_end(), form: Form::Lines, limit: LIMIT }
    }

    /// Returns the form for several lines, complete.
    pub(crate) fn lines(text: &'a str) -> Self {
        Self { text, form: Form::Lines, limit: usize::MAX }
    }

    /// Returns the form of JSON that is still JSON, if it is not shortened.
    pub(crate) fn json(text: &'a str) -> Self {
        Self { text, form: Form::Json, limit: LIMIT }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = if f.alternate() { usize::MAX } else { self.limit };
        let Some((head, left_out, tail)) = shortened(self.text, limit) else { return self.form.write(f, self.text) };
        self.form.write(f, head)?;
        write!(f, "{}", LeftOut(left_out))?;
        self.form.write(f, tail)
    }
}

impl Form {
    fn write(self, f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
        let mut written = 0;
        for (at, character) in text.char_indices() {
            // A combining character at the beginning would change the character before the text.
            let is_safe = (at > 0 || character.is_ascii()) && is_printable(character);
            if is_safe || self.keeps(character) {
                continue;
            }
            f.write_str(text.get(written..at).unwrap_or_default())?;
            written = at + character.len_utf8();
            self.write_escaped(f, character, text.get(written..).unwrap_or_default())?;
        }
        f.write_str(text.get(written..).unwrap_or_default())
    }

    fn keeps(self, character: char) -> bool {
        self == Self::Lines && matches!(character, '\n' | '\t')
    }

    fn write_escaped(self, f: &mut fmt::Formatter<'_>, character: char, rest: &str) -> fmt::Result {
        match self {
            Self::Lines if character == '\r' && rest.starts_with('\n') => Ok(()),
            Self::Line | Self::Lines => write!(f, "{}", character.escape_debug()),
            Self::Json if matches!(character, '\n' | '\r' | '\t') => f.write_char(' '),
            // JSON has a surrogate pair for a character that does not fit in 16 bits (RFC 8259, section 7).
            Self::Json if !is_printable(character) => {
                character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
            }
            Self::Json => f.write_char(character),
        }
    }
}

/// Returns whether a character has a glyph of its own or belongs to one, and no effect on a terminal or on other text:
/// what std does not escape inside of a string literal. Quotes and backslashes are printable.
pub(crate) fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // The variation selectors of plane 14 are invisible, and a row of them can hide a text.
    if ('\u{e0000}'..='\u{e0fff}').contains(&character) {
        return false;
    }
    // Only inside of a string does std keep combining characters.
    let mut string = *b"a\0\0\0\0";
    let length = character.encode_utf8(&mut string[1..]).len();
    let string = core::str::from_utf8(&string[..=length]);
    string.is_ok_and(|string| string.escape_debug().nth(1) == Some(character))
}

/// Returns both ends of a text of more than `limit` bytes, and the number of bytes between them.
pub(crate) fn shortened(text: &str, limit: usize) -> Option<(&str, usize, &str)> {
    if text.len() <= limit {
        return None;
    }
    let (head, rest) = text.split_at(boundary(text, limit / 2));
    let (left_out, tail) = rest.split_at(boundary(rest, rest.len() - limit / 2));
    Some((head, left_out.len(), tail))
}

/// Returns the last boundary of characters up to this position.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// The mark in the middle of a text for the bytes that are left out.
pub(crate) struct LeftOut(pub(crate) usize);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "… {} bytes …", self.0)
    }
}

/// Converts bytes to text. Invalid UTF-8 is replaced.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns how many bytes at the end are an incomplete UTF-8 character.
pub(crate) fn begun(bytes: &[u8]) -> usize {
    const LONGEST: usize = 3;
    let is_begun = |length: &usize| {
        let end = core::str::from_utf8(&bytes[bytes.len() - length..]);
        end.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=LONGEST.min(bytes.len())).find(is_begun).unwrap_or_default()
}

/// Returns the first 200 bytes as text, short enough for an error message.
pub(crate) fn excerpt(bytes: &[u8]) -> UntrustedText {
    const LENGTH: usize = 200;
    let mut text = lossy(&bytes[..bytes.len().min(LENGTH)]);
    if bytes.len() > LENGTH {
        text.push('…');
    }
    text.into()
}

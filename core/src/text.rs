//! Lossy, printable rendering of untrusted bytes.

use alloc::string::String;

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
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LENGTH: usize = 200;
    let mut text = lossy(&bytes[..bytes.len().min(LENGTH)]);
    if bytes.len() > LENGTH {
        text.push('…');
    }
    text
}

/// Escapes control characters, so that a guest cannot control the terminal that displays its output. Tabs are kept, and
/// white space at the end is removed.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_debug());
        } else {
            printable.push(character);
        }
    }
    printable
}

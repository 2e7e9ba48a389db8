//! Cursor over JSON text: reads it token by token, and skips values without recursion.
//!
//! The text is the content of a message that was accepted as JSON, so the cursor does not validate it again: it skips
//! commas and colons like white space. On other bytes it returns arbitrary tokens, but ends.

use crate::work;

/// A position in JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// A token of JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `}` or `]`
    End,
    /// A string, with its quotes and escapes.
    String(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Plain(&'a [u8]),
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next token. `None` means that the text is at its end.
    pub(crate) fn token(&mut self) -> Option<Token<'a>> {
        work::count(1);
        let rest = self.text.get(self.at..)?;
        let blank = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':'))?;
        let rest = rest.get(blank..)?;
        let (token, length) = match rest.first()? {
            b'{' => (Token::Object, 1),
            b'[' => (Token::Array, 1),
            b'}' | b']' => (Token::End, 1),
            b'"' => {
                let length = string(rest);
                (Token::String(rest.get(..length)?), length)
            }
            _ => {
                let length = plain(rest);
                (Token::Plain(rest.get(..length)?), length)
            }
        };
        self.at += blank + length;
        Some(token)
    }

    /// Skips the rest of a value, whose first token was read.
    pub(crate) fn skip_rest(&mut self, first: Token<'a>) {
        let mut open = usize::from(matches!(first, Token::Object | Token::Array));
        while open > 0 {
            match self.token() {
                Some(Token::Object | Token::Array) => open += 1,
                Some(Token::End) => open -= 1,
                Some(Token::String(_) | Token::Plain(_)) => {}
                None => return,
            }
        }
    }

    /// Skips a value.
    pub(crate) fn skip(&mut self) {
        if let Some(first) = self.token() {
            self.skip_rest(first);
        }
    }

    /// Returns how deep the text is nested: 0 for a number or a string, 1 for `[]`.
    pub(crate) fn depth(mut self) -> usize {
        let (mut open, mut deepest) = (0_usize, 0);
        while let Some(token) = self.token() {
            match token {
                Token::Object | Token::Array => open += 1,
                Token::End => open = open.saturating_sub(1),
                Token::String(_) | Token::Plain(_) => {}
            }
            deepest = deepest.max(open);
        }
        deepest
    }
}

/// Returns the length of the string at the beginning of these bytes, with both quotes.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at + 1;
        }
        // A backslash, and the character that it escapes.
        at += 2;
    }
    bytes.len()
}

/// Returns the length of the number or word at the beginning of these bytes.
fn plain(bytes: &[u8]) -> usize {
    let is_end =
        |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"');
    bytes.iter().position(is_end).unwrap_or(bytes.len())
}

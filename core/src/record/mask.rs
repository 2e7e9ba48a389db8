//! Masks for secrets: the encodings in which a secret occurs in bytes, and its replacement.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use memchr::memmem;
use serde_json::Value;

use crate::text::Printable;

/// Encoding of the bytes that are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretKind {
    /// No encoding: every byte means itself.
    Plain,
    /// JSON: in strings some characters are escaped.
    Json,
}

/// The encoded forms of some secrets, the longest first: a shorter one may be a part of a longer one, whose rest would
/// stay visible.
pub(super) struct Secrets(Vec<(SecretKind, Vec<u8>)>);

impl Secrets {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = BTreeSet::new();
        for secret in secrets {
            // QEMU's options double a comma in a value (QEMU, `util/qemu-option.c`, `get_opt_value`).
            for secret in [secret.to_string(), secret.replace(',', ",,")] {
                let quoted = Value::from(&*secret).to_string();
                let escaped = quoted[1..quoted.len() - 1].to_string();
                // QEMU escapes all that is not ASCII, with upper-case digits (QEMU, `qobject/json-writer.c`,
                // `quoted_str`). Other programs use lower-case digits, or no escapes.
                forms.insert((SecretKind::Json, ascii(&escaped, |unit| format!("\\u{unit:04X}"))));
                forms.insert((SecretKind::Json, ascii(&escaped, |unit| format!("\\u{unit:04x}"))));
                // The outputs of a record contain the printable forms of texts.
                forms.insert((SecretKind::Json, format!("{:#}", Printable::json(&escaped))));
                forms.insert((SecretKind::Plain, format!("{:#}", Printable::line(&secret))));
                forms.insert((SecretKind::Json, escaped));
                forms.insert((SecretKind::Plain, secret));
            }
        }
        let mut forms: Vec<_> = forms.into_iter().map(|(kind, form)| (kind, form.into_bytes())).collect();
        forms.sort_by_key(|(_, form)| core::cmp::Reverse(form.len()));
        Self(forms)
    }

    /// Hides the secrets, and returns the number of places in which they were.
    pub(super) fn hide(&self, bytes: &mut [u8], kind: SecretKind) -> usize {
        // Plain text may contain JSON, so all forms are searched in it. In JSON every character is encoded as JSON.
        let forms = self.0.iter().filter(|(form, _)| kind == SecretKind::Plain || *form == SecretKind::Json);
        forms.map(|(_, form)| hide(bytes, form, kind)).sum()
    }
}

/// Returns the text with every character that is not ASCII escaped. JSON needs two escapes, a surrogate pair, for one
/// that does not fit in 16 bits.
fn ascii(text: &str, escape: impl Fn(u16) -> String) -> String {
    let mut units = [0; 2];
    let escaped = text.chars().map(|character| match character.is_ascii() {
        true => character.to_string(),
        false => character.encode_utf16(&mut units).iter().map(|unit| escape(*unit)).collect(),
    });
    escaped.collect()
}

fn hide(bytes: &mut [u8], form: &[u8], kind: SecretKind) -> usize {
    let places = places(bytes, form, kind);
    places.iter().for_each(|at| mask(&mut bytes[*at..*at + form.len()]));
    places.len()
}

/// Returns where a form occurs. In JSON no form begins inside an escape: masking a part of an escape would make the
/// JSON invalid.
fn places(bytes: &[u8], form: &[u8], kind: SecretKind) -> Vec<usize> {
    let finder = memmem::Finder::new(form);
    let (mut places, mut from, mut within) = (Vec::new(), 0, Escape::Outside);
    while let Some(before) = finder.find(&bytes[from..]) {
        let at = from + before;
        within = bytes[from..at].iter().fold(within, Escape::behind);
        if kind == SecretKind::Json && within != Escape::Outside {
            within = within.behind(&bytes[at]);
            from = at + 1;
        } else {
            places.push(at);
            (from, within) = (at + form.len(), Escape::Outside);
        }
    }
    places
}

/// Position of a byte relative to a JSON escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Outside,
    /// Directly after the backslash.
    Begun,
    /// Inside a `\u` escape of which this many digits are still to come.
    Digits(u8),
}

impl Escape {
    /// Returns the position of the byte after this one.
    fn behind(self, byte: &u8) -> Self {
        match (self, byte) {
            (Self::Outside, b'\\') => Self::Begun,
            (Self::Begun, b'u') => Self::Digits(4),
            (Self::Digits(left @ 2..), _) => Self::Digits(left - 1),
            _ => Self::Outside,
        }
    }
}

fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Overwrites a secret. A number stays a number, so that the JSON around it stays valid.
fn mask(secret: &mut [u8]) {
    let mask = if secret.iter().all(u8::is_ascii_digit) { b'1' } else { b'x' };
    secret.fill(mask);
}

/// Hides the values of a name, as a JSON member or as an option (`name=value`), and adds the values to `found`. An
/// option of this name within the value of another counts as a part of that value.
pub(super) fn hide_named(bytes: &mut [u8], name: &str, found: &mut Vec<String>) -> usize {
    let key = Value::from(name).to_string();
    let option = format!("{name}=");
    let members: Vec<usize> = memmem::find_iter(bytes, &key).map(|at| at + key.len()).collect();
    let members = members.into_iter().filter_map(|behind| {
        let start = behind + string_behind_colon(&bytes[behind..])?;
        Some((start, start + end_of_string(&bytes[start..]), SecretKind::Json))
    });
    let is_option = |at: &usize| *at == 0 || !bytes[at - 1].is_ascii_alphanumeric() && !b"-_".contains(&bytes[at - 1]);
    let options: Vec<usize> = memmem::find_iter(bytes, &option).filter(is_option).collect();
    let mut behind = 0;
    let options = options.into_iter().filter_map(|at| {
        let start = at + option.len();
        let is_another = at >= behind;
        behind = if is_another { start + end_of_option(&bytes[start..]) } else { behind };
        is_another.then_some((start, behind, SecretKind::Plain))
    });
    let places: Vec<_> = members.chain(options).filter(|(start, end, _)| end > start).collect();
    // One value may contain another, so all are read before any is masked.
    for (start, end, kind) in &places {
        let text = String::from_utf8_lossy(&bytes[*start..*end]);
        found.extend(match kind {
            SecretKind::Plain => Some(text.replace(",,", ",")),
            SecretKind::Json => serde_json::from_str(&format!("\"{text}\"")).ok(),
        });
    }
    places.iter().for_each(|(start, end, _)| mask(&mut bytes[*start..*end]));
    places.len()
}

/// Returns where the string begins, if the bytes begin with a colon and a string.
fn string_behind_colon(bytes: &[u8]) -> Option<usize> {
    let value = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(bytes.len() - value.len())
}

/// Returns the length of the string up to its closing quote.
fn end_of_string(bytes: &[u8]) -> usize {
    let is_end = |at: &usize| bytes[*at] == b'"' && !is_escaped(&bytes[..*at]);
    (0..bytes.len()).find(is_end).unwrap_or(bytes.len())
}

/// Returns the length of the value of an option. It ends at a comma that is not doubled (QEMU, `util/qemu-option.c`,
/// `get_opt_value`), at whitespace, or at the end of the string around it.
fn end_of_option(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b',' if bytes.get(at + 1) == Some(&b',') => at += 2,
            b',' | b'"' | b'\\' => break,
            byte if byte.is_ascii_whitespace() => break,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    fn hidden(secrets: &[&str], text: &str, kind: SecretKind) -> (usize, String) {
        let mut bytes = text.as_bytes().to_vec();
        let count = Secrets::new(secrets.iter().copied()).hide(&mut bytes, kind);
        (count, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let expected = (1, "id=s,data=xxxx,x=1".into());
        assert_eq!(hidden(&["a,b"], "id=s,data=a,,b,x=1", SecretKind::Plain), expected);
        for (written, masked) in
            [(r"p\u00E4ss\n", "xxxxxxxxxxxxx"), (r"p\u00e4ss\n", "xxxxxxxxxxxxx"), ("päss\\n", "xxxxxxxx")]
        {
            let masked = &masked[..written.len()];
            assert_eq!(hidden(&["päss\n"], written, SecretKind::Json), (1, masked.into()), "{written}");
        }
        assert_eq!(hidden(&["abcd\""], r#""abcd\"""#, SecretKind::Json), (1, "\"xxxxxx\"".into()));
        assert_eq!(hidden(&[r"abc\"], r#""abc\\""#, SecretKind::Json), (1, "\"xxxxx\"".into()));
        assert_eq!(hidden(&["name"], r#""\name name""#, SecretKind::Json), (1, r#""\name xxxx""#.into()));
        // The first `naan` begins inside the escape and overlaps the second.
        assert_eq!(hidden(&["naan"], r#""\naanaan""#, SecretKind::Json), (1, r#""\naaxxxx""#.into()));
        assert_eq!(hidden(&["4711"], "{\"pin\": 4711}", SecretKind::Json), (1, "{\"pin\": 1111}".into()));
    }

    #[test]
    fn the_longer_of_two_secrets_is_masked_first() {
        assert_eq!(
            hidden(&["geheim", "geheim-und-lang"], "geheim-und-lang geheim", SecretKind::Plain).1,
            "xxxxxxxxxxxxxxx xxxxxx"
        );
    }

    #[test]
    fn the_values_of_a_name_are_found() {
        let mut found = Vec::new();
        let mut text =
            br#"{"data" : "a\"b", "data": 5, "x": "secret,id=data=1,data=p,,q meta-data=r data=s"}"#.to_vec();
        assert_eq!(hide_named(&mut text, "data", &mut found), 4);
        let expected = r#"{"data" : "xxxx", "data": 5, "x": "secret,id=data=1,data=xxxx meta-data=r data=x"}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!(found, ["a\"b", "1", "p,q", "s"]);
    }

    #[test]
    fn a_value_within_the_value_of_the_same_name_is_found_too() {
        let mut found = Vec::new();
        let mut text = br#"{"data": "id=s,data=geheim"}"#.to_vec();
        assert_eq!(hide_named(&mut text, "data", &mut found), 2);
        assert_eq!(String::from_utf8(text).unwrap(), r#"{"data": "xxxxxxxxxxxxxxxx"}"#);
        assert_eq!(found, ["id=s,data=geheim", "geheim"]);
    }

    #[test]
    fn an_option_within_the_value_of_another_is_a_part_of_it() {
        let mut found = Vec::new();
        let mut text = b"data=".repeat(1 << 16);
        text.extend_from_slice(b",data=p");
        assert_eq!(hide_named(&mut text, "data", &mut found), 2);
        assert_eq!((found[0].len(), &*found[1]), (5 * ((1 << 16) - 1), "p"));
    }

    #[test]
    fn an_escape_of_six_characters_is_left_whole() {
        let text = r#""\u00e4 00e4""#;
        assert_eq!(hidden(&["00e4"], text, SecretKind::Json), (1, r#""\u00e4 xxxx""#.into()));
    }

    #[test]
    fn a_long_run_of_backslashes_is_scanned_once() {
        let mut bytes = br"\\".repeat(1 << 20);
        assert_eq!(Secrets::new([r"\\"]).hide(&mut bytes, SecretKind::Json), 1 << 19);
        assert!(bytes.iter().all(|byte| *byte == b'x'));
    }
}

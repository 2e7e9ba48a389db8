//! Scanner that finds the members of a message in one pass.
//!
//! It takes half the time of `serde_json`, which was two thirds of the cost of an event. It accepts only messages as
//! QEMU writes them. For unusual ones (an escape in a member's name, a member that occurs twice, nesting beyond what a
//! 64-bit word counts) and for bytes that are not JSON it returns `None`; then `serde_json` reads the message, and
//! `serde_json` alone rejects any. A fuzzer compares the two readers on every message that this one accepts.
//!
//! Each function reads one element that begins at an offset, and returns the offset of its end; `None` means that
//! `serde_json` must read the message.

use super::envelope::Envelope;

/// Returns the members of a message. `None` means that `serde_json` must read it.
pub(super) fn envelope(frame: &[u8]) -> Option<Envelope<'_>> {
    if !frame.is_ascii() {
        // Each slice of valid UTF-8 at an ASCII boundary is valid UTF-8.
        core::str::from_utf8(frame).ok()?;
    }
    let mut envelope = Envelope::default();
    let mut is_first = true;
    let mut at = if let Some(begin) = word(frame, 0, b"{\"return\": ") {
        is_first = false;
        result(frame, begin, &mut envelope)?
    } else if let Some(at) = stamp(frame) {
        at
    } else {
        visible(frame, 0).filter(|(first, _)| *first == b'{')?.1
    };
    loop {
        if !core::mem::take(&mut is_first) {
            let (behind, next) = visible(frame, at)?;
            at = next;
            match behind {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        let begin = visible(frame, at)?.1;
        at = member(frame, at)?;
        let name = frame.get(begin..at)?;
        let begin = visible(frame, at)?.1 - 1;
        at = value(frame, at)?;
        let value = frame.get(begin..at)?;
        let place = match name {
            [b'e', b'v', b'e', b'n', b't', b'"', ..] => Some(&mut envelope.event),
            [b'd', b'a', b't', b'a', b'"', ..] => Some(&mut envelope.data),
            [b'r', b'e', b't', b'u', b'r', b'n', b'"', ..] => Some(&mut envelope.value),
            [b'i', b'd', b'"', ..] => Some(&mut envelope.id),
            [b'e', b'r', b'r', b'o', b'r', b'"', ..] => Some(&mut envelope.error),
            [b'Q', b'M', b'P', b'"', ..] => Some(&mut envelope.greeting),
            // A name with an escape may be any of these.
            _ if name.contains(&b'\\') => return None,
            _ => None,
        };
        if place.is_some_and(|place| place.replace(value).is_some()) {
            return None;
        }
    }
    // These two count as absent when they are `null`, which `serde_json` handles.
    let is_null = |member: Option<&[u8]>| member.is_some_and(|member| member == b"null");
    let has_null = is_null(envelope.error) || is_null(envelope.greeting);
    (!has_null && visible(frame, at).is_none()).then_some(envelope)
}

/// Reads the value of a reply, and the number behind it that is its id, as QEMU writes them (measured with QEMU 7.2.22).
#[inline(always)]
fn result<'a>(frame: &'a [u8], begin: usize, envelope: &mut Envelope<'a>) -> Option<usize> {
    let begin = visible(frame, begin)?.1 - 1;
    let end = value(frame, begin)?;
    envelope.value = frame.get(begin..end);
    let Some(begin) = word(frame, end, b", \"id\": ").filter(|at| frame.get(*at).is_some_and(u8::is_ascii_digit))
    else {
        return Some(end);
    };
    let end = number(frame, begin)?;
    envelope.id = frame.get(begin..end);
    Some(end)
}

/// Reads the beginning of an event up to its timestamp. It is a third of most events, and QEMU always writes it alike
/// (measured with QEMU 7.2.22). Its numbers may be negative: both are -1 when QEMU cannot read the host's clock
/// (`docs/interop/qmp-spec.rst`, Asynchronous events).
fn stamp(frame: &[u8]) -> Option<usize> {
    let seconds = word(frame, 0, b"{\"timestamp\": {\"seconds\": ")?;
    let microseconds = word(frame, number(frame, seconds)?, b", \"microseconds\": ")?;
    word(frame, number(frame, microseconds)?, b"},")
}

/// Finds the next byte that is no white space, and returns it with the offset of its end.
#[inline(always)]
fn visible(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            return Some((byte, at));
        }
    }
}

/// Reads the name of a member, and its colon.
#[inline(always)]
fn member(bytes: &[u8], at: usize) -> Option<usize> {
    // QEMU's own spacing first (QEMU, `qobject/json-writer.c`, `maybe_comma_name`), then any other.
    let at = match bytes.get(at..)? {
        [b' ', b'"', ..] => at + 2,
        _ => visible(bytes, at).filter(|(quote, _)| *quote == b'"')?.1,
    };
    let at = string(bytes, at)?;
    match bytes.get(at..)? {
        [b':', b' ', ..] => Some(at + 2),
        _ => Some(visible(bytes, at).filter(|(colon, _)| *colon == b':')?.1),
    }
}

/// Reads a value.
fn value(bytes: &[u8], mut at: usize) -> Option<usize> {
    // A one, followed by a bit for each open bracket: set for an object, clear for an array.
    let mut open = 1_u64;
    loop {
        let (first, next) = visible(bytes, at)?;
        at = match first {
            b'"' => string(bytes, next)?,
            b'{' => match visible(bytes, next)? {
                (b'}', end) => end,
                _ => {
                    open = open.checked_mul(2)? | 1;
                    at = member(bytes, next)?;
                    continue;
                }
            },
            b'[' => match visible(bytes, next)? {
                (b']', end) => end,
                _ => {
                    open = open.checked_mul(2)?;
                    at = next;
                    continue;
                }
            },
            b'-' | b'0'..=b'9' => number(bytes, next - 1)?,
            b't' => word(bytes, next, b"rue")?,
            b'f' => word(bytes, next, b"alse")?,
            b'n' => word(bytes, next, b"ull")?,
            _ => return None,
        };
        // After a value: a comma, or the end of the brackets around it.
        while open > 1 {
            let (behind, next) = visible(bytes, at)?;
            at = next;
            match (behind, open & 1 == 1) {
                (b',', true) => {
                    at = member(bytes, at)?;
                    break;
                }
                (b',', false) => break,
                (b'}', true) | (b']', false) => open >>= 1,
                _ => return None,
            }
        }
        if open == 1 {
            return Some(at);
        }
    }
}

/// Reads the rest of a string, up to its closing quote.
#[inline(always)]
fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = find_special(bytes, at)?;
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(bytes, at + 1)?,
            _ => return None,
        }
    }
}

/// Finds the first quote, backslash or control character from an offset on, and returns its own offset.
#[inline(always)]
pub(crate) fn find_special(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return Some(at + special.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let found = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    found.map(|found| at + found)
}

/// Reads an escape after its backslash.
#[cold]
fn escape(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => bytes.get(at + 1..at + 5)?.iter().all(u8::is_ascii_hexdigit).then_some(at + 5),
        _ => None,
    }
}

/// Reads a number.
#[inline]
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let at = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut at = match bytes.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits(bytes, at + 1),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        at = some_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = some_digits(bytes, at + 1 + usize::from(signed))?;
    }
    Some(at)
}

fn some_digits(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at)?.is_ascii_digit().then(|| digits(bytes, at + 1))
}

fn digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// Marks the first of eight bytes that is a quote, a backslash or a control character, by setting its highest bit. Bits
/// of later bytes mean nothing.
#[inline(always)]
fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // A subtraction sets the highest bit of a byte that is too small; a byte that had that bit set is not ASCII.
    let is = |byte: u8| (eight ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    (eight.wrapping_sub(ONES * 0x20) | is(b'"') | is(b'\\')) & !eight & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_as_qemu_writes_them_are_scanned_without_serde() {
        for message in [
            r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#,
            r#"{"return": {}, "id": 3}"#,
            r#"{"return":  1, "id": 3}"#,
            r#"{"return": [{"a\u0020": -1.5e+3, "b": [true, false, null, [], {}]}, "\r\n", "ü"], "id": 3}"#,
            r#"{"id": 3, "error": {"class": "GenericError", "desc": "no \"disk\""}}"#,
            r#"{"timestamp": {"seconds": 1700000000, "microseconds": 123456}, "event": "STOP"}"#,
            r#"{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "RESET", "data": {"guest": false}}"#,
            "{\n    \"return\": {\n    }\n,\t\"id\" : 3 } ",
        ] {
            let known: Envelope<'_> = serde_json::from_str(message).unwrap();
            assert_eq!(envelope(message.as_bytes()), Some(known), "{message}");
        }
    }

    #[test]
    fn unusual_messages_are_left_to_serde() {
        let deep = "[".repeat(65);
        for message in [
            r#"{"\u0065vent": "STOP"}"#,
            r#"{"return": {}, "return": {}}"#,
            r#"{"return": {}, "error": null}"#,
            "{}",
            &alloc::format!(r#"{{"return": {deep}{}}}"#, deep.replace('[', "]")),
        ] {
            assert_eq!(envelope(message.as_bytes()), None, "{message}");
        }
    }
}

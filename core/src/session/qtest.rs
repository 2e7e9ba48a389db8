//! Decides how the lines of QEMU's qtest are understood.
//!
//! A command is answered by one line, `OK` or `FAIL` with something behind it, in the order of the commands
//! (`system/qtest.c`). Between them come interrupts that were asked for (`IRQ raise 3`).

use alloc::format;
use alloc::string::ToString;

use bytes::Bytes;

use crate::event::Event;
use crate::fault::ProtocolError;
use crate::payload::Payload;
use crate::text::{excerpt, lossy};
use crate::wire::{ErrorReply, Message};

/// Reads a line. What is `OK` is a string with what stands behind it, and what is not is a refusal in its words.
///
/// # Errors
///
/// For an interrupt that cannot be read: it is no answer either.
pub(super) fn read(line: &Bytes) -> Result<Message, ProtocolError> {
    let text = lossy(line);
    let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match word {
        "IRQ" => interrupt(rest)
            .map(Message::Event)
            .ok_or_else(|| ProtocolError::Malformed { reason: "not an interrupt".to_string(), excerpt: excerpt(line) }),
        "OK" => Ok(Message::Reply { id: None, result: Ok(string(rest.trim())) }),
        _ => Ok(refusal(word, rest)),
    }
}

fn refusal(word: &str, rest: &str) -> Message {
    let error = ErrorReply { class: word.to_string(), description: rest.to_string() };
    Message::Reply { id: None, result: Err(error) }
}

/// A string as the JSON that replies are made of.
fn string(text: &str) -> Payload {
    Payload(serde_json::Value::from(text).to_string().into())
}

/// An interrupt as an event: `IRQ` with `{"raised": true, "line": 3}`.
fn interrupt(rest: &str) -> Option<Event> {
    let (what, line) = rest.split_once(' ')?;
    let (raised, line) = (what == "raise", line.trim().parse::<u32>().ok()?);
    let frame = Bytes::from(format!(r#"{{"event":"IRQ","data":{{"raised":{raised},"line":{line}}}}}"#));
    match Message::read(&frame) {
        Ok(Message::Event(event)) => Some(event),
        _ => None,
    }
}

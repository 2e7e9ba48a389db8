//! Reader of the lines of QEMU's qtest.
//!
//! Each command is answered by one line that begins with `OK` or `FAIL`, in the order of the commands (QEMU,
//! `system/qtest.c`, `qtest_process_command`). Between these lines come interrupts that the client intercepted, such as
//! `IRQ raise 3` (QEMU, `system/qtest.c`, `qtest_irq_handler`). They are no replies: a reader that counts them as such
//! is one command behind from then on.

use alloc::format;
use alloc::string::ToString;

use bytes::Bytes;

use crate::event::Event;
use crate::fault::ProtocolError;
use crate::payload::Payload;
use crate::text::{excerpt, lossy};
use crate::wire::{ErrorReply, Message};

/// Reads a line. `OK` becomes a reply with the rest of the line as a string; any other word becomes a refusal with that
/// word as its class.
///
/// # Errors
///
/// [`ProtocolError::Malformed`] for an interrupt that cannot be read. Such a line answers no command either.
pub(super) fn read(line: &Bytes) -> Result<Message, ProtocolError> {
    let text = lossy(line);
    let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match word {
        "IRQ" => interrupt(rest)
            .map(Message::Event)
            .ok_or_else(|| ProtocolError::Malformed { reason: "not an interrupt".into(), excerpt: excerpt(line) }),
        "OK" => Ok(Message::Reply { id: None, result: Ok(string(rest.trim())) }),
        _ => Ok(refusal(word, rest)),
    }
}

fn refusal(word: &str, rest: &str) -> Message {
    let error = ErrorReply { class: word.into(), description: rest.into() };
    Message::Reply { id: None, result: Err(error) }
}

/// Writes a string as JSON, as in a QMP reply.
fn string(text: &str) -> Payload {
    Payload::new(serde_json::Value::from(text).to_string().into())
}

/// Makes an event of an interrupt: `IRQ` with the data `{"raised": true, "line": 3}`. `None` means that it is
/// malformed.
fn interrupt(rest: &str) -> Option<Event> {
    let (what, line) = rest.split_once(' ')?;
    let (raised, line) = (what == "raise", line.trim().parse::<u32>().ok()?);
    let frame = Bytes::from(format!(r#"{{"event":"IRQ","data":{{"raised":{raised},"line":{line}}}}}"#));
    match Message::read(&frame) {
        Ok(Message::Event(event)) => Some(event),
        _ => None,
    }
}

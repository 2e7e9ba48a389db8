//! Decides in what words QEMU speaks, and remembers what it said up to which byte of its output.

use std::collections::VecDeque;

use qemu_machine_core::Value;

use super::random::Random;
use super::request::ParsedRequest;

/// One message, as those who check need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerMessage {
    Greeting,
    /// The negotiation succeeded.
    Accepted {
        out_of_band: bool,
    },
    /// It did not.
    Declined,
    Event(Happened),
    /// The reply to a command of the caller, or of the library.
    Reply {
        nonce: Option<u64>,
        quits: bool,
        how: Reply,
    },
    /// The answer to the library's own question, whether it lives.
    Sign,
    /// A reply that was said already.
    Doubled,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) name: &'static str,
    pub(super) data: Option<String>,
    /// How long its message is.
    pub(super) size: usize,
}

/// How a command was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Returned,
    Refused,
    /// It could not be read, and so the answer names no command.
    Nameless,
}

/// What was said and did not reach us yet.
#[derive(Debug, Default)]
pub(super) struct Speech {
    said: VecDeque<(usize, PeerMessage)>,
}

impl Speech {
    pub(super) fn note(&mut self, end: usize, said: PeerMessage) {
        self.said.push_back((end, said));
    }

    /// What is complete in the first so many bytes.
    pub(super) fn reached(&mut self, delivered: usize) -> Vec<PeerMessage> {
        let count = self.said.iter().take_while(|(end, _)| *end <= delivered).count();
        self.said.drain(..count).map(|(_, said)| said).collect()
    }

    /// The output was cut off there.
    pub(super) fn truncate(&mut self, length: usize) {
        self.said.retain(|(end, _)| *end <= length);
    }
}

pub(super) fn greeting(out_of_band: bool) -> String {
    let capabilities = if out_of_band { r#""oob""# } else { "" };
    let version = r#""version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "simulated"}"#;
    format!(r#"{{"QMP": {{{version}, "capabilities": [{capabilities}]}}}}"#)
}

/// An event that the world knows again by its number.
pub(super) fn event(name: &str, data: Option<&str>) -> String {
    let timestamp = r#""timestamp": {"seconds": 1700000000, "microseconds": 7}"#;
    let data = data.map(|data| format!(r#", "data": {data}"#)).unwrap_or_default();
    format!(r#"{{{timestamp}, "event": "{name}"{data}}}"#)
}

/// The reply names what it answers, so that it is seen when it comes to somebody else.
pub(super) fn returned(request: &ParsedRequest, random: &mut Random) -> String {
    let pads = ["", "}", "{", "\\\"", "\\\\", "]}\\\\\\\"{[", "\\u00fc\\r\\n"];
    let value = match request.nonce {
        Some(nonce) => {
            let pad: String = (0..random.below(4)).map(|_| random.pick(&pads)).collect();
            format!(r#"{{"name": "{}", "nonce": {nonce}, "pad": "{pad}"}}"#, request.name)
        }
        None => "{}".into(),
    };
    let id = request.id.as_ref().map(|id| format!(r#", "id": {id}"#)).unwrap_or_default();
    format!(r#"{{"return": {value}{id}}}"#)
}

pub(super) fn refused(request: &ParsedRequest, class: &str, words: &str) -> String {
    let id = request.id.as_ref().map(|id| format!(r#""id": {id}, "#)).unwrap_or_default();
    let nonce = request.nonce.map(|nonce| format!(" (#{nonce}#)")).unwrap_or_default();
    format!(r#"{{{id}"error": {{"class": "{class}", "desc": "{words}{nonce}"}}}}"#)
}

/// The same message over several lines, as a monitor with `pretty=on` writes it.
pub(super) fn pretty(message: &str) -> String {
    let value: Value = message.parse().unwrap_or_default();
    format!("{value:#}").replace("\n", "\r\n")
}

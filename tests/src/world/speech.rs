//! Messages of the simulated QEMU: their text, and their positions in its output.

use std::collections::VecDeque;

use qemu_machine_core::Value;

use super::random::Random;
use super::request::ParsedRequest;

/// A message of QEMU, as the checks need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerMessage {
    Greeting,
    /// The negotiation succeeded.
    Accepted {
        out_of_band: bool,
    },
    /// The negotiation was refused.
    Declined,
    Event(Happened),
    /// The reply to a command of the caller, or of the library.
    Reply {
        nonce: Option<u64>,
        quits: bool,
        how: Reply,
    },
    /// The reply to a heartbeat of the library.
    Sign,
    /// A repeated reply.
    Doubled,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) name: &'static str,
    pub(super) data: Option<String>,
    /// The length of its message, in bytes.
    pub(super) size: usize,
}

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Returned,
    Refused,
    /// An error without an id: QEMU could not parse the command (`docs/interop/qmp-spec.rst`, Error).
    Nameless,
}

/// The messages that the driver has not received completely, each with the position of its end.
#[derive(Debug, Default)]
pub(super) struct Speech {
    said: VecDeque<(usize, PeerMessage)>,
}

impl Speech {
    pub(super) fn note(&mut self, end: usize, said: PeerMessage) {
        self.said.push_back((end, said));
    }

    /// Returns the messages that end within the first `delivered` bytes, each once.
    pub(super) fn reached(&mut self, delivered: usize) -> Vec<PeerMessage> {
        let count = self.said.iter().take_while(|(end, _)| *end <= delivered).count();
        self.said.drain(..count).map(|(_, said)| said).collect()
    }

    /// Drops the messages that end after `length`, where the output was cut off.
    pub(super) fn truncate(&mut self, length: usize) {
        self.said.retain(|(end, _)| *end <= length);
    }
}

pub(super) fn greeting(out_of_band: bool) -> String {
    let capabilities = if out_of_band { r#""oob""# } else { "" };
    let version = r#""version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "simulated"}"#;
    format!(r#"{{"QMP": {{{version}, "capabilities": [{capabilities}]}}}}"#)
}

/// Returns an event. A number in its data identifies it.
pub(super) fn event(name: &str, data: Option<&str>) -> String {
    let timestamp = r#""timestamp": {"seconds": 1700000000, "microseconds": 7}"#;
    let data = data.map(|data| format!(r#", "data": {data}"#)).unwrap_or_default();
    format!(r#"{{{timestamp}, "event": "{name}"{data}}}"#)
}

/// Returns a success reply. It names its command, so that a reply to the wrong command is detected.
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

/// Returns the same message on several lines, as a monitor with `pretty=on` writes it.
pub(super) fn pretty(message: &str) -> String {
    let value: Value = message.parse().unwrap_or_default();
    format!("{value:#}").replace("\n", "\r\n")
}

//! Null server: a monitor that answers every command at once, with the right id, and does nothing.
//!
//! Benchmarks measure the cost of a client against it, so it is fast. It writes its reply before it reads on.

use std::io::{self, Read, Write};

/// The greeting. It offers no capabilities.
pub const GREETING: &[u8] =
    b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, \"capabilities\": []}}\r\n";

/// The value that `query-status` returns.
pub const STATUS: &[u8] = b"{\"status\": \"running\", \"singlestep\": false, \"running\": true}";

const VERSION: &[u8] = b"{\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}";

/// Two events in QEMU's format, which a flood repeats alternately.
pub const EVENTS: [&[u8]; 2] = [
    b"{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"drive-virtio-disk0\", \"len\": 10737418240, \"offset\": 10737418240, \"speed\": 0, \"type\": \"mirror\"}}\r\n",
    b"{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 654321}, \"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 3600, \"qom-path\": \"/machine/unattached/device[7]/rtc\"}}\r\n",
];

/// The sizes of the answers to the commands that QEMU does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wealth {
    /// The number of events that follow the reply to `flood`.
    pub events: usize,
    /// The value that `large` returns, and `dribble` in writes of 64 bytes.
    pub large: Vec<u8>,
}

/// Serves one client until it closes the connection.
///
/// # Errors
///
/// If reading or writing fails.
pub fn serve(mut client: impl Read + Write, wealth: &Wealth) -> io::Result<()> {
    client.write_all(GREETING)?;
    let mut requests = Requests::default();
    let mut buffer = vec![0; 64 << 10];
    let mut replies = Vec::new();
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for byte in &buffer[..count] {
            if requests.is_whole_with(*byte) {
                answer(&requests.text, wealth, &mut replies, &mut client)?;
                requests.text.clear();
            }
        }
        client.write_all(&replies)?;
        replies.clear();
    }
}

/// Appends the reply to `replies`. Long answers are written at once.
fn answer(request: &[u8], wealth: &Wealth, replies: &mut Vec<u8>, client: &mut impl Write) -> io::Result<()> {
    let is = |name: &[u8]| request.windows(name.len()).take(32).any(|window| window == name);
    let value: &[u8] = match () {
        () if is(b"\"query-status\"") => STATUS,
        () if is(b"\"query-version\"") => VERSION,
        () if is(b"\"large\"") || is(b"\"dribble\"") || is(b"\"query-qmp-schema\"") => &wealth.large,
        () => b"{}",
    };
    replies.extend_from_slice(b"{\"return\": ");
    replies.extend_from_slice(value);
    if let Some(id) = id(request) {
        replies.extend_from_slice(b", \"id\": ");
        replies.extend_from_slice(id);
    }
    replies.extend_from_slice(b"}\r\n");
    if is(b"\"dribble\"") {
        for piece in std::mem::take(replies).chunks(64) {
            client.write_all(piece)?;
        }
    }
    if is(b"\"flood\"") {
        for number in 0..wealth.events {
            replies.extend_from_slice(EVENTS[number % 2]);
            if replies.len() > 60 << 10 {
                client.write_all(replies)?;
                replies.clear();
            }
        }
    }
    Ok(())
}

/// Returns the value after the last `"id":`.
fn id(request: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"id\":";
    let at = request.windows(KEY.len()).rposition(|window| window == KEY)? + KEY.len();
    let behind = request[at..].trim_ascii_start();
    let end = behind.iter().position(|byte| b",} ".contains(byte))?;
    Some(&behind[..end])
}

/// Splits the input into requests by counting braces, as QEMU does: a line feed between requests is optional
/// (QEMU, `qobject/json-streamer.c`, `json_message_process_token`).
#[derive(Debug, Default)]
struct Requests {
    text: Vec<u8>,
    open: usize,
    quoted: bool,
    escaped: bool,
}

impl Requests {
    fn is_whole_with(&mut self, byte: u8) -> bool {
        if self.text.is_empty() && byte != b'{' {
            return false;
        }
        self.text.push(byte);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.quoted,
            b'"' => self.quoted = !self.quoted,
            b'{' if !self.quoted => self.open += 1,
            b'}' if !self.quoted => self.open -= 1,
            _ => {}
        }
        self.open == 0
    }
}

/// Returns a JSON list of `bytes` bytes, or a little more, that resembles the reply to `query-qmp-schema`.
#[must_use]
pub fn schema_of(bytes: usize) -> Vec<u8> {
    let mut list = Vec::with_capacity(bytes + 300);
    list.push(b'[');
    for number in 0.. {
        let members = format!(
            "{{\"name\": \"q_obj_{number}-arg\", \"members\": [{{\"name\": \"device\", \"default\": null, \"type\": \"str\"}}, {{\"name\": \
             \"speed\", \"type\": \"int\"}}, {{\"name\": \"force\", \"default\": null, \"type\": \"bool\"}}], \"meta-type\": \"object\"}}"
        );
        list.extend_from_slice(members.as_bytes());
        if list.len() + 1 >= bytes {
            break;
        }
        list.extend_from_slice(b", ");
    }
    list.push(b']');
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_with_their_braces() {
        let mut requests = Requests::default();
        let text = br#"{"a":"}\"{","id":1}"#;
        let ends: Vec<bool> = text.iter().map(|byte| requests.is_whole_with(*byte)).collect();
        assert_eq!(ends.iter().position(|end| *end), Some(text.len() - 1));
        assert_eq!(id(&requests.text), Some(b"1".as_slice()));
        assert_eq!(id(br#"{"execute": "stop", "id": "abc"}"#), Some(b"\"abc\"".as_slice()));
    }

    #[test]
    fn a_schema_is_json_of_about_the_requested_size() {
        let schema = schema_of(200_000);
        assert!((200_000..200_400).contains(&schema.len()), "{}", schema.len());
        assert!(serde_json::from_slice::<serde_json::Value>(&schema).is_ok_and(|value| value.is_array()));
    }
}

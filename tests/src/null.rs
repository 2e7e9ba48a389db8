//! Decides what a monitor says that has nothing to do: it answers every command at once, with the right id.
//!
//! What a client costs is measured against it, so it is quick, and it provably answers before it reads on.

use std::io::{self, Read, Write};

/// What it says when somebody connects. It offers nothing.
pub const GREETING: &[u8] =
    b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, \"capabilities\": []}}\r\n";

/// What `query-status` returns.
pub const STATUS: &[u8] = b"{\"status\": \"running\", \"singlestep\": false, \"running\": true}";

const VERSION: &[u8] = b"{\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}";

/// Two events as QEMU writes them; a flood has them in turn.
pub const EVENTS: [&[u8]; 2] = [
    b"{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"drive-virtio-disk0\", \"len\": 10737418240, \"offset\": 10737418240, \"speed\": 0, \"type\": \"mirror\"}}\r\n",
    b"{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 654321}, \"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 3600, \"qom-path\": \"/machine/unattached/device[7]/rtc\"}}\r\n",
];

/// What the commands bring that are not of QEMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wealth {
    /// How many events follow the reply to `flood`.
    pub events: usize,
    /// What `large` returns, and `dribble`, 64 bytes at a time.
    pub large: Vec<u8>,
}

/// Answers until nobody asks any more.
///
/// # Errors
///
/// When the connection breaks.
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

/// Puts the reply behind the others; what is long goes out by itself.
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

/// What stands behind the last `"id":`.
fn id(request: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"id\":";
    let at = request.windows(KEY.len()).rposition(|window| window == KEY)? + KEY.len();
    let behind = request[at..].trim_ascii_start();
    let end = behind.iter().position(|byte| b",} ".contains(byte))?;
    Some(&behind[..end])
}

/// Finds where a request ends, as QEMU does: by its braces, for there need not be a line feed.
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

/// A list of so many bytes, or a little more, that looks like QEMU's description of its own protocol.
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
    fn a_schema_is_json_of_about_the_size() {
        let schema = schema_of(200_000);
        assert!((200_000..200_400).contains(&schema.len()), "{}", schema.len());
        assert!(serde_json::from_slice::<serde_json::Value>(&schema).is_ok_and(|value| value.is_array()));
    }
}

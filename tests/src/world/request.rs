//! Parser of the requests that the simulated QEMU reads: a stream of JSON objects without delimiters.

use qemu_machine_core::Value;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct ParsedRequest {
    pub(super) name: String,
    /// The id as JSON; `None` means that the request has none, or is malformed.
    pub(super) id: Option<String>,
    /// The number that the caller gave the request, to recognise its reply. Requests of the library itself have none.
    pub(super) nonce: Option<u64>,
    pub(super) out_of_band: bool,
    pub(super) enables_out_of_band: bool,
    pub(super) is_malformed: bool,
}

/// Splitter of the stream, one byte at a time, by counting braces (QEMU, `qobject/json-streamer.c`,
/// `json_message_process_token`).
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    text: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Reader {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Reads one byte, and returns the request that it completes, if any.
    pub(super) fn push(&mut self, byte: u8) -> Option<ParsedRequest> {
        self.text.push(byte);
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return None;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        (self.depth == 0).then(|| ParsedRequest::read(&std::mem::take(&mut self.text)))
    }
}

impl ParsedRequest {
    fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        match text.parse::<Value>() {
            Ok(value) => {
                let name = ["execute", "exec-oob"].map(|member| value[member].as_str());
                Self {
                    name: name.into_iter().flatten().next().unwrap_or_default().into(),
                    id: value.get("id").map(Value::to_string),
                    nonce: value["arguments"]["nonce"].as_u64(),
                    out_of_band: value.get("exec-oob").is_some(),
                    enables_out_of_band: value["arguments"]["enable"][0] == "oob",
                    is_malformed: false,
                }
            }
            Err(_) => Self {
                name: String::new(),
                id: None,
                nonce: nonce_in(&text),
                out_of_band: false,
                enables_out_of_band: false,
                is_malformed: true,
            },
        }
    }
}

/// Finds the number in a malformed request. QEMU cannot read it; the checks of the world need it.
fn nonce_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("\"nonce\":")?;
    let digits = rest.trim_start().split(|next: char| !next.is_ascii_digit()).next()?;
    digits.parse().ok()
}

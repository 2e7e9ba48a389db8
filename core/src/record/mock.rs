//! Mock of a recorded monitor.

use crate::record;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::{Value, json};

use super::line::{Entry, Line};
use super::lines::Record;
use crate::channel::Channel;
use crate::wire::{Frame, Framer};

/// A monitor that replies as a recorded one did, for tests without a QEMU.
///
/// The mock sends the recorded greeting. It answers a command with the reply to the next unused command of the record
/// that has the same name and arguments, or else the same name. The reply gets the id of the request, and comes with
/// the events that came with it in the record. A command that the record does not have is refused with a `GenericError`
/// that names it. The mock has no clock and does no IO: the runtimes serve it on a socket.
///
/// ```
/// # use qemu_machine_core::record::{Mock, Record};
/// let record: Record = r#"
/// {"ns":0,"input":{"received":{"from":"monitor","bytes":"{\"QMP\": {\"version\": {}}}\r\n"}}}
/// {"ns":0,"input":{"sent":{"to":"monitor","bytes":"{\"execute\":\"stop\",\"id\":3}"}}}
/// {"ns":9,"input":{"received":{"from":"monitor","bytes":"{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 3}\r\n"}}}
/// "#.parse()?;
/// let mut mock = Mock::new(&record);
/// assert_eq!(mock.greeting(), "{\"QMP\":{\"version\":{}}}\r\n");
/// assert_eq!(mock.receive(br#"{"execute": "stop", "id": "mine"}"#), "{\"event\":\"STOP\"}\r\n{\"id\":\"mine\",\"return\":{}}\r\n");
/// # Ok::<(), qemu_machine_core::record::NotARecord>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mock {
    greeting: String,
    exchanges: Vec<Exchange>,
    /// The recorded ids that have no reply yet, each with its exchange.
    open: Vec<(Value, usize)>,
    /// The bytes of an incomplete request.
    received: Vec<u8>,
    is_over: bool,
    /// Whether the first commands after the handshake started the guest.
    starts_guest: bool,
}

/// A command of the record, with its reply and events.
#[derive(Clone, Debug)]
struct Exchange {
    name: String,
    arguments: Value,
    /// The events before the reply, the reply, and the events after it up to the next command.
    messages: Vec<Value>,
    /// The monitor was closed after it.
    is_last: bool,
    is_used: bool,
    /// The session sent it to start the guest. A client of the mock finds the guest started.
    is_startup: bool,
}

#[derive(Deserialize)]
struct MockRequest {
    #[serde(alias = "exec-oob")]
    execute: String,
    #[serde(default)]
    arguments: Value,
    id: Option<Value>,
}

impl Exchange {
    fn is_prelaunch(&self) -> bool {
        self.messages.iter().any(|message| message["return"]["status"] == "prelaunch")
    }
}

impl Mock {
    /// The largest request in bytes that the mock reads: 64 MiB, as in QEMU (QEMU, `qobject/json-streamer.c`,
    /// `MAX_TOKEN_SIZE`).
    const REQUEST: usize = 64 << 20;

    /// Returns the monitor of the first run in a record, up to the first gap. The monitor must speak QMP: the mock
    /// begins with a greeting, which the guest agent does not send.
    #[must_use]
    pub fn new(record: &Record) -> Self {
        let mut mock = Self::default();
        let (mut replies, mut sent) = (Framer::new(usize::MAX), Vec::new());
        for Line { entry, .. } in &record.lines {
            match entry {
                Entry::Input(record::Input::Sent { to: Channel::Monitor, bytes }) => {
                    sent.extend_from_slice(bytes);
                    let requests = take_requests(&mut sent).into_iter().filter_map(Result::ok);
                    requests.for_each(|request| mock.expect(request));
                }
                Entry::Input(record::Input::Received { from: Channel::Monitor, bytes }) => {
                    replies.push(bytes);
                    let messages = core::iter::from_fn(|| replies.next_frame());
                    messages.for_each(|message| mock.learn(&message));
                }
                // The next run has another monitor. After a gap, replies cannot be matched with their commands.
                Entry::Input(record::Input::Closed(Channel::Monitor)) => {
                    mock.exchanges.last_mut().into_iter().for_each(|exchange| exchange.is_last = true);
                    break;
                }
                Entry::Machine(beginning) => mock.starts_guest = beginning.config.holds_guest(),
                Entry::Dropped(_) => break,
                _ => {}
            }
        }
        mock
    }

    fn expect(&mut self, MockRequest { execute, arguments, id }: MockRequest) {
        self.open.extend(id.map(|id| (id, self.exchanges.len())));
        let is_startup = self.is_startup(&execute);
        let (messages, is_last, is_used) = (Vec::new(), false, false);
        let exchange = Exchange { name: execute, arguments, messages, is_last, is_used, is_startup };
        self.exchanges.push(exchange);
    }

    /// Returns whether the next command of the record starts the guest: `query-status`, and `cont` after its reply.
    fn is_startup(&self, name: &str) -> bool {
        let asked = || self.exchanges.get(1).is_some_and(|asked| asked.is_startup && asked.is_prelaunch());
        match (self.exchanges.len(), name) {
            (1, "query-status") => self.starts_guest,
            (2, "cont") => asked(),
            _ => false,
        }
    }

    /// Adds a message to the command that it answers, or else to the latest command.
    fn learn(&mut self, message: &Frame) {
        let Frame::Message(message) = message else { return };
        let Ok(message) = serde_json::from_slice::<Value>(message) else { return };
        let answers = |(id, _): &(Value, usize)| message.get("id") == Some(id) && message.get("event").is_none();
        let asked = self.open.iter().position(answers).map(|place| self.open.swap_remove(place).1);
        let latest = self.exchanges.len().checked_sub(1);
        match asked.or(latest).and_then(|index| self.exchanges.get_mut(index)) {
            Some(exchange) => exchange.messages.push(message),
            None => write(&message, &mut self.greeting),
        }
    }

    /// Returns the messages for a client that connects: the greeting, and events that came before the first command.
    #[must_use]
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Receives bytes of requests, split anywhere, and returns the bytes to send in reply.
    #[must_use = "the replies must be sent"]
    pub fn receive(&mut self, bytes: &[u8]) -> String {
        let mut answers = String::new();
        self.received.extend_from_slice(bytes);
        for request in take_requests(&mut self.received) {
            match request {
                _ if self.is_over => break,
                Ok(request) => self.answer(&request, &mut answers),
                Err(problem) => write(&refusal(&problem.to_string(), None), &mut answers),
            }
        }
        if self.received.len() > Self::REQUEST {
            self.received.clear();
            write(&refusal("the request is longer than 64 MiB", None), &mut answers);
        }
        answers
    }

    /// Returns whether the monitor must be closed now, because the recorded one was closed after this reply.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns the names of the recorded commands that no request has used, for a test that must send them all.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.exchanges
            .iter()
            .filter(|exchange| !exchange.is_used && !exchange.is_startup)
            .map(|exchange| &*exchange.name)
    }

    fn answer(&mut self, request: &MockRequest, answers: &mut String) {
        let fits = |other: &Exchange| !other.is_used && !other.is_startup && other.name == request.execute;
        let same = |other: &Exchange| fits(other) && other.arguments == request.arguments;
        let place = self.exchanges.iter().position(same).or_else(|| self.exchanges.iter().position(fits));
        let Some(exchange) = place.map(|place| &mut self.exchanges[place]) else {
            let problem = format!("the record has no further `{}`", request.execute);
            return write(&refusal(&problem, request.id.as_ref()), answers);
        };
        exchange.is_used = true;
        self.is_over = exchange.is_last;
        for message in &exchange.messages {
            let mut message = message.clone();
            if message.get("event").is_none() {
                name(&mut message, request.id.as_ref());
            }
            write(&message, answers);
        }
    }
}

/// Removes the complete requests from the received bytes. Invalid JSON is dropped with all bytes after it, because the
/// beginning of the next request is unknown.
fn take_requests(received: &mut Vec<u8>) -> Vec<serde_json::Result<MockRequest>> {
    if received.trim_ascii_end().last() != Some(&b'}') {
        // The request is incomplete. Parsing it again for each piece would take quadratic time.
        return Vec::new();
    }
    let mut requests = serde_json::Deserializer::from_slice(received).into_iter::<MockRequest>();
    let (mut taken, mut end) = (Vec::new(), 0);
    while let Some(request) = requests.next() {
        match &request {
            Err(error) if error.is_eof() => break,
            Err(_) => end = received.len(),
            Ok(_) => end = requests.byte_offset(),
        }
        taken.push(request);
        if end == received.len() {
            break;
        }
    }
    received.drain(..end);
    taken
}

fn refusal(problem: &str, id: Option<&Value>) -> Value {
    let mut refusal = json!({"error": {"class": "GenericError", "desc": problem}});
    name(&mut refusal, id);
    refusal
}

/// Sets the id of a message to that of a request.
fn name(message: &mut Value, id: Option<&Value>) {
    let Value::Object(members) = message else { return };
    members.remove("id");
    members.extend(id.map(|id| ("id".to_string(), id.clone())));
}

/// Appends a message, with CRLF at its end (`docs/interop/qmp-spec.rst`, General Definitions).
fn write(message: &Value, to: &mut String) {
    to.push_str(&message.to_string());
    to.push_str("\r\n");
}

//! Log of the wire (`--verbose`): each message, with its time and direction, as one printable line.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::spawn;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qemu_machine_blocking::core::wire::{Frame, Framer};
use qemu_machine_blocking::{Limits, UntrustedText, Vm};

/// The most pieces that wait to be printed. The library must not wait for a terminal that does not accept more, so
/// further ones are dropped and counted.
const WAITING: usize = 1024;

/// The time that printing may take. The editor prints texts of other threads only while it waits for keys, and holds one
/// of them otherwise: a flush in between must not wait for the next prompt.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// Message to the printing thread.
enum Piece {
    Sent(SystemTime, Vec<u8>),
    Received(SystemTime, Vec<u8>),
    /// So many pieces after the last one were dropped.
    Dropped(usize),
    /// Everything before is printed: the sender is dropped.
    Mark(SyncSender<()>),
}

/// The queue of the thread that prints: at most [`WAITING`] pieces, and the marks.
#[derive(Debug)]
struct Queue {
    sender: Sender<Piece>,
    waiting: usize,
    /// How many pieces were dropped since the last one that is in the queue.
    dropped: usize,
}

impl Queue {
    fn push(&mut self, piece: Piece) {
        if self.waiting >= WAITING {
            self.dropped += 1;
            return;
        }
        self.report_dropped();
        self.waiting += 1;
        // It fails when the thread that prints has panicked.
        let _ = self.sender.send(piece);
    }

    fn mark(&mut self, mark: SyncSender<()>) {
        self.report_dropped();
        let _ = self.sender.send(Piece::Mark(mark));
    }

    fn report_dropped(&mut self) {
        if self.dropped > 0 {
            let _ = self.sender.send(Piece::Dropped(std::mem::take(&mut self.dropped)));
        }
    }
}

/// A running log.
#[derive(Clone, Debug)]
pub(crate) struct WireLog(Arc<Mutex<Queue>>);

impl WireLog {
    /// Logs what is sent and received from now on, by a thread that passes each line to `print`.
    pub(crate) fn begin(vm: &Vm, print: impl FnMut(&str) + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        let log = Self(Arc::new(Mutex::new(Queue { sender, waiting: 0, dropped: 0 })));
        let observer = |make: fn(SystemTime, Vec<u8>) -> Piece| {
            let log = log.clone();
            move |bytes: &[u8]| log.with_queue(|queue| queue.push(make(SystemTime::now(), bytes.to_vec())))
        };
        vm.observe_wire(observer(Piece::Sent), observer(Piece::Received));
        let printing = log.clone();
        spawn(move || printing.print_pieces(&receiver, print));
        log
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until everything that was logged is printed, for a second at the most.
    pub(crate) fn flush(&self) {
        let (done, printed) = sync_channel(0);
        self.with_queue(|queue| queue.mark(done));
        // A disconnection is the signal: the thread has dropped the sender.
        let _ = printed.recv_timeout(FLUSHED_WITHIN);
    }

    fn print_pieces(&self, pieces: &Receiver<Piece>, mut print: impl FnMut(&str)) {
        let limit = Limits::default().message;
        let (mut sent, mut received) = (Sent::new(limit), Received::new(limit));
        for piece in pieces {
            let (at, arrow, lines) = match piece {
                Piece::Sent(at, bytes) => (at, '>', sent.add(&bytes)),
                Piece::Received(at, bytes) => (at, '<', received.add(&bytes)),
                Piece::Dropped(count) => {
                    print(&format!("{count} pieces dropped: they came too fast to be shown"));
                    (sent, received) = (sent.after_a_gap(), received.after_a_gap());
                    continue;
                }
                Piece::Mark(done) => {
                    drop(done);
                    continue;
                }
            };
            lines.iter().for_each(|line| print(&format!("{} {arrow} {line}", time_of(at))));
            self.with_queue(|queue| queue.waiting -= 1);
        }
    }
}

/// Returns the time of a day in UTC, with microseconds.
fn time_of(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs() % (24 * 60 * 60);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}Z", seconds % 60, since.subsec_micros())
}

/// Returns a message as one printable line.
fn line_of(message: &[u8]) -> String {
    format!("{:#}", UntrustedText::from_utf8_lossy(message.trim_ascii()))
}

/// Returns the line in place of a message that is longer than the limit.
fn too_large(limit: usize) -> String {
    format!("a message of more than {limit} bytes")
}

/// The received bytes, cut into messages as the library does.
#[derive(Debug)]
struct Received {
    framer: Framer,
    limit: usize,
    /// Whether a piece was dropped, and with it the beginning of the line.
    is_in_gap: bool,
}

impl Received {
    /// The beginning of a stream whose messages have at most `limit` bytes.
    fn new(limit: usize) -> Self {
        Self { framer: Framer::new(limit), limit, is_in_gap: false }
    }

    fn after_a_gap(&self) -> Self {
        Self { is_in_gap: true, ..Self::new(self.limit) }
    }

    /// Adds bytes, and returns the messages that are complete, as printable lines.
    fn add(&mut self, mut bytes: &[u8]) -> Vec<String> {
        if self.is_in_gap {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Vec::new() };
            bytes = &bytes[end + 1..];
            self.is_in_gap = false;
        }
        self.framer.push(bytes);
        let mut lines = Vec::new();
        while let Some(frame) = self.framer.next_frame() {
            lines.push(match frame {
                Frame::Message(message) => line_of(&message),
                Frame::TooLarge => too_large(self.limit),
            });
        }
        lines
    }
}

/// The beginning of a command that the library has encoded. It cannot be in a string, in which quotes are escaped.
const COMMAND: &[u8] = b"{\"exec";

/// The sent bytes, cut into commands: where a JSON object ends. The library sends nothing after it. Each byte is examined
/// once, however a command is cut.
#[derive(Debug, Default)]
struct Sent {
    /// The present command, up to the limit.
    command: Vec<u8>,
    limit: usize,
    /// The number of objects and arrays that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    is_too_large: bool,
    /// Whether a piece was dropped: bytes are skipped up to the next command.
    is_in_gap: bool,
}

impl Sent {
    /// The beginning of a stream whose commands have at most `limit` bytes.
    fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn after_a_gap(&self) -> Self {
        Self { is_in_gap: true, ..Self::new(self.limit) }
    }

    /// Adds bytes, and returns the commands that are complete, and what is between them, as printable lines.
    fn add(&mut self, mut bytes: &[u8]) -> Vec<String> {
        if self.is_in_gap {
            let start = bytes.windows(COMMAND.len()).position(|part| part == COMMAND);
            let Some(start) = start else { return Vec::new() };
            bytes = &bytes[start..];
            self.is_in_gap = false;
        }
        let mut lines = Vec::new();
        for byte in bytes {
            if self.depth == 0 && *byte == b'{' {
                // Such as the delimiter of an agent (QEMU, `qga/main.c`, `QGA_SENTINEL_BYTE`).
                lines.extend(self.take());
            }
            if self.command.len() < self.limit {
                self.command.push(*byte);
            } else {
                self.is_too_large = true;
            }
            let was_open = self.depth > 0;
            self.read(*byte);
            if was_open && self.depth == 0 {
                lines.extend(self.take());
            }
        }
        lines
    }

    fn read(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' if self.depth > 0 => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => self.depth += 1,
            b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Returns the line of the bytes so far. `None` means that they are white space.
    fn take(&mut self) -> Option<String> {
        let command = std::mem::take(&mut self.command);
        if std::mem::take(&mut self.is_too_large) {
            return Some(too_large(self.limit));
        }
        Some(line_of(&command)).filter(|line| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    #[test]
    fn commands_are_cut_where_their_objects_end() {
        let mut sent = Sent::new(LIMIT);
        assert_eq!(sent.add(b"{\"execute\":\"a\",\"id\":1}{\"exec"), [r#"{"execute":"a","id":1}"#]);
        assert_eq!(sent.add(b"ute\":\"}\\\"\xff"), [""; 0]);
        assert_eq!(sent.add(b"\"}\n"), ["{\"execute\":\"}\\\"\u{fffd}\"}"]);
        assert_eq!(sent.add(b"\xff{\"execute\":[{}]}"), ["\u{fffd}", r#"{"execute":[{}]}"#]);
    }

    #[test]
    fn messages_are_cut_as_the_library_does() {
        let mut received = Received::new(LIMIT);
        assert_eq!(received.add(b"{\"event\":\x7f\"\xc2"), [""; 0]);
        let lines = [r#"{"event":\u{7f}"\u{9b}"}"#, r#"{"return":{}}"#];
        assert_eq!(received.add(b"\x9b\"}\r\n{\"return\":{}}\r\n"), lines);
        assert_eq!(received.add(b"no object\n{\"open\": \"\xff}\n\n"), ["no object", "{\"open\": \"\u{fffd}}"]);
        assert_eq!(received.add(b"{\r\n  \"return\": 1\r\n}\r\n"), [r#"{\r\n  "return": 1\r\n}"#]);
    }

    #[test]
    fn after_a_gap_the_log_is_in_step_at_the_next_message() {
        let mut received = Received::new(LIMIT).after_a_gap();
        assert_eq!(received.add(b"\"half\": \"{"), [""; 0]);
        assert_eq!(received.add(b"\"}\r\n{\"return\":1}\r\n"), [r#"{"return":1}"#]);
        let mut sent = Sent::new(LIMIT).after_a_gap();
        assert_eq!(sent.add(b"half {\"a\": \"b{"), [""; 0]);
        assert_eq!(sent.add(b"\"}}{\"execute\":\"a\"}"), [r#"{"execute":"a"}"#]);
    }

    #[test]
    fn a_message_up_to_the_limit_is_logged() {
        let part = [b'x'; 10];
        let (mut sent, mut received) = (Sent::new(LIMIT), Received::new(LIMIT));
        assert_eq!((sent.add(b"{\""), received.add(b"{\"")), (Vec::new(), Vec::new()));
        let (mut of_sent, mut of_received) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            of_sent.extend(sent.add(&part));
            of_received.extend(received.add(&part));
        }
        of_sent.extend(sent.add(b"\"}{\"execute\":1}"));
        of_received.extend(received.add(b"\"}\n{\"return\":1}\n"));
        assert!(sent.command.capacity() <= 2 * LIMIT);
        let larger = "a message of more than 100 bytes";
        assert_eq!(of_sent, [larger, r#"{"execute":1}"#]);
        assert_eq!(of_received, [larger, r#"{"return":1}"#]);
    }

    #[test]
    fn dropped_pieces_are_counted_where_they_are_missing() {
        let (sender, receiver) = channel();
        let mut queue = Queue { sender, waiting: 0, dropped: 0 };
        for _ in 0..WAITING + 2 {
            queue.push(Piece::Sent(UNIX_EPOCH, b"{\"execute\":1}".to_vec()));
        }
        let (mark, _printed) = sync_channel(0);
        queue.mark(mark);
        let log = WireLog(Arc::new(Mutex::new(queue)));
        let mut lines = Vec::new();
        let pieces: Vec<_> = receiver.try_iter().collect();
        let (again, receiver) = channel();
        pieces.into_iter().for_each(|piece| again.send(piece).unwrap());
        drop(again);
        log.print_pieces(&receiver, |line| lines.push(line.to_owned()));
        assert_eq!(lines.len(), WAITING + 1);
        assert_eq!(lines[WAITING], "2 pieces dropped: they came too fast to be shown");
        assert_eq!(log.with_queue(|queue| (queue.waiting, queue.dropped)), (0, 0));
    }

    #[test]
    fn a_time_is_that_of_a_day() {
        assert_eq!(time_of(UNIX_EPOCH + Duration::from_micros(86_400_000_000 + 3_723_000_004)), "01:02:03.000004Z");
    }
}

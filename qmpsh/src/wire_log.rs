//! Log of the wire (`--verbose`): each message, with its time and direction, as one printable line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::spawn;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qemu_machine_blocking::{UntrustedText, Vm};

use crate::split::json_end;

/// The most pieces that wait to be printed. The library must not wait for a terminal that does not accept more, so
/// further ones are dropped and counted.
const WAITING: usize = 1024;

/// The time that printing may take. The editor prints texts of other threads only while it waits for keys, and holds one
/// of them otherwise: a flush in between must not wait for the next prompt.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// What the thread that prints receives.
enum Piece {
    Sent(SystemTime, Vec<u8>),
    Received(SystemTime, Vec<u8>),
    /// Everything before is printed: the sender is dropped.
    Mark(SyncSender<()>),
}

/// A running log.
#[derive(Clone, Debug)]
pub(crate) struct WireLog(SyncSender<Piece>);

impl WireLog {
    /// Logs what is sent and received from now on, by a thread that passes each line to `print`.
    pub(crate) fn begin(vm: &Vm, print: impl FnMut(&str) + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicUsize::new(0));
        let log = |make: fn(SystemTime, Vec<u8>) -> Piece| {
            let (sender, dropped) = (sender.clone(), Arc::clone(&dropped));
            move |bytes: &[u8]| {
                if sender.try_send(make(SystemTime::now(), bytes.to_vec())).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        vm.observe_wire(log(Piece::Sent), log(Piece::Received));
        spawn(move || print_pieces(&receiver, &dropped, print));
        Self(sender)
    }

    /// Waits until everything that was logged is printed, for a second at the most.
    pub(crate) fn flush(&self) {
        let (done, printed) = sync_channel(0);
        if self.0.try_send(Piece::Mark(done)).is_ok() {
            // A disconnection is the signal: the thread has dropped the sender.
            let _ = printed.recv_timeout(FLUSHED_WITHIN);
        }
    }
}

fn print_pieces(pieces: &Receiver<Piece>, dropped: &AtomicUsize, mut print: impl FnMut(&str)) {
    let (mut sent, mut received) = (Messages::default(), Messages::default());
    for piece in pieces {
        let (at, arrow, lines) = match piece {
            Piece::Sent(at, bytes) => (at, '>', sent.add(&bytes)),
            Piece::Received(at, bytes) => (at, '<', received.add(&bytes)),
            Piece::Mark(done) => {
                drop(done);
                continue;
            }
        };
        lines.iter().for_each(|line| print(&format!("{} {arrow} {line}", time_of(at))));
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            print(&format!("{dropped} pieces dropped: they came too fast to be shown"));
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

/// The bytes of a direction, which are cut into messages: where a JSON object ends. The library sends nothing after it.
#[derive(Debug, Default)]
struct Messages(Vec<u8>);

impl Messages {
    /// Adds bytes, and returns the messages that are complete, as printable lines.
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = message_end(&self.0) {
            let message: Vec<u8> = self.0.drain(..end).collect();
            let line = format!("{:#}", UntrustedText::from_utf8_lossy(message.trim_ascii()));
            if !line.is_empty() {
                lines.push(line);
            }
        }
        lines
    }
}

/// Returns the length of the first message: an object, or the bytes before one, such as the delimiter of an agent (QEMU,
/// `qga/main.c`, `QGA_SENTINEL_BYTE`). `None` means that it is not complete.
fn message_end(bytes: &[u8]) -> Option<usize> {
    match bytes.iter().position(|byte| *byte == b'{')? {
        0 => {
            let text = bytes.utf8_chunks().next()?.valid();
            json_end(text).ok()
        }
        start => Some(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_their_objects_end() {
        let mut messages = Messages::default();
        assert_eq!(messages.add(b"{\"execute\":\"a\",\"id\":1}{\"exec"), [r#"{"execute":"a","id":1}"#]);
        assert_eq!(messages.add(b"ute\":\"}\"}\r\n"), [r#"{"execute":"}"}"#]);
        assert_eq!(messages.add(b"{\"event\":\x7f\"\xc2"), [""; 0]);
        assert_eq!(
            messages.add(b"\x9b\"}\r\n{\"return\":{}}\r\n"),
            [r#"{"event":\u{7f}"\u{9b}"}"#, r#"{"return":{}}"#]
        );
        assert_eq!(messages.add(b"\xff{\"return\":1}\n"), ["\u{fffd}", r#"{"return":1}"#]);
    }

    #[test]
    fn a_time_is_that_of_a_day() {
        assert_eq!(time_of(UNIX_EPOCH + Duration::from_micros(86_400_000_000 + 3_723_000_004)), "01:02:03.000004Z");
    }
}

//! Decides what must be true of conversations: with whoever says whatever, it does not matter how it was cut; with a
//! peer that keeps the rules, every answer is that of its own command.

use core::time::Duration;
use qemu_machine_core::session;

use qemu_machine_core::session::Session;
use qemu_machine_core::{Dialect, Limits, Moment};

use super::Tape;
use super::peer;
use super::tape::cut;

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    if tape.flag() {
        return peer::run(&mut tape);
    }
    let dialect = tape.pick(&[Dialect::Qmp, Dialect::GuestAgent, Dialect::Qtest]);
    let limit = if tape.flag() { 1 << 20 } else { 100 };
    let sizes = [tape.below(40), tape.below(8), tape.below(3)];
    let mut steps = Vec::new();
    while !tape.is_empty() {
        steps.push(Step::read(&mut tape));
    }
    let whole = converse(dialect, limit, &steps, |bytes| vec![bytes]);
    assert_eq!(converse(dialect, limit, &steps, |bytes| bytes.chunks(1).collect()), whole, "byte by byte");
    assert_eq!(converse(dialect, limit, &steps, |bytes| cut(bytes, &sizes)), whole, "in pieces");
}

enum Step<'a> {
    Opened,
    Nonce(u64),
    Received(&'a [u8]),
    Line(&'static str),
    Sync,
    Closed,
    DisownLadder,
    Pass(u64),
    Sent(usize),
}

const LINES: [&str; 6] = [
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}, "capabilities": ["oob"]}}"#,
    r#"{"return": {}, "id": 0}"#,
    r#"{"event": "STOP"}"#,
    r#"{"error": {"class": "C", "desc": "d"}}"#,
    "OK 0x1",
    "IRQ raise 3",
];

impl<'a> Step<'a> {
    fn read(tape: &mut Tape<'a>) -> Self {
        match tape.below(9) {
            0 => Self::Opened,
            1 => Self::Nonce(u64::from(tape.byte()) << 20),
            2 => Self::Received(tape.bytes()),
            3 | 4 => Self::Line(tape.pick(&LINES)),
            5 => Self::Sync,
            6 if tape.below(8) == 7 => Self::Closed,
            6 => Self::DisownLadder,
            7 => Self::Pass(u64::from(tape.byte() & 7)),
            _ => Self::Sent(tape.below(200)),
        }
    }
}

/// All that can be seen of a conversation.
fn converse(
    dialect: Dialect,
    limit: usize,
    steps: &[Step<'_>],
    cut: impl Fn(&[u8]) -> Vec<&[u8]>,
) -> (Vec<session::Output>, Vec<u8>, String) {
    let mut limits = Limits::default();
    limits.message = limit;
    let mut session = Session::new(&limits).speaking(dialect, 5);
    let (mut now, mut outputs) = (Moment::ORIGIN, Vec::new());
    for step in steps {
        let line;
        let inputs = match step {
            Step::Opened => vec![session::Input::Opened],
            Step::Nonce(nonce) => vec![session::Input::Nonce(*nonce)],
            // Nothing has no pieces.
            Step::Received(b"") => Vec::new(),
            Step::Received(bytes) => cut(bytes).into_iter().map(session::Input::Received).collect(),
            Step::Line(text) => {
                line = [text.as_bytes(), b"\r\n"].concat();
                cut(&line).into_iter().map(session::Input::Received).collect()
            }
            Step::Sync => {
                line = answer_to_sync(session.outgoing());
                cut(&line).into_iter().map(session::Input::Received).collect()
            }
            Step::Closed => vec![session::Input::Closed],
            Step::DisownLadder => vec![session::Input::DisownLadder],
            Step::Pass(seconds) => {
                now = now.after(Duration::from_secs(*seconds));
                vec![session::Input::TimePassed]
            }
            Step::Sent(bytes) => {
                session = session.sent(*bytes);
                Vec::new()
            }
        };
        session = inputs
            .into_iter()
            .fold(session, |session, inputs| session.step(now, inputs, &mut |output| outputs.push(output)));
        assert!(session.is_ready() <= session.is_open() && session.in_flight() <= session.commands());
    }
    let seen = (session.counters(), session.commands(), session.in_flight(), session.is_ready(), session.deadline());
    (outputs, session.outgoing().to_vec(), format!("{seen:?}"))
}

/// What a guest agent says to the last number that it was asked for.
fn answer_to_sync(outgoing: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(outgoing);
    let number: String =
        text.rsplit("\"id\":").next().unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    [b"\xff{\"return\": ".as_slice(), number.as_bytes(), b"}\n"].concat()
}

//! Properties of sessions: the result does not depend on how the bytes of the peer are split, no command has two
//! answers, and with a peer that keeps the rules every answer belongs to its command.

use core::time::Duration;

use qemu_machine_core::session::{self, Session};
use qemu_machine_core::wire::Encoded;
use qemu_machine_core::{CommandId, Dialect, Limits, Moment};

use super::Tape;
use super::long::nested;
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
    /// A line with a nested value, or a raw command with one: which of them, and the depth.
    Nested(usize, usize),
    Line(&'static str),
    Sync,
    Closed,
    Execute(&'static str),
    ExecuteForLadder,
    /// Disowns the command this many before the latest.
    Disown(u64),
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

/// The byte before a step with long bytes, and before one with a nested value.
pub(super) const LONG: u8 = 255;
pub(super) const NESTED: u8 = 254;

/// The deepest nesting, five times what QEMU accepts (QEMU, `qobject/json-parser.c`, `MAX_NESTING`).
const DEEPEST: usize = 5_000;

const COMMANDS: [&str; 4] = ["stop", "query-status", "quit", "guest-shutdown"];

impl<'a> Step<'a> {
    fn read(tape: &mut Tape<'a>) -> Self {
        let kind = tape.byte();
        match kind {
            LONG => return Self::Received(tape.long_bytes()),
            NESTED => return Self::Nested(tape.below(6), tape.number() % (DEEPEST + 1)),
            _ => {}
        }
        match kind % 9 {
            0 => Self::Opened,
            1 => Self::Nonce(u64::from(tape.byte()) << 20),
            2 => Self::Received(tape.bytes()),
            3 | 4 => Self::Line(tape.pick(&LINES)),
            5 => Self::Sync,
            6 => match tape.below(8) {
                0..=2 => Self::Execute(tape.pick(&COMMANDS)),
                3 => Self::ExecuteForLadder,
                4 => Self::Disown(tape.below(4) as u64),
                5 | 6 => Self::DisownLadder,
                _ => Self::Closed,
            },
            7 => Self::Pass(u64::from(tape.byte() & 7)),
            _ => Self::Sent(tape.below(200)),
        }
    }
}

/// Returns everything that is observable of a conversation.
fn converse(
    dialect: Dialect,
    limit: usize,
    steps: &[Step<'_>],
    cut: impl Fn(&[u8]) -> Vec<&[u8]>,
) -> (Vec<session::Output>, Vec<u8>, String) {
    let mut limits = Limits::default();
    limits.message = limit;
    let mut session = Session::new(&limits).speaking(dialect, 5);
    let (mut now, mut outputs, mut issued) = (Moment::ORIGIN, Vec::new(), 0);
    for step in steps {
        let (line, command);
        let inputs = match step {
            Step::Opened => vec![session::Input::Opened],
            Step::Nonce(nonce) => vec![session::Input::Nonce(*nonce)],
            // Empty bytes have no pieces.
            Step::Received(b"") => Vec::new(),
            Step::Received(bytes) => cut(bytes).into_iter().map(session::Input::Received).collect(),
            Step::Line(text) => {
                line = [text.as_bytes(), b"\r\n"].concat();
                cut(&line).into_iter().map(session::Input::Received).collect()
            }
            Step::Nested(kind, depth) => {
                let value = nested(*depth, kind % 2 == 1);
                line = match kind / 2 {
                    0 => format!("{{\"return\": {value}, \"id\": 1}}\n"),
                    1 => format!("{{\"event\": \"STOP\", \"data\": {value}}}\n"),
                    _ => format!("{{\"execute\": \"stop\", \"arguments\": {{\"a\": {value}}}}}"),
                }
                .into_bytes();
                if kind / 2 < 2 {
                    cut(&line).into_iter().map(session::Input::Received).collect()
                } else {
                    command = Encoded::raw(&line);
                    match &command {
                        Ok(command) => {
                            let id = CommandId::new(issued);
                            issued += 1;
                            vec![session::Input::Execute { id, command, deadline: None }]
                        }
                        Err(_) => Vec::new(),
                    }
                }
            }
            Step::Sync => {
                line = answer_to_sync(session.outgoing());
                cut(&line).into_iter().map(session::Input::Received).collect()
            }
            Step::Closed => vec![session::Input::Closed],
            Step::Execute(name) => {
                command = Encoded::command(name);
                let command = command.as_ref().expect("a name is a command");
                let (id, deadline) = (CommandId::new(issued), Some(now.after(Duration::from_secs(9))));
                issued += 1;
                vec![session::Input::Execute { id, command, deadline }]
            }
            Step::ExecuteForLadder => {
                command = Encoded::command(&"quit");
                vec![session::Input::ExecuteForLadder(command.as_ref().expect("a name is a command"))]
            }
            Step::Disown(before) => {
                vec![session::Input::Disown(CommandId::new(issued.saturating_sub(before + 1)))]
            }
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
            .fold(session, |session, input| session.step(now, input, &mut |output| outputs.push(output)));
        assert!(session.is_ready() <= session.is_open() && session.in_flight() <= session.commands());
    }
    assert_answered_once(&outputs, issued);
    let seen = (session.counters(), session.commands(), session.in_flight(), session.is_ready(), session.deadline());
    (outputs, session.outgoing().to_vec(), format!("{seen:?}"))
}

/// Asserts that no command has two answers, and that every answered command was issued.
fn assert_answered_once(outputs: &[session::Output], issued: u64) {
    let answered = outputs.iter().filter_map(|output| match output {
        session::Output::Answered(id, _) => Some(*id),
        _ => None,
    });
    let mut ids: Vec<_> = answered.collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "a command has two answers");
    assert!(ids.last().is_none_or(|last| *last < CommandId::new(issued)), "{ids:?} of {issued}");
}

/// Returns the reply of a guest agent to the last `guest-sync-delimited`.
fn answer_to_sync(outgoing: &[u8]) -> Vec<u8> {
    // The synchronization comes last. All that is outgoing may be long.
    let text = String::from_utf8_lossy(&outgoing[outgoing.len().saturating_sub(1_000)..]);
    let number: String =
        text.rsplit("\"id\":").next().unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    [b"\xff{\"return\": ".as_slice(), number.as_bytes(), b"}\n"].concat()
}

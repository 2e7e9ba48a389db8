//! Peers that are only in the matrix of clients: with messages that are too large or too deep for a test of every build.

use super::{DONE, HAPPENED, LAST, LATE, QUIT, Step, TERMINATED, Torture};
use crate::scripted::Script;

/// One piece of a large message. An argument has at most 128 KiB (`execve(2)`).
const PIECE: usize = 60_000;

pub(super) fn all() -> Vec<Torture> {
    [nested(), large(), vec![escapes(), nested_request()]].concat()
}

/// Peers whose reply has lists in lists. QEMU reads a request that nests 1,024 deep (QEMU, `qobject/json-streamer.c`,
/// `MAX_NESTING`).
fn nested() -> Vec<Torture> {
    let reply = |name, plays, depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let script = Script::new().line(&format!("{{\"return\": {open}{close}, \"id\": $id}}")).ignore();
        Torture::once(name, plays, script, &[&format!("reply: {open}{close}")])
    };
    vec![
        reply("a_reply_nested_130_deep", "Returns 130 nested lists.", 130),
        reply("a_reply_nested_1000_deep", "Returns 1,000 nested lists.", 1_000),
    ]
}

fn large() -> Vec<Torture> {
    let filler = "x".repeat(PIECE);
    let event = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP""#;
    let many = Script::new().repeat(8_000, &format!("{event}}}\r\n")).reply("1");
    let one =
        Script::new().say(&format!("{event}, \"data\": {{\"a\": \"")).repeat(1_048, &filler).line("\"}}").reply("1");
    // More than the 64 MiB that a message may have by default.
    let endless = Script::launched().hear().repeat(1_200, &filler).stall();
    let broken = "broken: a message is longer than 67108864 bytes";
    vec![
        Torture::once(
            "eight_thousand_events",
            "Sends 8,000 events before its reply.",
            many,
            &["reply: 1", "events: 8000 times STOP, RESUME"],
        ),
        Torture::once(
            "a_large_event",
            "Sends an event of 60 MiB before its reply.",
            one,
            &["reply: 1", "events: STOP, RESUME"],
        ),
        Torture::new("a_line_without_an_end", "Writes 69 MiB without a line end, and then nothing.", endless)
            .impatient(&[Step::Second, Step::Event, Step::Last])
            .tells(&["launched", broken, LATE, LATE, LATE, TERMINATED[0], TERMINATED[1]]),
    ]
}

/// A client that prints this error as it is sets the title of the terminal and clears it.
fn escapes() -> Torture {
    let error = r#"{"error": {"class": "GenericError", "desc": "\u001b]0;title\u0007\u001b[2Jno"}, "id": $id}"#;
    let told = "refused: GenericError: \\u{1b}]0;title\\u{7}\\u{1b}[2Jno";
    Torture::once(
        "escape_sequences_in_a_refusal",
        "Refuses with a description that has escape sequences for a terminal.",
        Script::new().line(error).ignore(),
        &[told],
    )
}

/// A request that nests 1,100 deep has this many errors, since QEMU goes on in the middle of it (measured with QEMU
/// 7.2.22).
fn nested_request() -> Torture {
    let error =
        |description| format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{description}\"}}}}\r\n");
    let script = Script::launched()
        .hear()
        .reply("1")
        .hear()
        .say(&error("JSON nesting depth limit exceeded"))
        .say(&error("QMP input must be a JSON object"))
        .repeat(1_025, &error("JSON parse error, expecting value"))
        .ignore()
        .event(DONE)
        .obey();
    let first = r#"reply: {"error":{"class":"GenericError","desc":"JSON nesting depth limit exceeded"}}"#;
    let told = ["launched", "reply: 1", first, HAPPENED, LAST, "counted: nameless 1026", QUIT[0], QUIT[1]];
    Torture::new(
        "errors_for_a_nested_request",
        "Replies to a request as QEMU does to one that nests 1,100 deep: with 1,027 errors, all without an id.",
        script,
    )
    .tells(&told)
}

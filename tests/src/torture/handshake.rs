//! Peers whose greeting or negotiation is wrong, or valid but rare.
//!
//! Events before the greeting and before the reply to the negotiation are no errors: QEMU sends both under load
//! (measured with QEMU 7.2.22).

use super::{DONE, HAPPENED, LAST, QUIT, SECOND, Torture};
use crate::scripted::{GREETING, Script};

const NOT_QMP: &str = "the monitor broke the protocol: not a QMP message";

pub(super) fn all() -> Vec<Torture> {
    [rare(), wrong()].concat()
}

/// A peer whose launch succeeds, and that then behaves.
fn succeeds(name: &'static str, plays: &'static str, handshake: Script, counted: &[&str]) -> Torture {
    let script = handshake.hear().reply("1").hear().reply("2").event(DONE).obey();
    let told = [&["launched", "reply: 1", SECOND, HAPPENED, LAST], counted, &QUIT].concat();
    Torture::new(name, plays, script).tells(&told)
}

fn greets_with(name: &'static str, plays: &'static str, greeting: &str) -> Torture {
    succeeds(name, plays, Script::new().line(greeting).hear().reply("{}"), &[])
}

fn rare() -> Vec<Torture> {
    let early = Script::new().event("STOP").event("WAKEUP").greet().hear().reply("{}");
    let between = Script::new().greet().event("STOP").hear().event("WAKEUP").event("SUSPEND").reply("{}");
    let unreadable = Script::new()
        .greet()
        .line(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": nan}"#)
        .hear()
        .reply("{}");
    let twice = Script::new().greet().greet().hear().say(GREETING).reply("{}").greet();
    let foreign = Script::new().greet().hear().line(r#"{"return": {}, "id": "other"}"#).line("{\"return\": {}}");
    let nameless = Script::new().greet().hear().line(r#"{"error": {"class": "GenericError", "desc": "what?"}}"#);
    let dripping = Script::new().drip(GREETING).hear().drip("{\"return\": {}, \"id\": $id}\r\n").ignore();
    let lines = ["{", "    \"QMP\": {", "        \"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 9}},"];
    let pretty = [&lines[..], &["        \"capabilities\": [", "        ]", "    }", "}"]].concat().join("\r\n");
    vec![
        succeeds(
            "g07_events_before_the_greeting",
            "Sends events before it greets.",
            early,
            &["events: STOP, WAKEUP, RESUME"],
        ),
        succeeds(
            "g07_events_in_the_negotiation",
            "Sends events before the reply to the negotiation.",
            between,
            &["events: STOP, WAKEUP, SUSPEND, RESUME"],
        ),
        succeeds(
            "g07_an_unreadable_event_in_the_negotiation",
            "Sends an event with an invalid number before the reply to the negotiation.",
            unreadable,
            &["counted: malformed 1"],
        ),
        succeeds("greets_four_times", "Sends the greeting four times.", twice, &["counted: unmatched 3"]),
        succeeds(
            "foreign_replies_in_the_negotiation",
            "Sends replies with foreign ids before the reply to the negotiation.",
            foreign.reply("{}"),
            &["counted: unmatched 2"],
        ),
        succeeds(
            "a_nameless_error_in_the_negotiation",
            "Sends an error without an id before the reply to the negotiation.",
            nameless.reply("{}"),
            &["counted: nameless 1"],
        ),
        succeeds("greets_byte_by_byte", "Writes each byte of the handshake on its own.", dripping, &[]),
        greets_with("greets_on_many_lines", "Writes its greeting on many lines, as with `pretty=on`.", &pretty),
        greets_with(
            "g11_an_unknown_capability",
            "Offers an unknown capability, and adds unknown members to its greeting.",
            concat!(
                r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "build": {"x": 1}, "#,
                r#""package": "v99"}, "capabilities": ["time-travel"], "motd": [[]]}, "more": 1}"#
            ),
        ),
        greets_with(
            "greets_with_nameless_capabilities",
            "Offers capabilities that are not strings.",
            concat!(
                r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "package": "v99"}, "#,
                r#""capabilities": ["oob", {"name": "oob", "since": 99}, 7, null]}}"#
            ),
        ),
        greets_with(
            "greets_without_capabilities",
            "Omits its capabilities and its package from the greeting.",
            r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 0}}}}"#,
        ),
    ]
}

fn wrong() -> Vec<Torture> {
    let bad =
        |name, plays, greeting: &str| Torture::instead_of_greeting(name, plays, Script::new().line(greeting), NOT_QMP);
    let version = r#""version": {"qemu": {"micro": 0, "minor": 2, "major": 9}}"#;
    let reply = r#"{"return": {}, "id": 0}"#;
    let no_greeting = format!("the monitor broke the protocol: expected the greeting, got: {reply}");
    vec![
        bad("greets_without_a_version", "Omits its version from the greeting.", r#"{"QMP": {"capabilities": []}}"#),
        bad(
            "greets_with_an_odd_version",
            "Sends a string for its version.",
            r#"{"QMP": {"version": "nine", "capabilities": []}}"#,
        ),
        bad(
            "greets_with_negative_numbers",
            "Sends a negative version number.",
            r#"{"QMP": {"version": {"qemu": {"micro": -1, "minor": 0, "major": 9}}, "capabilities": []}}"#,
        ),
        bad(
            "greets_with_odd_capabilities",
            "Sends an object for its list of capabilities.",
            &format!(r#"{{"QMP": {{{version}, "capabilities": {{"oob": true}}}}}}"#),
        ),
        bad(
            "greets_with_a_list",
            "Sends the parts of its greeting in a list, without names.",
            r#"{"QMP": [{"qemu": [9, 2, 0], "package": ""}, ["oob"]]}"#,
        ),
        bad("greets_with_nothing", "Sends null for its greeting.", r#"{"QMP": null}"#),
        bad("greets_as_ssh", "Greets as an SSH server.", "SSH-2.0-OpenSSH_9.2"),
        Torture::instead_of_greeting(
            "answers_unasked",
            "Sends a reply before its greeting.",
            Script::new().line(reply),
            &no_greeting,
        ),
        Torture::instead_of_greeting(
            "g10_an_endless_greeting",
            "Sends a greeting without an end.",
            Script::new().say("{\"QMP\": \"").repeat(2000, &"x".repeat(100)),
            "the monitor broke the protocol: a message is longer than 65536 bytes",
        )
        .with(super::bytes::small),
        Torture::instead_of_greeting(
            "refuses_the_negotiation",
            "Refuses `qmp_capabilities`.",
            Script::new().greet().hear().refuse("not today"),
            "capabilities negotiation failed: `qmp_capabilities` was refused: GenericError: not today",
        ),
        Torture::instead_of_greeting(
            "garbage_for_a_negotiation",
            "Replies to the negotiation with malformed JSON.",
            Script::new().greet().hear().line("{\"return\": }"),
            NOT_QMP,
        ),
    ]
}

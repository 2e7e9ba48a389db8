//! Decides how a peer greets and negotiates wrongly, or in a way that is right but rare.

use super::{DONE, HAPPENED, LAST, QUIT, SECOND, Torture};
use crate::scripted::{GREETING, Script};

const NOT_QMP: &str = "the monitor broke the protocol: not a QMP message";

pub(super) fn all() -> Vec<Torture> {
    [rare(), wrong()].concat()
}

/// A launch that succeeds, and everything behind it.
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
            "Sends events before it answers the negotiation.",
            between,
            &["events: STOP, WAKEUP, SUSPEND, RESUME"],
        ),
        succeeds(
            "g07_an_unreadable_event_in_the_negotiation",
            "Sends an event with a number that is none before it answers the negotiation.",
            unreadable,
            &["counted: malformed 1"],
        ),
        succeeds("greets_four_times", "Greets again and again.", twice, &["counted: unmatched 3"]),
        succeeds(
            "replies_of_others_in_the_negotiation",
            "Answers others before it answers the negotiation.",
            foreign.reply("{}"),
            &["counted: unmatched 2"],
        ),
        succeeds(
            "a_nameless_error_in_the_negotiation",
            "Complains of nobody's command before it answers the negotiation.",
            nameless.reply("{}"),
            &["counted: nameless 1"],
        ),
        succeeds("greets_byte_by_byte", "Writes each byte of the handshake by itself.", dripping, &[]),
        greets_with("greets_in_pretty", "Prints its greeting on many lines.", &pretty),
        greets_with(
            "g11_capabilities_of_tomorrow",
            "Offers a capability that nobody knows, and says more than anybody asked for.",
            concat!(
                r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "build": {"x": 1}, "#,
                r#""package": "v99"}, "capabilities": ["time-travel"], "motd": [[]]}, "more": 1}"#
            ),
        ),
        greets_with(
            "greets_with_nameless_capabilities",
            "Offers capabilities that are not names.",
            concat!(
                r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "package": "v99"}, "#,
                r#""capabilities": ["oob", {"name": "oob", "since": 99}, 7, null]}}"#
            ),
        ),
        greets_with(
            "greets_without_capabilities",
            "Leaves out its capabilities, and the name of its package.",
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
        bad("greets_without_a_version", "Does not say what it is.", r#"{"QMP": {"capabilities": []}}"#),
        bad(
            "greets_with_an_odd_version",
            "Has a version of words.",
            r#"{"QMP": {"version": "nine", "capabilities": []}}"#,
        ),
        bad(
            "greets_with_negative_numbers",
            "Has a version below zero.",
            r#"{"QMP": {"version": {"qemu": {"micro": -1, "minor": 0, "major": 9}}, "capabilities": []}}"#,
        ),
        bad(
            "greets_with_odd_capabilities",
            "Has an object for its list of capabilities.",
            &format!(r#"{{"QMP": {{{version}, "capabilities": {{"oob": true}}}}}}"#),
        ),
        bad(
            "greets_with_a_list",
            "Has the parts of its greeting in a list, without their names.",
            r#"{"QMP": [{"qemu": [9, 2, 0], "package": ""}, ["oob"]]}"#,
        ),
        bad("greets_with_nothing", "Has null for its greeting.", r#"{"QMP": null}"#),
        bad("greets_as_ssh", "Is something else entirely.", "SSH-2.0-OpenSSH_9.2"),
        Torture::instead_of_greeting(
            "answers_unasked",
            "Answers before it greets.",
            Script::new().line(reply),
            &no_greeting,
        ),
        Torture::instead_of_greeting(
            "g10_an_endless_greeting",
            "Begins to greet and does not come to an end.",
            Script::new().say("{\"QMP\": \"").repeat(2000, &"x".repeat(100)),
            "the monitor broke the protocol: a message is longer than 65536 bytes",
        )
        .with(super::bytes::small),
        Torture::instead_of_greeting(
            "refuses_the_negotiation",
            "Refuses to negotiate.",
            Script::new().greet().hear().refuse("not today"),
            "capabilities negotiation failed: `qmp_capabilities` was refused: GenericError: not today",
        ),
        Torture::instead_of_greeting(
            "garbage_for_a_negotiation",
            "Answers the negotiation with what is no message.",
            Script::new().greet().hear().line("{\"return\": }"),
            NOT_QMP,
        ),
    ]
}

//! Decides which events a peer sends that are odd, or too many.

use qemu_machine_core::{Config, Limits};

use super::Torture;
use crate::scripted::Script;

pub(super) fn all() -> Vec<Torture> {
    [good(), bad()].concat()
}

/// The first command is answered behind this line.
fn before(name: &'static str, plays: &'static str, line: &str, told: &str) -> Torture {
    Torture::once(name, plays, Script::new().line(line).reply("1"), &["reply: 1", told])
}

const A_AND_DONE: &str = "events: A, DONE";
const COUNTED: &str = "counted: malformed 1";

fn good() -> Vec<Torture> {
    let flood = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "FLOOD", "data": {"wet": true}}"#;
    let deep = Script::new().say("{\"event\": \"DEEP\", \"data\": ").repeat(100_000, "[").repeat(100_000, "]");
    vec![
        before(
            "g11_an_event_of_tomorrow",
            "Sends an event that nobody knows, with members that nobody knows.",
            r#"{"event": "VM_LEVITATES", "data": {"height": "high", "of": {"x": 1}}, "timestamp": {}, "severity": 9}"#,
            "events: VM_LEVITATES, DONE",
        ),
        before(
            "g11_a_time_before_time",
            "Cannot tell the time.",
            r#"{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "A"}"#,
            A_AND_DONE,
        ),
        before("g11_no_time", "Does not tell the time.", r#"{"event": "A"}"#, A_AND_DONE),
        before("g11_a_time_in_words", "Tells the time in words.", r#"{"timestamp": "now", "event": "A"}"#, A_AND_DONE),
        before(
            "an_event_with_an_id",
            "Sends an event under the id of a command.",
            r#"{"event": "A", "id": $id}"#,
            A_AND_DONE,
        ),
        before(
            "an_event_that_returns",
            "Sends an event that returns something.",
            r#"{"event": "A", "return": 7, "id": $id}"#,
            A_AND_DONE,
        ),
        before(
            "an_event_without_data",
            "Sends an event with null for its data.",
            r#"{"event": "A", "data": null}"#,
            A_AND_DONE,
        ),
        Torture::once(
            "g09_a_flood_of_events",
            "Sends 100,000 events to nobody before it answers.",
            Script::new().repeat(FLOOD, &format!("{flood}\r\n")).reply("1"),
            &["reply: 1", "events: 111 times FLOOD, DONE; 99889 forgotten"],
        )
        .with(narrow),
        Torture::once(
            "a_bomb_in_an_event",
            "Sends an event with 100,000 lists.",
            deep.line("}").reply("1"),
            &["reply: 1", "events: DEEP, DONE"],
        ),
    ]
}

/// How many events the flood has.
const FLOOD: usize = 100_000;

/// Remembers few events.
fn narrow(config: Config) -> Config {
    let mut limits = Limits::default();
    limits.events = 10_000;
    config.limits(limits)
}

fn bad() -> Vec<Torture> {
    vec![
        before(
            "an_event_without_a_name",
            "Sends an event with a number for its name.",
            r#"{"event": 7, "data": {}}"#,
            COUNTED,
        ),
        before(
            "an_event_with_inf",
            "Sends an event with what QEMU makes of 1e400.",
            r#"{"event": "A", "data": {"x": inf}}"#,
            COUNTED,
        ),
        before(
            "an_event_with_two_names",
            "Sends two events in one.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "A", "event": "B"}"#,
            COUNTED,
        ),
    ]
}

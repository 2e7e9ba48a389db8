//! Peers that send unusual, malformed or too many events.

use qemu_machine_core::{Config, Event, Limits};

use super::Torture;
use crate::scripted::Script;

pub(super) fn all() -> Vec<Torture> {
    [good(), bad()].concat()
}

/// A peer that writes this line before its reply to the first command.
fn before(name: &'static str, plays: &'static str, line: &str, told: &str) -> Torture {
    Torture::once(name, plays, Script::new().line(line).reply("1"), &["reply: 1", told])
}

const STOP_AND_DONE: &str = "events: STOP, RESUME";
const COUNTED: &str = "counted: malformed 1";

fn good() -> Vec<Torture> {
    let deep = Script::new()
        .say("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\", \"data\": ")
        .repeat(100_000, "[")
        .repeat(100_000, "]");
    vec![
        before(
            "g11_an_unknown_event",
            "Sends an unknown event with unknown members.",
            r#"{"event": "VM_LEVITATES", "data": {"of": {"x": 1}}, "timestamp": {"seconds": 1, "microseconds": 2}, "severity": 9}"#,
            "events: VM_LEVITATES, RESUME",
        ),
        before(
            "g11_a_time_of_minus_one",
            "Sends an event with the timestamp -1, as QEMU does without a host time.",
            r#"{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        before("g11_no_time", "Sends an event without a timestamp.", r#"{"event": "STOP"}"#, STOP_AND_DONE),
        before(
            "g11_a_time_in_words",
            "Sends an event with a string for the timestamp.",
            r#"{"timestamp": "now", "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        before(
            "g11_a_time_out_of_range",
            "Sends an event with a timestamp that no integer type holds.",
            r#"{"timestamp": {"seconds": 99999999999999999999, "microseconds": 1e400}, "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        Torture::once(
            "g07_events_around_a_reply",
            "Sends events before and after the reply.",
            Script::new().event("STOP").event("SUSPEND").reply("1").event("WAKEUP"),
            &["reply: 1", "events: STOP, SUSPEND, WAKEUP, RESUME"],
        ),
        before(
            "an_event_with_odd_data",
            "Sends an event with a number for its data.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": 7}"#,
            STOP_AND_DONE,
        ),
        before(
            "an_event_with_an_id",
            "Sends an event with the id of a command.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "id": $id}"#,
            STOP_AND_DONE,
        ),
        before(
            "an_event_that_returns",
            "Sends an event with a `return` member and the id of a command.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "return": 7, "id": $id}"#,
            STOP_AND_DONE,
        ),
        before(
            "an_event_without_data",
            "Sends an event with null for its data.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": null}"#,
            STOP_AND_DONE,
        ),
        Torture::once(
            "g09_a_flood_of_events",
            "Sends 20,000 events before its reply.",
            Script::new().repeat(FLOOD, &format!("{TIME}\r\n")).reply("1"),
            &["reply: 1", "events: 87 times RTC_CHANGE, RESUME; 19913 evicted"],
        )
        .with(narrow),
        Torture::once(
            "deeply_nested_event_data",
            "Sends an event with 100,000 nested lists.",
            deep.line("}").reply("1"),
            &["reply: 1", "events: STOP, RESUME"],
        )
        .with(roomy),
    ]
}

/// The number of events in the flood.
const FLOOD: usize = 20_000;

/// An event of the flood.
const TIME: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RTC_CHANGE", "data": {"offset": 1, "qom-path": "/rtc"}}"#;

/// Lets the history keep an event of 200 KB.
fn roomy(config: Config) -> Config {
    let mut limits = Limits::default();
    limits.event = 1 << 20;
    config.limits(limits)
}

/// Limits the event history to 88 events of the flood. In the story, 87 of them and [`DONE`](super::DONE) are kept.
fn narrow(config: Config) -> Config {
    let mut limits = Limits::default();
    limits.events = 88 * (TIME.len() + Event::OVERHEAD);
    config.limits(limits)
}

fn bad() -> Vec<Torture> {
    vec![
        before(
            "an_event_without_a_name",
            "Sends an event with a number for its name.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": 7, "data": {}}"#,
            COUNTED,
        ),
        before(
            "an_event_with_inf",
            "Sends an event with `inf`, which QEMU prints for 1e400.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": {"x": inf}}"#,
            COUNTED,
        ),
        before(
            "an_event_with_two_names",
            "Sends an event with two `event` members.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "event": "WAKEUP"}"#,
            COUNTED,
        ),
    ]
}

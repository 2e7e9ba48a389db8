//! Decides which events a peer sends that are odd, or too many.

use qemu_machine_core::{Config, Event, Limits};

use super::Torture;
use crate::scripted::Script;

pub(super) fn all() -> Vec<Torture> {
    [good(), bad()].concat()
}

/// The first command is answered behind this line.
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
            "g11_an_event_of_tomorrow",
            "Sends an event that nobody knows, with members that nobody knows.",
            r#"{"event": "VM_LEVITATES", "data": {"of": {"x": 1}}, "timestamp": {"seconds": 1, "microseconds": 2}, "severity": 9}"#,
            "events: VM_LEVITATES, RESUME",
        ),
        before(
            "g11_a_time_before_time",
            "Cannot tell the time.",
            r#"{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        before("g11_no_time", "Does not tell the time.", r#"{"event": "STOP"}"#, STOP_AND_DONE),
        before(
            "g11_a_time_in_words",
            "Tells the time in words.",
            r#"{"timestamp": "now", "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        before(
            "g11_a_time_beyond_all",
            "Tells a time that no type holds.",
            r#"{"timestamp": {"seconds": 99999999999999999999, "microseconds": 1e400}, "event": "STOP"}"#,
            STOP_AND_DONE,
        ),
        Torture::once(
            "g07_events_around_a_reply",
            "Sends events before the reply, and behind it.",
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
            "Sends an event under the id of a command.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "id": $id}"#,
            STOP_AND_DONE,
        ),
        before(
            "an_event_that_returns",
            "Sends an event that returns something.",
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
            "Sends 20,000 events to nobody before it answers.",
            Script::new().repeat(FLOOD, &format!("{TIME}\r\n")).reply("1"),
            &["reply: 1", "events: 87 times RTC_CHANGE, RESUME; 19913 forgotten"],
        )
        .with(narrow),
        Torture::once(
            "a_bomb_in_an_event",
            "Sends an event with 100,000 lists.",
            deep.line("}").reply("1"),
            &["reply: 1", "events: STOP, RESUME"],
        ),
    ]
}

/// How many events the flood has.
const FLOOD: usize = 20_000;

/// One of them.
const TIME: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RTC_CHANGE", "data": {"offset": 1, "qom-path": "/rtc"}}"#;

/// Remembers few events: so many of those, and a shorter one.
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
            "Sends an event with what QEMU makes of 1e400.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": {"x": inf}}"#,
            COUNTED,
        ),
        before(
            "an_event_with_two_names",
            "Sends two events in one.",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "event": "WAKEUP"}"#,
            COUNTED,
        ),
    ]
}

//! Peers that stall: one for each point at which the client waits for its peer.

use std::time::Duration;

use qemu_machine_core::Monitor;

use super::{HAPPENED, KILLED, LAST, LATE, SECOND, Step, TERMINATED, Torture};
use crate::scripted::Script;

/// A deadline of the launch after which the process certainly runs, and has sent nothing.
const STARTED: Duration = Duration::from_millis(100);
/// A deadline of the launch before which the greeting certainly arrives: the peer sends it as soon as it runs.
const GREETED: Duration = Duration::from_millis(400);

pub(super) fn all() -> Vec<Torture> {
    let all = [connecting(), greeting(), half_a_greeting(), negotiation(), writing(), reply(), half_a_reply()];
    all.into_iter().chain([half_an_event(), event(), shutdown()]).collect()
}

fn launch_fails(name: &'static str, plays: &'static str, script: Script, phase: &str) -> Torture {
    let told = format!("not launched: the deadline passed {phase}");
    Torture::new(name, plays, script.stall()).tells(&[&[&*told], &KILLED[..]].concat())
}

fn connecting() -> Torture {
    let plays = "Never connects to the monitor socket that it should dial.";
    launch_fails("g01_stall_at_connect", plays, Script::new(), "before its monitor was connected")
        .with(|config| config.monitor(Monitor::Socket))
        .launched_within(STARTED)
}

fn greeting() -> Torture {
    launch_fails("g01_stall_at_greeting", "Sends nothing at all.", Script::new(), "before its monitor greeted")
        .launched_within(STARTED)
}

fn half_a_greeting() -> Torture {
    let script = Script::new().say("{\"QMP\": {\"version\": {\"qemu\":");
    let plays = "Stops in the middle of its greeting.";
    launch_fails("g01_stall_in_greeting", plays, script, "before its monitor greeted").launched_within(STARTED)
}

fn negotiation() -> Torture {
    let phase = "before its monitor answered the capabilities negotiation";
    let plays = "Reads `qmp_capabilities` and does not reply.";
    launch_fails("g01_stall_at_negotiation", plays, Script::new().greet().hear(), phase).launched_within(GREETED)
}

fn writing() -> Torture {
    let plays = "Stops reading during a command of one megabyte.";
    Torture::new("g01_stall_at_write", plays, Script::launched().stall())
        .first_is(&"f".repeat(1 << 20))
        .impatient(&[Step::First, Step::Second, Step::Event, Step::Last, Step::Shutdown])
        .tells(
            &[&["launched", LATE, LATE, "nothing came", LATE], &TERMINATED[..], &["end: 3 without a reply"]].concat(),
        )
}

fn reply() -> Torture {
    Torture::new(
        "g01_stall_at_reply",
        "Never replies to the first command, but to the later ones.",
        Script::launched().hear().ignore().and(rest()),
    )
    .impatient(&[Step::First])
    .tells(&["launched", LATE, SECOND, HAPPENED, LAST, super::QUIT[0], super::QUIT[1], "end: 1 without a reply"])
}

fn half_a_reply() -> Torture {
    let script = Script::launched().hear().say("{\"return\": {\"half\": ").stall();
    Torture::new("g01_stall_in_reply", "Stops in the middle of a reply.", script)
        .impatient(&[Step::First, Step::Second, Step::Event, Step::Last, Step::Shutdown])
        .tells(
            &[&["launched", LATE, LATE, "nothing came", LATE], &TERMINATED[..], &["end: 3 without a reply"]].concat(),
        )
}

fn half_an_event() -> Torture {
    let half = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"RES";
    let script = Script::launched().hear().reply("1").hear().reply("2").say(half).stall();
    Torture::new("g01_stall_in_event", "Stops in the middle of the event.", script)
        .impatient(&[Step::Event, Step::Last, Step::Shutdown])
        .tells(
            &[&["launched", "reply: 1", SECOND, "nothing came", LATE], &TERMINATED[..], &["end: 1 without a reply"]]
                .concat(),
        )
}

fn event() -> Torture {
    Torture::new("g01_stall_at_event", "Never sends the event.", Script::launched().obey())
        .impatient(&[Step::Event])
        .tells(&["launched", LAST, "reply: {\"return\":{}}", "nothing came", LAST, super::QUIT[0], super::QUIT[1]])
}

fn shutdown() -> Torture {
    let script = Script::launched().hear().reply("1").and(rest_without_obeying()).hear().reply("{}").hear().stall();
    Torture::new("g01_stall_at_shutdown", "Reads `quit`, and neither replies nor ends.", script)
        .impatient(&[Step::Shutdown])
        .tells(&["launched", "reply: 1", SECOND, HAPPENED, LAST, TERMINATED[0], TERMINATED[1]])
}

fn rest_without_obeying() -> Script {
    Script::new().hear().reply("2").event(super::DONE)
}

fn rest() -> Script {
    rest_without_obeying().obey()
}

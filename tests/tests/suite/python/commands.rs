//! Stories of rows 20, 21, 22, 24, 33, 34 and 35: commands, their errors, and events of the real QEMU.

use std::time::Duration;

use qemu_machine_core::{Cause, CommandError, Config, Mark, Misuse, Progress, Rung, Shutdown, Wait, WaitError, json};
use qemu_machine_tests::leak_check::{send, stop};
use qemu_machine_tests::qemu;
use rustix::process::Signal;

use super::{LONG, empty};
use crate::hosted::Hosted;
use crate::rows;

/// A machine that can be stopped and continued.
fn idle() -> Config {
    Config::new(qemu()).args(["-M", "none", "-nodefaults", "-accel", "tcg"])
}

fn row_20_commands_with_and_without_arguments<H: Hosted>() {
    let mut machine = H::launch(empty().args(["-name", "twenty"])).expect("QEMU starts");
    assert_eq!(machine.execute("query-name", LONG), Ok(json!({"name": "twenty"})));
    let list = machine.execute_with("qom-list", json!({"path": "/machine"})).expect("the monitor answers");
    assert!(list.as_array().is_some_and(|list| list.iter().any(|entry| entry["name"] == "type")));
    assert_eq!(
        machine.execute_with("human-monitor-command", json!({"command-line": "info name"})),
        Ok("twenty\r\n".into())
    );
    // Names are sent as they are: no underscore becomes a hyphen.
    let Err(CommandError::Refused(refusal)) = machine.execute("query_name", LONG) else { panic!("not a command") };
    assert_eq!(refusal.class, "CommandNotFound");
    assert!(matches!(
        machine.execute_with("query-name", json!([1])),
        Err(CommandError::Misuse(Misuse::Arguments { .. }))
    ));
    machine.kill().expect("the machine was launched");
}

fn row_21_a_quit_that_the_caller_issued_is_noticed<H: Hosted>() {
    for raw in [false, true] {
        let mut machine = H::launch(empty()).expect("QEMU starts");
        if raw {
            assert_eq!(
                machine.execute_raw(r#"{"execute": "quit"}"#).expect("the monitor answers")["return"],
                json!({})
            );
        } else {
            assert_eq!(machine.execute("quit", LONG), Ok(json!({})));
        }
        let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
        assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
        assert!(outcome.rungs.len() <= 1, "no signal was needed: {:?}", outcome.rungs);
    }
}

fn row_22_queued_events_come_oldest_first<H: Hosted>() {
    let mut machine = H::launch(idle()).expect("QEMU starts");
    let mut events = machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("the filter names events");
    for command in ["stop", "cont", "stop"] {
        machine.execute(command, LONG).expect("the monitor answers");
    }
    // QEMU sends each event before the reply (measured with QEMU 7.2.22).
    let names: Vec<_> = machine.queued(&mut events).iter().map(|event| event.name().to_owned()).collect();
    assert_eq!(names, ["STOP", "RESUME", "STOP"]);
    assert_eq!(machine.queued(&mut events), []);
    machine.execute("cont", LONG).expect("the monitor answers");
    assert_eq!(machine.next(&mut events, LONG).expect("the event came").name(), "RESUME");
    machine.kill().expect("the machine was launched");
    assert!(matches!(machine.next(&mut events, LONG), Err(WaitError::Ended(_))), "the wait ends with the machine");
}

fn row_24_one_deadline_bounds_a_wait_whatever_comes_meanwhile<H: Hosted>() {
    let mut machine = H::launch(idle()).expect("QEMU starts");
    let old = machine.mark();
    machine.execute("stop", LONG).expect("the monitor answers");
    let things = [Wait::event("RESUME"), Wait::event("STOP")];
    let hit = machine.wait_any(&old, &things, Duration::ZERO.into()).expect("an earlier event counts");
    assert_eq!(hit.index, 1);
    let never = [Wait::event("STOP").with(json!({"no": "such data"})), Wait::event("NEVER")];
    for _ in 0..20 {
        machine.execute("cont", LONG).expect("the monitor answers");
        machine.execute("stop", LONG).expect("the monitor answers");
    }
    // In Python's `event_wait`, each of the forty other events would restart the time-out.
    assert_eq!(machine.wait_any(&old, &never, Duration::from_millis(50).into()), Err(WaitError::TimedOut));
    send(machine.pid().expect("the process runs"), Signal::KILL);
    let Err(WaitError::Ended(outcome)) = machine.wait_any(&old, &never, LONG) else { panic!("no event can come") };
    assert_eq!(outcome.cause, Cause::Signal { number: Some(9), sender: None });
}

fn row_33_each_error_has_its_own_shape<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let Err(CommandError::Refused(refusal)) = machine.execute_with("device_del", json!({"id": "none"})) else {
        panic!("there is no such device")
    };
    assert_eq!(refusal.to_string(), "`device_del` was refused: DeviceNotFound: Device 'none' not found");
    let pid = machine.pid().expect("the process runs");
    stop(pid);
    let short = Duration::from_millis(50).into();
    let late = machine.execute("query-status", short);
    assert!(matches!(late, Err(CommandError::TimedOut(Progress::Sent, _))), "{late:?}");
    send(pid, Signal::CONT);
    machine.execute("query-name", LONG).expect("the late reply reaches no other command");
    stop(pid);
    send(pid, Signal::KILL);
    // The command may be sent before the end is noticed or refused after it; in both cases there is no reply.
    assert!(matches!(machine.execute("query-status", LONG), Err(CommandError::Disconnected(_))));
    machine.wait(LONG).expect("it was killed");
    assert_eq!(machine.execute("query-status", LONG), Err(CommandError::Disconnected(Progress::Unsent)));
}

fn row_34_subscriptions_are_independent<H: Hosted>() {
    let mut machine = H::launch(idle()).expect("QEMU starts");
    let mut stops = machine.subscribe(&Mark::default(), &[Wait::event("STOP")]).expect("the filter names events");
    let mut all = machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("the filter names events");
    for command in ["stop", "cont"] {
        machine.execute(command, LONG).expect("the monitor answers");
    }
    assert_eq!((machine.queued(&mut stops).len(), machine.queued(&mut all).len()), (1, 2));
    machine.unsubscribe(stops);
    machine.execute("stop", LONG).expect("the monitor answers");
    assert_eq!(machine.next(&mut all, LONG).expect("the event came").name(), "STOP");
    machine.kill().expect("the machine was launched");
}

fn row_35_a_raw_object_is_sent_and_its_raw_reply_returned<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let reply = machine.execute_raw(r#" {"execute": "query-name", "arguments": {}} "#).expect("the monitor answers");
    assert_eq!(reply["return"], json!({}));
    let reply = machine.execute_raw(r#"{"execute": "nonsense"}"#).expect("the monitor answers");
    assert_eq!(reply["error"]["class"], "CommandNotFound");
    let reply = machine.execute_raw(r#"{"execute": "query-name", "extra": 1}"#).expect("the monitor answers");
    assert_eq!(reply["error"]["desc"], "QMP input member 'extra' is unexpected");
    for bad in ["[]", "{", r#"{"execute": "query-name", "id": 5}"#, "{}{}"] {
        assert!(matches!(machine.execute_raw(bad), Err(CommandError::Misuse(Misuse::Raw(_)))), "{bad}");
    }
    machine.execute("query-status", LONG).expect("the monitor stays usable");
    machine.kill().expect("the machine was launched");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_20_commands_with_and_without_arguments
            row_21_a_quit_that_the_caller_issued_is_noticed
            row_22_queued_events_come_oldest_first
            row_24_one_deadline_bounds_a_wait_whatever_comes_meanwhile
            row_33_each_error_has_its_own_shape
            row_34_subscriptions_are_independent
            row_35_a_raw_object_is_sent_and_its_raw_reply_returned
        }
    };
}

rows!(stories);

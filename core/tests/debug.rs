//! Tests of the `Debug` output of a machine.

use core::time::Duration;

use crate::rig::{GREETING, GREETING_OOB, Rig, config, secs};
use qemu_machine_core::{Channel, Config, Effect, ExitStatus, Shutdown, Wait, WithRawReply, json};

fn assert_shown(rig: &Rig, fields: &str) {
    assert_eq!(format!("{:?}", rig.vm), format!("Machine {{ {fields} }}"));
}

#[test]
fn a_run_is_shown_from_its_beginning_to_its_end() {
    let mut rig = Rig::new(config());
    assert_shown(&rig, "state: Idle, in_flight: 0, queued: 0, waits: 0");
    rig.held = |effect| matches!(effect, Effect::Remove);
    rig.launch();
    rig.pass(Duration::from_millis(500));
    let due = "state: Launching(Greeting), pid: 42, due: Launch(Greeting) in 29.5s";
    assert_shown(&rig, &format!("{due}, in_flight: 0, queued: 0, waits: 0"));
    rig.says(GREETING);
    let due = "state: Launching(Negotiating), pid: 42, due: Launch(Negotiating) in 29.5s";
    assert_shown(&rig, &format!("{due}, in_flight: 1, queued: 0, waits: 0"));
    rig.says(r#"{"return": {}, "id": 0}"#);
    assert_shown(&rig, "state: Running, pid: 42, in_flight: 0, queued: 0, waits: 0");
    rig.shutdown(Shutdown::within(secs(3)));
    rig.pass(secs(1));
    assert_shown(&rig, "state: Ending, pid: 42, due: Rung(Quit) in 1s, in_flight: 1, queued: 0, waits: 0");
    rig.shuts_down("host-qmp-quit");
    rig.exits(ExitStatus::Code(0));
    assert_shown(&rig, "state: Ending, due: Drain in 2s, in_flight: 1, queued: 0, waits: 0");
    rig.closes_all();
    assert_shown(&rig, "state: Ending, due: HangUp in 5s, in_flight: 0, queued: 0, waits: 0");
    rig.answer(&Effect::Remove);
    assert_shown(&rig, "state: Ended, in_flight: 0, queued: 0, waits: 0, cause: QuitByUnknown");
}

#[test]
fn commands_and_waits_are_counted() {
    let mut rig = Rig::ready_oob(config());
    let _many = rig.issue_many(9);
    let mark = rig.vm.mark();
    let within = secs(5).into();
    let _wait = rig.vm.wait(rig.now, &mark, [Wait::event("STOP")], within).expect("a wait that makes sense");
    let _other = rig.wait(&mark, [Wait::end()]);
    assert_shown(&rig, "state: Running, pid: 42, due: Wait in 5s, in_flight: 7, queued: 2, waits: 2");
    rig.happens("STOP");
    rig.replies(1);
    assert_shown(&rig, "state: Running, pid: 42, in_flight: 7, queued: 1, waits: 1");
}

/// The nearest of several deadlines is shown, and one that has passed is due now.
#[test]
fn the_next_deadline_is_shown() {
    let mut rig = Rig::ready(config());
    let _later = rig.issue_within("b", secs(9));
    let _sooner = rig.issue_within("a", secs(2));
    rig.now = rig.now.after(Duration::from_millis(1250));
    assert_shown(&rig, "state: Running, pid: 42, due: Command in 2s, in_flight: 2, queued: 0, waits: 0");
    rig.pass(Duration::ZERO);
    assert_shown(&rig, "state: Running, pid: 42, due: Command in 750ms, in_flight: 2, queued: 0, waits: 0");
}

#[test]
fn nonzero_counters_of_stray_messages_are_shown() {
    let mut rig = Rig::ready(config());
    let disowned = rig.issue_many(1).0;
    rig.vm.disown(disowned[0].id());
    rig.replies(1);
    rig.replies(1);
    rig.replies(1);
    let late = "state: Running, pid: 42, in_flight: 0, queued: 0, waits: 0, late: 1, unmatched: 2";
    assert_shown(&rig, late);
    rig.says("[]");
    rig.says(r#"{"error": {"class": "GenericError", "desc": "no"}}"#);
    assert_shown(&rig, &format!("{late}, malformed: 1, nameless: 1"));
}

#[test]
fn no_content_of_a_message_is_shown() {
    const SECRET: &str = "correct horse";
    let mut rig = Rig::launched(Config::new("qemu").autostart().arg(SECRET).serial("tty"));
    rig.negotiate(GREETING_OOB);
    let _ticket = rig.issue(WithRawReply(("set_password", json!({"protocol": "vnc", "password": SECRET}))));
    rig.vm.console_write(rig.now, "tty", SECRET.as_bytes()).expect("a known console");
    rig.prints(SECRET);
    rig.says(&format!(r#"{{"event": "{SECRET}"}}"#));
    let mark = rig.vm.mark();
    let _wait = rig.wait(&mark, [Wait::text("tty", SECRET)]);
    assert!(rig.take_sent().contains(SECRET) && rig.vm.outgoing(Channel::Console(0)) == SECRET.as_bytes());
    let shown = format!("{:?} {:#?}", rig.vm, rig.vm);
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn the_long_form_has_a_line_for_each_field() {
    let rig = Rig::ready(config());
    let lines =
        ["Machine {", "    state: Running,", "    pid: 42,", "    in_flight: 0,", "    queued: 0,", "    waits: 0,"];
    assert_eq!(format!("{:#?}", rig.vm), format!("{}\n}}", lines.join("\n")));
}

//! Tests of the start of the guest: QEMU holds it, and the machine continues it when the monitor is ready.

use crate::rig::{GREETING, HANDSHAKE, Rig, SIGKILL, secs};
use qemu_machine_core::{
    Cause, Channel, Config, ExitStatus, FOREVER, Input, LaunchFailure, Mark, Monitor, Notice, Phase, State, Wait,
};

const QUERY: &str = r#"{"execute":"query-status","id":1}"#;
const CONT: &str = r#"{"execute":"cont","id":2}"#;

/// A machine whose QEMU has replied to the negotiation.
fn negotiated(config: Config) -> Rig {
    let mut rig = Rig::launched(config);
    rig.says(GREETING);
    assert_eq!(rig.take_sent(), HANDSHAKE);
    rig.says(r#"{"return": {}, "id": 0}"#);
    rig
}

/// Returns how many events were delivered.
fn events(rig: &Rig) -> usize {
    rig.notices.iter().filter(|notice| matches!(notice, Notice::Event(_))).count()
}

fn status(state: &str) -> String {
    format!(r#"{{"return": {{"status": "{state}", "running": false}}, "id": 1}}"#)
}

fn holds(config: &Config) -> bool {
    let line = config.command_line().expect("a valid configuration");
    assert!(!line.to_string().split(' ').any(|word| word == "-S"), "{line}");
    line.arguments().iter().any(|argument| argument == b"-S")
}

#[test]
fn g27_the_guest_is_continued_before_the_first_command() {
    let mut rig = negotiated(Config::new("qemu"));
    let ticket = rig.vm.execute(rig.now, &"query-name", FOREVER).expect("a monitor");
    assert_eq!((rig.take_sent(), rig.vm.state()), (QUERY.into(), State::Launching(Phase::Querying)));
    rig.says(&status("prelaunch"));
    assert_eq!(rig.vm.state(), State::Running);
    assert_eq!(rig.take_sent(), format!(r#"{CONT}{{"execute":"query-name","id":3}}"#));
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#);
    rig.says(r#"{"return": {}, "id": 2}"#);
    rig.says(r#"{"return": {"name": "vm"}, "id": 3}"#);
    assert_eq!(rig.vm.claim(&ticket).expect("a reply").expect("QEMU replied")["name"], "vm");
    assert_eq!(events(&rig), 0, "the caller did not ask for that event");
    // A later one is the caller's.
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 3}, "event": "RESUME"}"#);
    assert_eq!(events(&rig), 1);
}

/// QEMU sends no `RESUME` for a guest that another client has continued meanwhile.
#[test]
fn g27_only_the_event_of_the_own_continuation_is_dropped() {
    let mut rig = negotiated(Config::new("qemu"));
    rig.says(&status("prelaunch"));
    rig.says(r#"{"return": {}, "id": 2}"#);
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#);
    assert_eq!(events(&rig), 1);
}

#[test]
fn g27_a_guest_in_another_state_is_left_as_it_is() {
    for state in ["running", "paused", "postmigrate", "preconfig", "a state of the future"] {
        let mut rig = negotiated(Config::new("qemu"));
        assert_eq!(rig.take_sent(), QUERY);
        rig.says(&status(state));
        assert_eq!((rig.take_sent(), rig.vm.state()), (String::new(), State::Running), "{state}");
    }
    let mut rig = negotiated(Config::new("qemu"));
    rig.take_sent();
    rig.says(r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": 1}"#);
    assert_eq!((rig.take_sent(), rig.vm.state()), (String::new(), State::Running));
}

#[test]
fn g27_a_guest_that_arrives_is_continued_after_its_arrival() {
    let mut rig = negotiated(Config::new("qemu"));
    rig.take_sent();
    rig.says(&status("inmigrate"));
    assert_eq!(rig.vm.state(), State::Running);
    assert!(rig.take_sent().contains("migrate-set-capabilities"));
    rig.says(r#"{"return": {}, "id": 2}"#);
    let migration = |status: &str| {
        format!(
            r#"{{"timestamp": {{"seconds": 1, "microseconds": 2}}, "event": "MIGRATION", "data": {{"status": "{status}"}}}}"#
        )
    };
    rig.says(&migration("active"));
    assert_eq!(rig.take_sent(), "");
    rig.says(&migration("completed"));
    assert_eq!(rig.take_sent(), r#"{"execute":"query-status","id":3}"#);
    rig.says(r#"{"return": {"status": "paused", "running": false}, "id": 3}"#);
    assert_eq!(rig.take_sent(), r#"{"execute":"cont","id":4}"#);
}

#[test]
fn g27_arguments_of_the_caller_decide() {
    assert!(holds(&Config::new("qemu")));
    assert!(holds(&Config::new("qemu").outlive_parent()));
    assert!(!holds(&Config::new("qemu").autostart()));
    assert!(!holds(&Config::new("qemu").monitor(Monitor::None)));
    for option in ["-incoming", "--incoming", "-preconfig", "--preconfig", "-gdb", "-s"] {
        assert!(!holds(&Config::new("qemu").args([option, "x"])), "{option}");
    }
    for other in ["-Snapshot", "-snapshot", "S", "-incomings"] {
        assert!(holds(&Config::new("qemu").args([other])), "{other}");
    }
    for own in ["-S", "--S"] {
        let line = Config::new("qemu").args([own]).command_line().expect("a valid configuration");
        assert_eq!(line.arguments().iter().filter(|argument| argument.ends_with(b"-S")).count(), 1);
    }
}

#[test]
fn g27_arguments_of_a_wrapper_decide_where_they_can_be_read() {
    for (added, is_continued) in [("-S", false), ("--S", false), ("-preconfig", false), ("-gdb", true), ("-name", true)]
    {
        let mut rig = Rig::launched(Config::new("qemu").wrapper(["wrapper"]));
        let executed = ["qemu", "-S", added].map(|argument| argument.as_bytes().to_vec()).to_vec();
        rig.vm.handle(rig.now, Input::PeerProcess { pid: 43, arguments: executed });
        assert_eq!((rig.vm.pid(), rig.vm.qemu_pid()), (Some(crate::rig::PID), Some(43)));
        rig.says(GREETING);
        rig.says(r#"{"return": {}, "id": 0}"#);
        if is_continued {
            rig.says(&status("prelaunch"));
        }
        assert_eq!((rig.take_sent().contains("cont"), rig.vm.state()), (is_continued, State::Running), "{added}");
    }
}

#[test]
fn g27_the_deadline_of_the_launch_covers_the_question() {
    let mut rig = negotiated(Config::new("qemu"));
    rig.pass(Config::LAUNCH_WITHIN);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), LaunchFailure::TimedOut(Phase::Querying));
}

/// A wait from the beginning of the run finds what the guest did before the launch returned.
#[test]
fn g27_a_guest_that_ends_before_the_reply_to_its_continuation_was_launched() {
    let mut rig = negotiated(Config::new("qemu"));
    rig.says(&status("prelaunch"));
    let wait = rig.vm.wait(rig.now, &Mark::default(), [Wait::event("SHUTDOWN")], secs(9).into()).expect("a wait");
    rig.says(
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
    );
    rig.closes(Channel::Monitor);
    rig.dies(ExitStatus::Code(0));
    assert_eq!(rig.vm.launched(), Some(Ok(())));
    assert!(rig.vm.claim_wait(wait).expect("an end").is_ok());
    assert_eq!((rig.outcome().cause, rig.outcome().unanswered), (Cause::PowerOff, 0));
}

#[test]
fn g27_subscriptions_of_the_configuration_are_in_place_before_the_guest_runs() {
    let config = || Config::new("qemu").subscribe([Wait::event("SHUTDOWN")]).subscribe([Wait::any_event()]);
    let mut rig = negotiated(config());
    rig.says(&status("prelaunch"));
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#);
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 3}, "event": "SHUTDOWN"}"#);
    let [first, second] = [(); 2].map(|()| rig.vm.take_launch_subscription().expect("a subscription"));
    assert_eq!(rig.vm.take_launch_subscription(), None);
    let mut names = |id| core::iter::from_fn(|| rig.vm.next_event(id)).map(|event| event.name().to_string()).collect();
    let (one, all): (Vec<String>, Vec<String>) = (names(first), names(second));
    assert_eq!((one, all), (vec!["SHUTDOWN".into()], vec!["STOP".into(), "SHUTDOWN".into()]));
    let empty = Config::new("qemu").subscribe([]);
    assert_eq!(empty.command_line().err(), Some(qemu_machine_core::Misuse::EmptyFilter));
    let text = Config::new("qemu").serial("tty").subscribe([Wait::text("tty", "x")]);
    assert_eq!(text.command_line().err(), Some(qemu_machine_core::Misuse::NotAnEvent));
}

/// A client that disconnects right after the launch would lose the command otherwise.
#[test]
fn g27_a_machine_that_outlives_its_parent_is_ready_when_its_guest_was_continued() {
    let mut rig = Rig::launched(Config::new("qemu").outlive_parent());
    rig.says(GREETING);
    rig.says(r#"{"return": {}, "id": 0}"#);
    rig.take_sent();
    let ticket = rig.vm.execute(rig.now, &"query-name", FOREVER).expect("a monitor");
    rig.says(&status("prelaunch"));
    assert_eq!((rig.take_sent(), rig.vm.state()), (CONT.into(), State::Launching(Phase::Querying)));
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#);
    rig.says(r#"{"return": {}, "id": 2}"#);
    assert_eq!((rig.take_sent(), rig.vm.state()), (r#"{"execute":"query-name","id":3}"#.into(), State::Running));
    assert_eq!(events(&rig), 0);
    rig.says(r#"{"return": {"name": "vm"}, "id": 3}"#);
    assert!(rig.vm.claim(&ticket).is_some());
}

/// Returns the first line of the error of the launch, after the end of QEMU with this status.
fn first_line(rig: &mut Rig, status: ExitStatus) -> String {
    rig.closes(Channel::Monitor);
    rig.exits(status);
    let error = rig.vm.launched().expect("QEMU has ended").expect_err("it was not ready").to_string();
    error.lines().next().expect("it has a text").into()
}

#[test]
fn g27_a_guest_that_ends_before_the_monitor_is_ready_is_named() {
    const HELD: &str = "without `Config::autostart`, the guest is held until the monitor is ready";
    let phase = "before QEMU reported the state of the guest";
    for (reason, end) in [
        ("guest-shutdown", "the guest powered off"),
        ("guest-reset", "the guest reset"),
        ("guest-panic", "the guest panicked"),
    ] {
        // Another client continues it.
        let mut rig = negotiated(Config::new("qemu"));
        rig.shuts_down(reason);
        let line = first_line(&mut rig, ExitStatus::Code(0));
        assert_eq!(line, format!("launch failed: {end}, and QEMU ended {phase}"));
    }
    // The process had ended before its last messages were read.
    let mut rig = Rig::launched(Config::new("qemu").autostart());
    rig.exits(ExitStatus::Code(0));
    rig.negotiate(GREETING);
    rig.shuts_down("guest-shutdown");
    rig.closes(Channel::Monitor);
    let error = rig.vm.launched().expect("QEMU has ended").expect_err("it was not ready").to_string();
    let ended = "the guest powered off, and QEMU ended as soon as its monitor was ready";
    assert_eq!(error.lines().next(), Some(&*format!("launch failed: {ended}: {HELD}")));
    // QEMU sends no events before the negotiation.
    let device = ["-device", "isa-debug-exit"];
    let mut rig = Rig::launched(Config::new("qemu").autostart().args(device));
    let line = first_line(&mut rig, ExitStatus::Code(43));
    let exited = "the guest exited (isa-debug-exit, value 0x15), and QEMU ended before its monitor greeted";
    assert_eq!(line, format!("launch failed: {exited}: {HELD}"));
    let mut rig = Rig::launched(Config::new("qemu").autostart());
    let line = first_line(&mut rig, ExitStatus::Code(0));
    let ended = "QEMU ended with status 0 before its monitor greeted, as it does when the guest ends it";
    assert_eq!(line, format!("launch failed: {ended}: {HELD}"));
}

#[test]
fn g27_a_guest_that_is_held_is_not_blamed() {
    for (config, status) in [(Config::new("qemu"), 0), (Config::new("qemu").autostart(), 1)] {
        let line = first_line(&mut Rig::launched(config), ExitStatus::Code(status));
        assert_eq!(line, "launch failed: QEMU ended before its monitor greeted");
    }
}

//! Tests of the outcome: the cause that follows from the evidence, and its text.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use crate::rig::{GREETING, Rig, SIGKILL, SIGTERM, config, secs};
use qemu_machine_core::{
    Cause, Channel, Config, Effect, ExitStatus, LaunchError, Limits, Misuse, Rung, Shutdown, SignalName, json,
};

/// Action of the caller before the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Nothing,
    /// A `quit` command that the caller issued and QEMU accepted.
    OwnQuit,
    /// A shutdown whose `quit` QEMU accepted.
    AcceptedQuit,
    /// The ladder up to this rung, without a reply.
    Ladder(Rung),
    Kill,
}

fn ask(rig: &mut Rig, asked: Asked) {
    match asked {
        Asked::Nothing => {}
        Asked::OwnQuit => {
            rig.issue("quit");
            rig.replies(1);
        }
        Asked::AcceptedQuit => {
            rig.shutdown(Shutdown::within(secs(30)));
            rig.replies(1);
        }
        Asked::Kill => rig.kill(),
        Asked::Ladder(rung) => {
            let how = Shutdown::within(secs(30));
            rig.shutdown(if rung == Rung::PowerDown { how.power_down(secs(60)) } else { how });
            if rung >= Rung::Terminate {
                rig.pass(secs(20));
            }
            if rung == Rung::Kill {
                rig.pass(secs(10));
            }
        }
    }
}

fn cause(config: Config, asked: Asked, events: &[&str], exit: ExitStatus) -> Cause {
    let mut rig = Rig::ready(config);
    ask(&mut rig, asked);
    events.iter().for_each(|reason| rig.shuts_down(reason));
    rig.dies(exit).cause
}

const OK: ExitStatus = ExitStatus::Code(0);
const SIGSEGV: ExitStatus = ExitStatus::Signal { number: 11, name: SignalName::Segv, core_dumped: true };

#[test]
fn the_cause_follows_from_the_evidence() {
    let ladder = Asked::Ladder;
    let table = [
        (Asked::Nothing, &["guest-shutdown"][..], OK, Cause::PowerOff),
        (Asked::Nothing, &["guest-reset"], OK, Cause::Reset),
        (Asked::Nothing, &["guest-panic"], OK, Cause::Panic),
        (Asked::Nothing, &["host-signal"], OK, Cause::Signal { number: None, sender: None }),
        (Asked::Nothing, &["host-qmp-quit"], OK, Cause::QuitByOther),
        (Asked::Nothing, &["host-ui"], OK, Cause::Other("host-ui".into())),
        (Asked::Nothing, &["new-in-qemu-99"], OK, Cause::Other("new-in-qemu-99".into())),
        (Asked::Nothing, &["guest-reset", "guest-shutdown"], OK, Cause::PowerOff),
        (Asked::Nothing, &[], OK, Cause::Exit(0)),
        (Asked::Nothing, &[], ExitStatus::Code(1), Cause::Exit(1)),
        (Asked::Nothing, &[], ExitStatus::Code(33), Cause::Exit(33)),
        (Asked::Nothing, &[], SIGTERM, by_signal(15)),
        (Asked::Nothing, &[], SIGKILL, by_signal(9)),
        (Asked::Nothing, &[], SIGSEGV, by_signal(11)),
        (Asked::OwnQuit, &["host-qmp-quit"], OK, Cause::Asked(Rung::Quit)),
        (Asked::OwnQuit, &[], OK, Cause::Asked(Rung::Quit)),
        (Asked::OwnQuit, &[], SIGSEGV, by_signal(11)),
        (Asked::OwnQuit, &[], SIGKILL, by_signal(9)),
        (Asked::AcceptedQuit, &["host-qmp-quit"], OK, Cause::Asked(Rung::Quit)),
        // The signal came later, and replaced the reason.
        (Asked::AcceptedQuit, &["host-signal"], OK, Cause::Asked(Rung::Quit)),
        (ladder(Rung::Quit), &["host-signal"], OK, Cause::Signal { number: None, sender: None }),
        (ladder(Rung::Quit), &["host-qmp-quit"], OK, Cause::QuitByUnknown),
        (ladder(Rung::Quit), &["guest-shutdown"], OK, Cause::PowerOff),
        (ladder(Rung::Quit), &[], SIGTERM, by_signal(15)),
        (ladder(Rung::Quit), &[], ExitStatus::Code(1), Cause::Exit(1)),
        (ladder(Rung::PowerDown), &["guest-shutdown"], OK, Cause::Asked(Rung::PowerDown)),
        (ladder(Rung::PowerDown), &["guest-panic"], OK, Cause::Panic),
        (ladder(Rung::Terminate), &["host-signal"], OK, Cause::Asked(Rung::Terminate)),
        (ladder(Rung::Terminate), &["host-qmp-quit"], OK, Cause::QuitByUnknown),
        (ladder(Rung::Terminate), &[], SIGTERM, Cause::Asked(Rung::Terminate)),
        (ladder(Rung::Terminate), &[], OK, Cause::Asked(Rung::Terminate)),
        (ladder(Rung::Terminate), &[], ExitStatus::Code(1), Cause::Exit(1)),
        (ladder(Rung::Terminate), &[], SIGKILL, by_signal(9)),
        (ladder(Rung::Kill), &[], SIGKILL, Cause::Asked(Rung::Kill)),
        (ladder(Rung::Kill), &[], SIGSEGV, by_signal(11)),
        (Asked::Kill, &[], SIGKILL, Cause::Asked(Rung::Kill)),
        (Asked::Kill, &["guest-shutdown"], OK, Cause::PowerOff),
        (Asked::Kill, &[], SIGTERM, by_signal(15)),
    ];
    for (asked, events, exit, expected) in table {
        assert_eq!(cause(config(), asked, events, exit), expected, "{asked:?}, {events:?}, {exit:?}");
    }
}

/// The device ends QEMU at once with an odd exit status (QEMU, `hw/misc/debugexit.c`, `debug_exit_write`). Status 1
/// means that QEMU failed, unless QEMU reported a shutdown before.
#[test]
fn a_debug_exit_needs_its_device() {
    let device = || config().args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    for (code, expected) in [
        (33, Cause::DebugExit(16)),
        (3, Cause::DebugExit(1)),
        (255, Cause::DebugExit(127)),
        (1, Cause::Exit(1)),
        (0, Cause::Exit(0)),
        (2, Cause::Exit(2)),
    ] {
        assert_eq!(cause(device(), Asked::Nothing, &[], ExitStatus::Code(code)), expected);
    }
    assert_eq!(cause(device(), Asked::Nothing, &[], SIGSEGV), by_signal(11));
    assert_eq!(cause(device(), Asked::Nothing, &["guest-shutdown"], OK), Cause::PowerOff);
    for (reasons, code, expected) in [
        (&["guest-shutdown"][..], 33, Cause::DebugExit(16)),
        (&["guest-shutdown"], 1, Cause::DebugExit(0)),
        (&["guest-panic"], 1, Cause::Panic),
        // The machine paused at a shutdown, was reset, and ran on.
        (&["host-qmp-system-reset"], 33, Cause::DebugExit(16)),
        // The machine paused at a shutdown until a command ended it.
        (&["guest-shutdown", "host-qmp-quit"], 33, Cause::QuitByOther),
        (&["guest-shutdown", "host-signal"], 33, Cause::Signal { number: None, sender: None }),
    ] {
        assert_eq!(cause(device(), Asked::Nothing, reasons, ExitStatus::Code(code)), expected, "{reasons:?} {code}");
    }
    assert_eq!(cause(config(), Asked::Nothing, &["guest-shutdown"], ExitStatus::Code(1)), Cause::PowerOff);
}

#[test]
fn the_last_events_are_those_that_report_an_end() {
    let mut rig = Rig::ready(config());
    rig.says(r#"{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}"#);
    rig.shuts_down("guest-panic");
    rig.happens("JOB_STATUS_CHANGE");
    let outcome = rig.dies(OK);
    let names: Vec<_> = outcome.last_events.iter().map(|event| event.name()).collect();
    assert_eq!(names, ["GUEST_PANICKED", "SHUTDOWN"]);
}

/// The outcome has the last event of each kind, however many other events came and were evicted.
#[test]
fn the_last_event_of_each_kind_is_retained_in_order() {
    let mut few = Limits::default();
    few.events = 100;
    let mut rig = Rig::ready(config().limits(few));
    for name in ["GUEST_PANICKED", "RESET", "SHUTDOWN", "RESET"] {
        rig.happens(name);
    }
    rig.says(r#"{"event": "GUEST_PANICKED", "data": {"action": "pause"}}"#);
    (0..20).for_each(|_| rig.happens("RTC_CHANGE"));
    rig.shuts_down("guest-reset");
    rig.shuts_down("guest-panic");
    (0..20).for_each(|_| rig.happens("STOP"));
    let outcome = rig.dies(OK);
    let shown: Vec<_> = outcome.last_events.iter().map(ToString::to_string).collect();
    let last = r#"SHUTDOWN {"guest": false, "reason": "guest-panic"}"#;
    assert_eq!(shown, ["RESET", r#"GUEST_PANICKED {"action": "pause"}"#, last]);
    assert_eq!(outcome.cause, Cause::Panic, "the last reason counts");
    let lines = outcome.to_string();
    let lines: Vec<_> = lines.lines().filter_map(|line| line.strip_prefix("  last event: ")).collect();
    assert_eq!(lines, shown);
}

/// The outcome lists every rung that was tried, whichever worked; its text lists them if there was more than one.
#[test]
fn the_rungs_list_every_attempt() {
    use Rung::{Kill, PowerDown, Quit, Terminate};
    let ladder = Asked::Ladder;
    let table = [
        (Asked::Nothing, &[][..], ""),
        (Asked::OwnQuit, &[], ""),
        (Asked::Kill, &[Kill], ""),
        (ladder(Quit), &[Quit], ""),
        (ladder(PowerDown), &[PowerDown], ""),
        (ladder(Terminate), &[Quit, Terminate], "\n  tried: quit, SIGTERM\n"),
        (ladder(Kill), &[Quit, Terminate, Kill], "\n  tried: quit, SIGTERM, SIGKILL\n"),
    ];
    for (asked, rungs, shown) in table {
        let mut rig = Rig::ready(config());
        ask(&mut rig, asked);
        let outcome = rig.dies(SIGKILL);
        assert_eq!(outcome.rungs, rungs, "{asked:?}");
        let text = format!("{outcome:#}");
        assert!(if shown.is_empty() { !text.contains("tried") } else { text.contains(shown) }, "{text}");
    }
}

/// Returns the signal and its sender, as it is displayed, in the cause of a machine for which QEMU reported a signal and
/// printed this log.
fn signal_in(log: impl AsRef<[u8]>) -> (Option<i32>, Option<String>) {
    let mut rig = Rig::ready(config());
    rig.log = log.as_ref().to_vec();
    rig.prints("terminating on signal 3 from pid 3 (the guest)\n");
    rig.shuts_down("host-signal");
    match rig.dies(OK).cause {
        Cause::Signal { number, sender } => (number, sender.map(|sender| sender.to_string())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sender_of_a_signal_is_read_from_what_qemu_printed() {
    let bash = "terminating on signal 15 from pid 4711 (bash)";
    let table = [
        ("", None, None),
        ("qemu: warning\n", None, None),
        (bash, Some(15), Some("pid 4711 (bash)")),
        (
            "qemu-system-x86_64: terminating on signal 1 from pid 1 (<unknown process>)\r\n",
            Some(1),
            Some("pid 1 (<unknown process>)"),
        ),
        ("terminating on signal 2\n", Some(2), None),
        ("terminating on signal 2 \nbye\n", Some(2), None),
        ("terminating on signal 15 from ", Some(15), None),
        // Of several lines the last one counts: earlier signals did not end QEMU.
        ("terminating on signal 1 from pid 1 (a)\nterminating on signal 2\n", Some(2), None),
        ("terminating on signal 2\nterminating on signal 1 from pid 1 (a)\n", Some(1), Some("pid 1 (a)")),
        // Lines that only resemble it.
        ("terminating on signal ", None, None),
        ("terminating on signal x from pid 1 (a)", None, None),
        ("terminating on signal 99999999999 from pid 1 (a)", None, None),
        ("Terminating on signal 15 from pid 1 (a)", None, None),
    ];
    for (log, number, sender) in table {
        assert_eq!(signal_in(log), (number, sender.map(Into::into)), "{log:?}");
    }
    for chatter in ["not terminating on signal handlers", "terminating on signal x from pid 1 (a)"] {
        let expected = (Some(15), Some("pid 4711 (bash)".to_string()));
        assert_eq!(signal_in(format!("{chatter}\n{bash}\n{chatter}\n")), expected);
    }
}

/// The sender chooses its own name, which is the rest of the line.
#[test]
fn a_sender_cannot_pass_for_another_by_its_name() {
    for (name, shown) in [
        ("(x from y)", "(x from y)"),
        ("(terminating on signal 9 from pid 1 (init))", "(terminating on signal 9 from pid 1 (init))"),
        ("(\u{1b}[2J\u{7}\u{9b})", "(\\u{1b}[2J\\u{7}\\u{9b})"),
        ("(a\tb)  ", "(a\\tb)"),
    ] {
        let expected = (Some(15), Some(format!("pid 4711 {shown}")));
        assert_eq!(signal_in(format!("qemu: terminating on signal 15 from pid 4711 {name}\n")), expected);
    }
    let broken = signal_in(b"terminating on signal 15 from pid 1 (\xff)");
    assert_eq!(broken, (Some(15), Some("pid 1 (\u{fffd})".into())));
}

/// The line is no evidence unless QEMU reported a signal, nor if the library sent the signal.
#[test]
fn a_printed_line_is_no_evidence_by_itself() {
    for (asked, event, expected) in [
        (Asked::Nothing, None, Cause::Exit(0)),
        (Asked::Nothing, Some("guest-shutdown"), Cause::PowerOff),
        (Asked::Ladder(Rung::Terminate), Some("host-signal"), Cause::Asked(Rung::Terminate)),
    ] {
        let mut rig = Rig::ready(config());
        rig.log = b"terminating on signal 15 from pid 4711 (bash)".to_vec();
        ask(&mut rig, asked);
        event.into_iter().for_each(|reason| rig.shuts_down(reason));
        assert_eq!(rig.dies(OK).cause, expected);
    }
}

#[test]
fn a_cause_reads_as_a_sentence() {
    for (cause, expected) in [
        (Cause::NotStarted, "was not started"),
        (Cause::Asked(Rung::PowerDown), "ended by the caller (power button)"),
        (Cause::Asked(Rung::Terminate), "ended by the caller (SIGTERM)"),
        (Cause::PowerOff, "powered off by the guest"),
        (Cause::Reset, "reset by the guest"),
        (Cause::Panic, "panic of the guest"),
        (Cause::DebugExit(16), "exited by the guest (isa-debug-exit, value 0x10)"),
        (by_signal(11), "ended by signal 11, which the caller did not send"),
        (Cause::Signal { number: None, sender: None }, "ended by a signal, which the caller did not send"),
        (
            Cause::Signal { number: Some(15), sender: Some("pid 4711 (bash)".into()) },
            "ended by signal 15 from pid 4711 (bash), which the caller did not send",
        ),
        (Cause::Exit(1), "QEMU exited (status 1)"),
        (Cause::Other("host-ui".into()), "QEMU shut down (host-ui)"),
        (Cause::Unkillable, "could not be killed"),
    ] {
        assert_eq!(cause.to_string(), expected);
    }
    for (status, expected) in [
        (ExitStatus::Code(-1), "exit status -1"),
        (SIGSEGV, "signal 11 (SIGSEGV), core dumped"),
        (ExitStatus::Signal { number: 42, name: SignalName::Other, core_dumped: false }, "signal 42"),
    ] {
        assert_eq!(status.to_string(), expected);
    }
}

#[test]
fn an_outcome_reads_as_a_few_lines() {
    let mut rig = Rig::ready(Config::new("qemu").autostart().serial("tty").args(["-name", "a b"]));
    rig.log = b"qemu: warning\n\nterminating on signal 15 from pid 4711 (bash)\r\n\x1b[1mbye".to_vec();
    rig.prints("boot\r\nlogin: ");
    rig.issue("query-status");
    rig.failing = |effect| matches!(effect, Effect::Remove);
    rig.shuts_down("host-signal");
    let outcome = rig.dies(OK);
    assert_eq!(
        outcome.to_string(),
        "\
ended by signal 15 from pid 4711 (bash), which the caller did not send
  process: exit status 0
  last event: SHUTDOWN {\"guest\": false, \"reason\": \"host-signal\"}
  commands without a reply: 1
  host: cannot oblige: No such file or directory
  printed:
    qemu: warning
    terminating on signal 15 from pid 4711 (bash)
    \\u{1b}[1mbye
  console tty:
    boot
    login:
  command: qemu -display none -vga none -chardev stdio,id=mon -qmp chardev:mon \
-chardev null,id=tty -serial chardev:tty -name 'a b'"
    );
}

/// An outcome that the caller expects is one line; any other shows everything.
#[test]
fn an_expected_outcome_is_one_line_and_any_other_is_complete() {
    let ladder = Asked::Ladder;
    for (asked, event, status, short) in [
        (Asked::AcceptedQuit, Some("host-qmp-quit"), OK, true),
        (ladder(Rung::PowerDown), Some("guest-shutdown"), OK, true),
        (Asked::Kill, None, SIGKILL, true),
        (Asked::Nothing, Some("guest-shutdown"), OK, true),
        (ladder(Rung::Terminate), Some("host-signal"), OK, false),
        (Asked::AcceptedQuit, Some("host-qmp-quit"), ExitStatus::Code(1), false),
        (ladder(Rung::Quit), Some("host-qmp-quit"), OK, false),
        (Asked::Nothing, Some("host-qmp-quit"), OK, false),
        (Asked::Nothing, Some("guest-reset"), OK, false),
        (Asked::Nothing, None, OK, false),
        (Asked::Nothing, None, SIGKILL, false),
    ] {
        let mut rig = Rig::ready(config());
        rig.log = b"a word".to_vec();
        ask(&mut rig, asked);
        event.into_iter().for_each(|reason| rig.shuts_down(reason));
        let outcome = rig.dies(status);
        let whole = format!("{outcome:#}");
        assert!(whole.starts_with(&format!("{}\n  process: {status}\n", outcome.cause)), "{whole}");
        assert!(whole.contains("\n  printed:\n    a word\n  command: "), "{whole}");
        let expected = if short { outcome.cause.to_string() } else { whole };
        assert_eq!(outcome.to_string(), expected, "{asked:?} {event:?} {status}");
    }
    let leave_unanswered = |rig: &mut Rig| drop(rig.issue("a"));
    let leave_behind = |rig: &mut Rig| rig.failing = |effect| matches!(effect, Effect::Remove);
    for spoil in [leave_unanswered as fn(&mut Rig), leave_behind] {
        let mut rig = Rig::ready(config());
        spoil(&mut rig);
        rig.shuts_down("guest-shutdown");
        let outcome = rig.dies(OK);
        assert_eq!((&outcome.cause, outcome.to_string()), (&Cause::PowerOff, format!("{outcome:#}")));
    }
}

#[test]
fn a_failed_launch_reads_as_a_few_lines() {
    let mut rig = Rig::launched(Config::new("qemu").autostart().args(["-device", "nonexistent"]));
    rig.log = b"qemu: -device nonexistent: 'nonexistent' is not a valid device model name\n".to_vec();
    rig.closes(Channel::Monitor);
    rig.exits(ExitStatus::Code(1));
    assert_eq!(
        rig.vm.launched().unwrap().unwrap_err().to_string(),
        "\
launch failed: QEMU ended before its monitor greeted
  process: exit status 1
  printed:
    qemu: -device nonexistent: 'nonexistent' is not a valid device model name
  command: qemu -display none -vga none -chardev stdio,id=mon -qmp chardev:mon -device nonexistent"
    );
    let misuse = LaunchError::from(Misuse::AlreadyLaunched);
    assert_eq!(misuse.to_string(), "launch: the machine is already launched");
}

#[test]
fn last_words_are_bounded_and_the_newest() {
    let mut limits = Limits::default();
    (limits.last_words, limits.log) = (6, 4);
    let mut rig = Rig::launched(config().limits(limits));
    rig.negotiate(GREETING);
    rig.log = b"0123456789".to_vec();
    rig.prints("abcdefghij");
    let outcome = rig.dies(OK);
    assert_eq!((outcome.log.as_str(), outcome.consoles[0].1.as_str()), ("6789", "efghij"));
    assert!(rig.effects.contains(&Effect::ReadLog { limit: 4 }));
}

#[test]
fn an_outcome_shows_twenty_lines_of_a_text() {
    let mut rig = Rig::launched(config());
    rig.log = (0..30).map(|line| format!("line {line}\n")).collect::<String>().into_bytes();
    let shown = rig.dies(ExitStatus::Code(1)).to_string();
    assert!(shown.contains("    line 10\n") && !shown.contains("line 9\n"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains("line ")).count(), 20);
}

#[test]
fn the_outcome_of_a_machine_that_was_not_started_is_short() {
    let mut rig = Rig::new(Config::new("qemu").autostart().with_display().with_vga().without_monitor());
    rig.failing = |effect| matches!(effect, Effect::Spawn(_));
    rig.launch();
    assert_eq!(rig.outcome().to_string(), "was not started\n  command: qemu");
}

/// The cause of a signal whose sender is unknown.
fn by_signal(number: i32) -> Cause {
    Cause::Signal { number: Some(number), sender: None }
}

/// Returns the cause after these steps: `quit` and `button` are requests of the caller, with their reply; other words
/// are events, and reasons of `SHUTDOWN`.
fn cause_after(steps: &[&str], log: &str, signaller: Option<u32>) -> Cause {
    let mut rig = Rig::new(config());
    rig.signaller = signaller;
    rig.launch();
    rig.negotiate(GREETING);
    rig.log = log.as_bytes().to_vec();
    let mut id = 1;
    for step in steps {
        match *step {
            "quit" | "system_powerdown" | "unanswered quit" => {
                rig.issue(step.trim_start_matches("unanswered "));
                if !step.starts_with("unanswered") {
                    rig.replies(id);
                }
                id += 1;
            }
            "POWERDOWN" | "RESET" => rig.happens(step),
            "SIGTERM of the ladder" => {
                rig.shutdown(Shutdown::default().quit(secs(0)));
            }
            reason => rig.shuts_down(reason),
        }
    }
    rig.dies(OK).cause
}

/// Each request is distinguished from the same one of another client by its reply, and by the order of what QEMU sent.
#[test]
fn g28_a_request_of_another_client_is_not_the_callers() {
    let quit = Cause::Asked(Rung::Quit);
    let button = Cause::Asked(Rung::PowerDown);
    for (steps, expected) in [
        (&["host-qmp-quit"][..], Cause::QuitByOther),
        (&["quit", "host-qmp-quit"], quit.clone()),
        // Too late: another client's had ended QEMU.
        (&["host-qmp-quit", "unanswered quit"], Cause::QuitByOther),
        (&["host-qmp-quit", "quit"], Cause::QuitByOther),
        (&["unanswered quit", "host-qmp-quit"], Cause::QuitByUnknown),
        (&["guest-shutdown"], Cause::PowerOff),
        (&["POWERDOWN", "guest-shutdown"], Cause::PowerButton),
        (&["POWERDOWN", "RESET", "guest-shutdown"], Cause::PowerOff),
        (&["system_powerdown", "POWERDOWN", "guest-shutdown"], button.clone()),
        (&["POWERDOWN", "system_powerdown", "guest-shutdown"], button),
        (&["quit", "host-signal"], quit),
    ] {
        assert_eq!(cause_after(steps, "", None), expected, "{steps:?}");
    }
}

/// QEMU's log names the sender of a signal that it caught: this process, or another one.
#[test]
fn g28_a_signal_is_attributed_to_its_sender() {
    let line = "qemu-system-x86_64: terminating on signal 15 from pid 7 (bash)";
    let outside = Cause::Signal { number: Some(15), sender: Some("pid 7 (bash)".into()) };
    let ladder = &["SIGTERM of the ladder", "host-signal"][..];
    let term = Cause::Asked(Rung::Terminate);
    for (steps, signaller, expected) in [
        (ladder, Some(7), term.clone()),
        (ladder, Some(8), outside.clone()),
        (ladder, None, term.clone()),
        (&["host-signal"], Some(8), outside.clone()),
        // QEMU caught the signal, and then executed the `quit`, whose reason replaced that of the signal.
        (&["quit", "host-qmp-quit"], Some(8), outside),
    ] {
        assert_eq!(cause_after(steps, line, signaller), expected, "{steps:?} {signaller:?}");
    }
    // A sender in another process id namespace has no pid here (`sigaction(2)`, `pid_namespaces(7)`).
    let unknown = line.replace("pid 7 (bash)", "pid 0 (<unknown process>)");
    assert_eq!(cause_after(ladder, &unknown, Some(8)), term);
}

/// The human monitor is another way to the same requests.
#[test]
fn g28_a_quit_through_the_human_monitor_is_the_callers() {
    for (line, expected) in
        [("quit", Cause::Asked(Rung::Quit)), (" q", Cause::Asked(Rung::Quit)), ("query-quit", Cause::QuitByOther)]
    {
        let mut rig = Rig::ready(config());
        rig.issue(("human-monitor-command", json!({"command-line": line})));
        rig.replies(1);
        rig.shuts_down("host-qmp-quit");
        assert_eq!(rig.dies(OK).cause, expected, "{line}");
    }
}

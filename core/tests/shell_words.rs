//! Tests of printable text: errors, causes, names, command lines, and what a terminal or a shell shows of them.

use std::error::Error;

use crate::rig::{Rig, config, fault, tcp};
use qemu_machine_core::procedure::{JobError, MigrateError, ProcedureError, UnplugError};
use qemu_machine_core::wire::Message;
use qemu_machine_core::{
    Address, Cause, Channel, CommandError, Config, Descriptor, Event, ExitStatus, History, LaunchError, LaunchFailure,
    Liveness, Misuse, Phase, Progress, Service, ServiceError, SignalName, WaitError, WithRawReply,
};

fn event(message: &str) -> Event {
    match Message::read(&message.to_string().into_bytes().into()) {
        Ok(Message::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signal_has_its_name() {
    let names = [
        (SignalName::Hup, "SIGHUP"),
        (SignalName::Int, "SIGINT"),
        (SignalName::Quit, "SIGQUIT"),
        (SignalName::Ill, "SIGILL"),
        (SignalName::Trap, "SIGTRAP"),
        (SignalName::Abrt, "SIGABRT"),
        (SignalName::Bus, "SIGBUS"),
        (SignalName::Fpe, "SIGFPE"),
        (SignalName::Kill, "SIGKILL"),
        (SignalName::Usr1, "SIGUSR1"),
        (SignalName::Segv, "SIGSEGV"),
        (SignalName::Usr2, "SIGUSR2"),
        (SignalName::Pipe, "SIGPIPE"),
        (SignalName::Alrm, "SIGALRM"),
        (SignalName::Term, "SIGTERM"),
        (SignalName::Stkflt, "SIGSTKFLT"),
        (SignalName::Chld, "SIGCHLD"),
        (SignalName::Cont, "SIGCONT"),
        (SignalName::Stop, "SIGSTOP"),
        (SignalName::Tstp, "SIGTSTP"),
        (SignalName::Ttin, "SIGTTIN"),
        (SignalName::Ttou, "SIGTTOU"),
        (SignalName::Urg, "SIGURG"),
        (SignalName::Xcpu, "SIGXCPU"),
        (SignalName::Xfsz, "SIGXFSZ"),
        (SignalName::Vtalrm, "SIGVTALRM"),
        (SignalName::Prof, "SIGPROF"),
        (SignalName::Winch, "SIGWINCH"),
        (SignalName::Io, "SIGIO"),
        (SignalName::Pwr, "SIGPWR"),
        (SignalName::Sys, "SIGSYS"),
    ];
    for (number, (name, text)) in (50..).zip(names) {
        let status = ExitStatus::Signal { number, name, core_dumped: false };
        assert_eq!(status.to_string(), format!("signal {number} ({text})"));
        assert_eq!((name.as_str(), name.to_string()), (Some(text), text.into()));
    }
    for (name, text) in [
        (SignalName::RealTime(0), "signal 36 (SIGRTMIN)"),
        (SignalName::RealTime(2), "signal 36 (SIGRTMIN+2)"),
        (SignalName::RealTime(30), "signal 36 (SIGRTMIN+30)"),
        (SignalName::Other, "signal 36"),
    ] {
        assert_eq!(ExitStatus::Signal { number: 36, name, core_dumped: false }.to_string(), text);
        assert_eq!(name.as_str(), None);
    }
    assert_eq!(SignalName::Other.to_string(), "a signal without a name");
    assert_eq!(ExitStatus::Unknown.to_string(), "exit status unknown (reaped elsewhere, or SIGCHLD is ignored)");
}

#[test]
fn a_phase_completes_a_sentence() {
    for (phase, words) in [
        (Phase::Starting, "before it was started"),
        (Phase::Connecting, "before its monitor was connected"),
        (Phase::Greeting, "before its monitor greeted"),
        (Phase::Negotiating, "before its monitor answered the capabilities negotiation"),
        (Phase::Syncing, "before the guest agent answered"),
        (Phase::Running, "while it was running"),
    ] {
        assert_eq!(phase.to_string(), words);
        assert_eq!(LaunchFailure::Exited(phase).to_string(), format!("QEMU ended {words}"));
    }
}

#[test]
fn channels_services_and_addresses_have_names() {
    assert_eq!((Channel::Monitor.to_string(), Channel::Console(2).to_string()), ("monitor".into(), "console 2".into()));
    assert_eq!(
        Misuse::NoService(Service::GuestAgent).to_string(),
        "the machine has no guest agent service: it was configured without one, has given it away, or has ended"
    );
    assert_eq!(
        Misuse::NoService(Service::Qtest).to_string(),
        "the machine has no qtest service: it was configured without one, has given it away, or has ended"
    );
    for (address, words) in
        [(tcp("127.0.0.1:4444"), "127.0.0.1:4444"), (Address::unix("/run/a\x1bb"), r"/run/a\u{1b}b")]
    {
        assert_eq!((address.to_string().as_str(), format!("{address:?}").as_str()), (words, words));
    }
}

#[test]
fn an_error_reports_the_progress_of_the_command() {
    assert_eq!(
        CommandError::Disconnected(Progress::Unsent).to_string(),
        "the monitor was closed before the command was sent"
    );
    let error = CommandError::TimedOut(Progress::Unsent, Liveness::Unknown);
    assert_eq!(error.to_string(), "no reply within the deadline, before the command was sent");
}

/// `Display` is the text for users, and `Debug` shows the variant and its fields.
#[test]
fn an_error_reads_well_shows_its_structure_and_knows_its_source() {
    let line = config().command_line().expect("a valid configuration");
    let error = LaunchError::not_started(fault("find qemu"), &line);
    let first = "launch failed: cannot find qemu: No such file or directory";
    assert_eq!(error.to_string(), format!("{first}\n  command: {line}"));
    assert!(
        format!("{error:?}").starts_with("Failed { failure: Host(HostFault { operation: \"find qemu\", "),
        "{error:?}"
    );
    assert_eq!(error.source().expect("a source").to_string(), "cannot find qemu: No such file or directory");
    let misuse = LaunchError::from(Misuse::Ended);
    assert_eq!(misuse.source().expect("a source").to_string(), "the machine has ended");

    let silent = ServiceError::new(Service::Qtest, error.clone());
    let first = "the qtest service does not answer: cannot find qemu: No such file or directory";
    assert_eq!(silent.to_string(), format!("{first}\n  command: {line}"));
    assert!(format!("{silent:?}").starts_with("Silent { service: Qtest, failure: Host(HostFault { "), "{silent:?}");
    assert_eq!(silent.source().expect("a source").to_string(), "cannot find qemu: No such file or directory");
    let misuse = ServiceError::new(Service::Qtest, misuse);
    assert_eq!(
        (misuse.to_string().as_str(), format!("{misuse:?}").as_str()),
        ("the machine has ended", "Misuse(Ended)")
    );
    assert_eq!(misuse.source().expect("a source").to_string(), "the machine has ended");
    assert_eq!(ServiceError::from(Misuse::Ended), misuse);

    let refused = CommandError::from(Misuse::NotRunning);
    let reads = refused.to_string();
    assert!(reads.starts_with("the machine is not running"), "{reads}");
    assert_eq!(format!("{refused:?}"), "Misuse(NotRunning)");
    let job = JobError::from(refused.clone());
    assert_eq!((job.to_string(), format!("{job:?}")), (reads.clone(), "Procedure(Command(Misuse(NotRunning)))".into()));
    let unplug = UnplugError::from(WaitError::TimedOut);
    assert_eq!(unplug.to_string(), "the deadline passed before the wait found anything");
    assert_eq!(format!("{unplug:?}"), "Procedure(Wait(TimedOut))");
    let migrate = MigrateError::from(ProcedureError::from(refused));
    assert_eq!((migrate.to_string(), format!("{migrate:?}")), (reads, "Procedure(Command(Misuse(NotRunning)))".into()));
    let LaunchError::Failed { outcome, .. } = error else { panic!("{error:?}") };
    assert_eq!((&outcome.cause, outcome.to_string().lines().next()), (&Cause::NotStarted, Some("was not started")));
}

#[test]
fn causes_without_evidence_have_a_text() {
    assert_eq!(Cause::LaunchFailed.to_string(), "killed because its launch had failed");
    assert_eq!(Cause::Unknown.to_string(), "ended for a reason that is not known");
    let mut rig = Rig::ready(config());
    assert_eq!(rig.dies(ExitStatus::Unknown).cause, Cause::Unknown);
}

/// A shell parses the text back to the same arguments, and the text has no control characters.
#[test]
fn a_command_line_is_shown_for_a_shell() {
    for (argument, shown) in [
        ("plain-_=+.,:/@%", "plain-_=+.,:/@%"),
        ("", "''"),
        ("it's", r"'it'\''s'"),
        ("a\tb", r"$'a\x09b'"),
        ("\x1b'\\ ~", r"$'\x1b\'\\ ~'"),
    ] {
        let line = Config::new("qemu").autostart().args([argument]).command_line().expect("a valid configuration");
        assert!(line.to_string().ends_with(&format!(" {shown}")), "{line}");
        assert_eq!(format!("{line:?}"), line.to_string());
    }
}

#[test]
fn events_and_replies_are_shown_as_received() {
    let stop = event(r#"{"event": "STOP", "data": {"a": [1,2]}}"#);
    assert_eq!(format!("{stop:?}"), r#"STOP {"a": [1,2]}"#);
    let mut rig = Rig::ready(config());
    let ticket = rig.issue(WithRawReply("query-status"));
    assert_eq!(format!("{ticket:?}"), "Ticket(0)");
    rig.says(r#"{"return": {"n":  1}, "id": 1}"#);
    let reply = rig.vm.claim(&ticket).expect("it came").expect("a reply");
    assert_eq!(format!("{reply:?}"), r#"{"n":  1}"#);
}

/// The value in a descriptor belongs to the driver, and need not implement `Debug`.
#[test]
fn descriptors_return_the_value_that_they_hold() {
    let (one, other) = (Descriptor::new(3_u8), Descriptor::new(3_u8));
    assert_eq!((one.get::<u8>(), one.get::<u16>()), (Some(&3), None));
    assert_eq!(one, one.clone());
    assert_ne!(one, other, "only clones are equal");
    assert_eq!(format!("{one:?}"), "Descriptor");
}

/// A slice of a read would keep the whole read alive, so an event that is kept is copied.
#[test]
fn an_event_is_retained_without_its_read() {
    let mut history = History::new(1 << 20, 1 << 20);
    for length in [100, 4095, 4096, 100_000] {
        let frame = |padding: usize| format!(r#"{{"event": "A", "data": "{}"}}"#, "x".repeat(padding));
        let event = event(&frame(length - frame(0).len()));
        let number = history.push(event.clone());
        let kept = history.get(number).expect("the latest");
        assert_eq!((kept, kept.data()), (&event, event.data()));
        let is_elsewhere = kept.name().as_ptr() != event.name().as_ptr();
        assert!(is_elsewhere, "of {length} bytes");
    }
}

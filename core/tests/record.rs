//! Tests of records: their content, replay, redaction and timeline, and the mock.

use crate::rig::{Rig, at, config, secs};
use qemu_machine_core::record::{Diverged, Mock, NotARecord, Record};
use qemu_machine_core::{
    Channel, Config, Deadline, ExitStatus, ExtraMonitor, FOREVER, Input, Limits, Machine, Monitor, Shutdown,
    SignalName, State, Wait, WaitError, json,
};

fn limited(record: usize) -> Config {
    let mut limits = Limits::default();
    limits.record = record;
    config().recorded().limits(limits)
}

/// A run with some of every kind of input and request.
fn run() -> Rig {
    let mut rig = Rig::ready(config().recorded());
    let mark = rig.vm.mark();
    let jobs = rig.vm.subscribe(&mark, [Wait::event("STOP")]).expect("a subscription");
    let login = rig.wait(&mark, [Wait::text("tty", "login: ")]);
    let status = rig.issue(("set_password", json!({"protocol": "vnc", "password": "geheim\n7"})));
    let ids = rig.take_ids();
    rig.now = at(secs(1));
    rig.happens("STOP");
    rig.replies(ids[0]);
    rig.prints("\u{1b}[2Jlog");
    rig.prints("in: ");
    assert!(rig.vm.claim(&status).is_some_and(|answer| answer.is_ok()));
    assert!(rig.vm.claim_wait(login).is_some_and(|found| found.is_ok()));
    assert!(rig.vm.next_event(jobs).is_some());
    rig.vm.unsubscribe(jobs);
    rig.vm.console_write(rig.now, "tty", b"root\r").expect("a console");
    rig.vm.sent(Channel::Console(0), 2);
    assert!(rig.vm.console_write(rig.now, "none", b"x").is_err());
    let late = rig.issue_within("query-block", secs(2));
    rig.take_ids();
    rig.pass(secs(3));
    rig.vm.disown(late.id());
    rig.shutdown(Shutdown::default());
    let ids = rig.take_ids();
    rig.shuts_down("host-qmp-quit");
    rig.replies(ids[0]);
    rig.dies(ExitStatus::Code(0));
    rig
}

fn record(rig: &Rig) -> Record {
    rig.vm.record().expect("the run is recorded")
}

/// Writes a record, reads it again, and asserts that nothing changed.
fn through_text(record: &Record) -> Record {
    let read = record.to_string().parse().expect("a valid record");
    assert_eq!(*record, read);
    read
}

/// A record is read on a host with 32-bit words when a host with 64-bit words wrote it.
#[test]
fn a_limit_that_no_number_here_holds_is_read_as_the_largest() {
    let mut limits = Limits::default();
    limits.log = usize::MAX;
    let record = record(&Rig::ready(config().recorded().limits(limits)));
    let [here, wide] = [usize::MAX as u64, u64::MAX].map(|limit| format!(r#""log":{limit},"#));
    let text = record.to_string();
    assert_eq!(text.matches(&here).count(), 1, "{text}");
    assert_eq!(text.replace(&here, &wide).parse(), Ok(record));
}

#[test]
fn a_replayed_run_ends_in_the_same_state() {
    let rig = run();
    let replayed = through_text(&record(&rig)).replay().expect("the same run");
    assert_eq!(replayed.state(), State::Ended);
    assert_eq!(
        replayed.outcome().map(|outcome| format!("{outcome:#}")),
        rig.vm.outcome().map(|outcome| format!("{outcome:#}"))
    );
    assert!(replayed == rig.vm, "the replayed machine has the same state");
}

/// A record without them is as those of earlier versions, which this one reads.
#[test]
fn the_extra_monitors_are_in_the_record() {
    let config = config().recorded().extra_monitor("/run/qmp");
    let mut rig = Rig::ready(config.extra_monitor(ExtraMonitor::new("/run/hmp").human().mode(0o660)));
    rig.kill();
    rig.dies(ExitStatus::Unknown);
    let text = record(&rig).to_string();
    let replayed = through_text(&record(&rig)).replay().expect("the same run");
    assert_eq!(replayed.command_line(), rig.vm.command_line());
    assert!(replayed.extra_monitors().eq([b"/run/qmp".as_slice(), b"/run/hmp"]));
    assert!(text.contains("extra_monitors") && !record(&run()).to_string().contains("extra_monitors"), "{text}");
}

#[test]
fn the_name_of_a_signal_is_in_the_record() {
    let exit = |name| ExitStatus::Signal { number: 36, name, core_dumped: false };
    for (name, stored) in [
        (SignalName::Term, r#""term""#),
        (SignalName::Usr1, r#""usr1""#),
        (SignalName::RealTime(2), r#"{"real_time":2}"#),
        (SignalName::Other, r#""other""#),
    ] {
        let mut rig = Rig::ready(config().recorded());
        let outcome = rig.dies(exit(name));
        let record = through_text(&record(&rig));
        assert!(record.to_string().contains(&format!(r#""name":{stored}"#)), "{record}");
        let replayed = record.replay().expect("it replays").outcome().map(|outcome| outcome.exit);
        assert_eq!(replayed, Some(outcome.exit));
        // A record of a version that had fewer names.
        let older = record.to_string().replace(stored, r#""other""#).replace(&format!(" ({name})"), "");
        let older: Record = older.parse().expect("a valid record");
        let replayed = older.replay().expect("it replays").outcome().map(|outcome| outcome.exit);
        assert_eq!(replayed, Some(Some(exit(SignalName::Other))));
    }
}

#[test]
fn a_record_is_attached_to_the_outcome() {
    let rig = run();
    let attached = rig.outcome().record.expect("the run is recorded");
    assert_eq!(*attached, record(&rig).to_string());
    let plain = Machine::new(config()).expect("a valid configuration");
    assert!(plain.record().is_none(), "a machine without `recorded` has no record");
}

#[test]
fn waits_that_find_the_end_find_its_record() {
    let mut rig = Rig::ready(config().recorded());
    let mark = rig.vm.mark();
    let end = rig.wait(&mark, [Wait::end()]);
    let text = rig.wait(&mark, [Wait::text("tty", "login: ")]);
    let first = rig.dies(ExitStatus::Code(1)).record.expect("the run is recorded");
    rig.launch();
    rig.dies(ExitStatus::Code(2));
    let late = rig.wait(&mark, [Wait::end()]);
    let found = rig.vm.claim_end(end).expect("the machine ended");
    assert_eq!(found.record, Some(first.clone()), "that of its own run");
    let Some(Err(WaitError::Ended(outcome))) = rig.vm.claim_wait(text) else { panic!("it ended first") };
    assert_eq!(outcome.record, Some(first.clone()));
    let second = rig.vm.claim_end(late).expect("the machine ended").record.expect("the run is recorded");
    assert!(second.starts_with(&*first) && second.len() > first.len());
    assert!(!format!("{found:?}").contains("qmp_capabilities"), "the record is not shown: {found:?}");
}

/// A driver may start an effect late. The line of an effect follows the input that caused it.
#[test]
fn an_effect_is_written_when_it_is_issued() {
    let mut machine = Machine::new(config().recorded()).expect("a valid configuration");
    machine.launch(at(secs(1))).expect("it can be launched");
    let written = machine.record().expect("the run is recorded");
    let expected =
        "{\"ns\":1000000000,\"input\":\"launch\"}\n{\"ns\":1000000000,\"output\":{\"effect\":\"prepare\"}}\n";
    assert!(written.to_string().ends_with(expected), "{written}");
    assert!(machine.poll_effect().is_some());
    assert_eq!(machine.record(), Some(written));
}

#[test]
fn every_missing_output_line_is_noticed() {
    let text = record(&run()).to_string();
    for (index, line) in text.lines().enumerate().skip(1) {
        let without: String = text
            .lines()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        let record: Record = without.parse().expect("a record");
        // A record may be read before its last line is written.
        let is_last = index + 1 == text.lines().count();
        let is_output = line.contains(r#""output""#);
        assert!(!is_output || is_last || record.replay().is_err(), "the replay misses no {line}");
    }
    let other = text.replace("query-block", "query-chardev");
    assert!(
        other.parse::<Record>().expect("a record").replay().is_ok(),
        "a replay of another command sends other bytes"
    );
    let reply = text.replace(r#"{\"execute\":\"query-block\",\"id\""#, r#"{\"execute\":\"query-blocc\",\"id\""#);
    let diverged = reply.parse::<Record>().expect("a record").replay().expect_err("bytes that no request explains");
    let Diverged::Differs { recorded, replayed, .. } = &diverged else { panic!("{diverged}") };
    assert!(recorded.contains("query-blocc") && replayed.contains("query-block"), "{diverged}");
}

#[test]
fn a_parse_error_names_the_line() {
    let text = record(&run()).to_string().replacen("\"input\"", "\"bold\"", 3);
    let error = text.parse::<Record>().expect_err("an unknown word");
    assert!(matches!(error, NotARecord { line: 2, .. }), "{error}");
    assert_eq!("".parse::<Record>().expect("no lines").replay().err(), Some(Diverged::NoBeginning));
}

#[test]
fn an_error_names_the_other_version_that_wrote_the_record() {
    let ours = format!(r#""version":"{}""#, env!("CARGO_PKG_VERSION"));
    let text = record(&run()).to_string().replacen(&ours, r#""version":"0.0.9""#, 1);
    assert!(text.parse::<Record>().expect("a record").replay().is_ok(), "another version alone is no error");
    let unread = text.replacen("\"input\"", "\"bold\"", 1).parse::<Record>().expect_err("an unknown word");
    let other = text.replace(r#"{\"execute\":\"query-block\",\"id\""#, r#"{\"execute\":\"query-blocc\",\"id\""#);
    let diverged = other.parse::<Record>().expect("a record").replay().expect_err("bytes that no request explains");
    for told in [unread.to_string(), diverged.to_string()] {
        assert!(
            told.ends_with(concat!(
                "\nversion 0.0.9 wrote the record, and this is version ",
                env!("CARGO_PKG_VERSION")
            )),
            "{told}"
        );
    }
}

#[test]
fn the_beginning_and_the_latest_are_in_the_record() {
    let mut rig = Rig::ready(limited(20_000));
    for number in 0..2_000 {
        rig.prints(format!("line {number}\n"));
    }
    let record = through_text(&record(&rig));
    let text = record.to_string();
    assert!(text.len() < 40_000, "{}", text.len());
    assert!(text.contains(r#""output":"ready""#) && text.contains("line 1999") && !text.contains("line 900"));
    let kept = record.len() - 1;
    assert!(record.dropped() > 1_000 && record.dropped() + kept as u64 > 2_000, "{} {kept}", record.dropped());
    let Err(Diverged::Dropped { line, count }) = record.replay().map(|_| ()) else { panic!("nothing is missing") };
    assert_eq!(count, record.dropped());
    assert!(text.lines().nth(line).is_some_and(|line| line.contains("dropped")));
    assert!(record.timeline().to_string().contains("lines were dropped"));
}

/// Wherever the beginning of the record ends: the last line before the gap may be half of a pair.
#[test]
fn a_gap_is_reported_as_a_gap() {
    for limit in (2_000..12_000).step_by(97) {
        let mut rig = Rig::ready(limited(limit));
        for _ in 0..60 {
            let ticket = rig.issue("query-status");
            let ids = rig.take_ids();
            rig.replies(ids[0]);
            assert!(rig.vm.claim(&ticket).is_some());
        }
        let record = record(&rig);
        assert!(record.dropped() > 0, "{limit}");
        let diverged = record.replay().map(|_| ()).expect_err("the record has a gap");
        assert!(matches!(diverged, Diverged::Dropped { .. }), "{limit}: {diverged}");
    }
}

#[test]
fn a_limit_of_zero_keeps_only_the_configuration() {
    let mut rig = Rig::ready(limited(0));
    rig.prints("x");
    assert_eq!(record(&rig).len(), 2, "the configuration, and how much is missing");
}

#[test]
fn a_secret_is_redacted_and_the_rest_replays() {
    let mut record = record(&run());
    assert!(record.redact("abc").is_err(), "too short");
    assert_eq!(record.redact("not there"), Ok(0));
    let places = record.redact_member("password");
    assert_eq!(places, 2, "the request, and the bytes that went out");
    let text = through_text(&record).to_string();
    assert!(!text.contains("geheim") && text.contains(r#"\"password\":\"xxxxxxxxx\""#), "{text}");
    record.replay().expect("the same run");
}

#[test]
fn a_secret_in_pieces_is_redacted() {
    let mut rig = Rig::ready(config().arg("-s4711").recorded());
    for piece in ["the key is swo", "rdf", "ish, and 47", "11 \u{e4}"] {
        rig.prints(piece);
    }
    rig.handle(Input::Received(Channel::Console(0), b"\xff swordfish"));
    let mut record = record(&rig);
    assert_eq!(record.redact("swordfish"), Ok(2));
    assert_eq!(record.redact("4711"), Ok(2), "the configuration, and the console");
    let text = through_text(&record).to_string();
    assert!(!text.contains("swordfish") && !text.contains("4711") && !text.contains("rdf"), "{text}");
    let replayed = record.replay().expect("the same run");
    let tty = replayed.console("tty").expect("a console").since(0);
    assert_eq!(tty, b"the key is xxxxxxxxx, and 1111 \xc3\xa4\xff xxxxxxxxx");
}

/// Redacts a secret, and asserts that no trace of it is left and that the rest replays.
fn hide(rig: &Rig, secret: &str, traces: &[&str]) {
    let mut record = record(rig);
    assert!(record.redact(secret).is_ok_and(|places| places > 0), "{record}");
    let text = through_text(&record).to_string();
    for trace in traces {
        assert!(!text.contains(trace), "{trace} in {text}");
    }
    record.replay().unwrap_or_else(|diverged| panic!("{diverged}"));
}

#[test]
fn a_secret_is_redacted_wherever_it_went() {
    // In console input typed in pieces, and in its echo.
    let mut rig = Rig::ready(config().recorded());
    let mut mark = rig.vm.mark();
    for piece in ["hunt", "er22", "\r"] {
        rig.vm.console_write(rig.now, "tty", piece.as_bytes()).expect("a console");
        rig.prints(piece);
        let printed = rig.wait(&mark, [Wait::output("tty")]);
        mark = rig.vm.claim_wait(printed).expect("it printed").expect("something").mark;
    }
    rig.vm.sent(Channel::Console(0), 9);
    hide(&rig, "hunter22", &["hunt", "er22"]);

    // In an argument that is not UTF-8, and in a log that begins in the middle of a character.
    let mut rig = Rig::ready(config().arg(&b"-\xffhunter22"[..]).recorded());
    rig.log = b"\xa4 hunter22".to_vec();
    rig.dies(ExitStatus::Code(1));
    hide(&rig, "hunter22", &["68756e746572", "hunter22"]);

    // In an error description, escaped by QEMU in upper case and by another peer in lower case.
    let mut rig = Rig::ready(config().recorded());
    let ticket = rig.issue(("set_password", json!({"password": "p\u{e4}ss\n"})));
    let ids = rig.take_ids();
    let refusal = r#""error": {"class": "GenericError", "desc": "not p\u00E4ss\n and p\u00e4ss\n"}"#;
    rig.says(&format!(r#"{{"id": {}, {refusal}}}"#, ids[0]));
    assert!(rig.vm.claim(&ticket).is_some_and(|answer| answer.is_err()));
    hide(&rig, "p\u{e4}ss\n", &["E4ss", "e4ss", "p\u{e4}ss"]);
}

#[test]
fn an_address_is_redacted_as_well() {
    let address = "10.11.12.13:4444".parse::<std::net::SocketAddr>().expect("an address");
    let rig = Rig::ready(config().monitor(Monitor::At(address.into())).recorded());
    hide(&rig, "10.11.12.13", &["10.11"]);
    let mut record = record(&rig);
    assert!(record.redact("prepare").is_ok(), "a word of the record itself");
    record.replay().unwrap_or_else(|diverged| panic!("{diverged}"));
}

#[test]
fn of_two_passwords_one_is_a_part_of_the_other() {
    let mut rig = Rig::ready(config().args(["-object", "secret,id=s,data=geheim-und-lang"]).recorded());
    for password in ["geheim", "geheim-und-lang", "geheim"] {
        let ticket = rig.issue(("set_password", json!({"password": password})));
        let ids = rig.take_ids();
        rig.replies(ids[0]);
        assert!(rig.vm.claim(&ticket).is_some());
    }
    rig.prints("geheim-und-lang");
    let mut record = record(&rig);
    assert!(record.redact_member("password") > 3);
    assert!(!record.to_string().contains("und-lang"), "{record}");
    assert_eq!(record.redact_member("id"), 1, "an option");
    record.replay().unwrap_or_else(|diverged| panic!("{diverged}"));
}

/// Input for a console that is closed stays unsent, also in the replay.
#[test]
fn nothing_is_sent_on_a_channel_that_is_closed() {
    let mut rig = Rig::ready(config().recorded());
    rig.vm.console_write(rig.now, "tty", b"too late").expect("a console");
    rig.closes(Channel::Console(0));
    let before = rig.vm.clone();
    rig.vm.sent(Channel::Console(0), 5);
    assert!(rig.vm == before);
}

/// Requests without a moment use the time of the machine.
#[test]
fn time_that_passed_counts_for_later_inputs() {
    let mut rig = Rig::ready(config().recorded());
    let ticket = rig.issue("query-status");
    rig.take_ids();
    rig.pass(secs(3));
    assert!(rig.vm.launch(at(secs(9))).is_err(), "a refused launch does not advance the time");
    rig.vm.disown(ticket.id());
    let within = Deadline::after(secs(2));
    let late = rig.vm.execute(at(secs(4)), &"stop", within).expect("a monitor");
    rig.take_ids();
    rig.now = at(secs(6));
    rig.pass(secs(0));
    assert!(rig.vm.claim(&late).is_some(), "the deadline is two seconds after the fourth");
}

#[test]
fn a_timeline_reads_as_a_story() {
    let timeline = record(&run()).timeline().to_string();
    let expected = include_str!("record/timeline.txt");
    assert_eq!(timeline, expected);
}

#[test]
fn a_mock_answers_as_the_recorded_monitor_did() {
    let record = through_text(&record(&run()));
    let mut mock = Mock::new(&record);
    assert!(mock.greeting().starts_with(r#"{"QMP":"#), "{}", mock.greeting());
    let mut vm = Rig::launched(Config::attach(qemu_machine_core::Peer::Dial(
        "127.0.0.1:4444".parse::<std::net::SocketAddr>().expect("an address").into(),
    )));
    let greeting = mock.greeting().to_string();
    vm.handle(Input::Received(Channel::Monitor, greeting.as_bytes()));
    let negotiated = mock.receive(vm.take_sent().as_bytes());
    vm.handle(Input::Received(Channel::Monitor, negotiated.as_bytes()));
    assert_eq!(vm.vm.state(), State::Running);
    let unknown = vm.issue("query-cpus-fast");
    let status = vm.issue(("set_password", json!({"protocol": "vnc", "password": "another"})));
    let requests = vm.take_sent();
    for byte in requests.as_bytes() {
        let answer = mock.receive(&[*byte]);
        vm.handle(Input::Received(Channel::Monitor, answer.as_bytes()));
    }
    let refused = vm.vm.claim(&unknown).expect("an answer").expect_err("the command is not in the record").to_string();
    assert_eq!(refused, "`query-cpus-fast` was refused: GenericError: the record has no further `query-cpus-fast`");
    assert!(vm.vm.claim(&status).is_some_and(|answer| answer.is_ok()));
    assert_eq!(vm.vm.event(0).map(|event| event.name().to_string()).as_deref(), Some("STOP"));
    assert_eq!(mock.unused().collect::<Vec<_>>(), ["query-block", "quit"]);
    assert!(!mock.is_over());
    let last = mock.receive(br#"{"execute": "quit"} {"execute": "quit"}"#);
    assert!(last.contains("SHUTDOWN") && last.contains("return") && !last.contains("error"), "{last}");
    assert!(mock.is_over());
}

/// A mock plays one run, because the next run has another monitor.
#[test]
fn a_mock_plays_the_first_run() {
    let mut rig = Rig::ready(config().recorded());
    let unanswered = rig.issue("stop");
    rig.take_ids();
    rig.dies(ExitStatus::Code(0));
    assert!(rig.vm.claim(&unanswered).is_some());
    rig.launch();
    rig.negotiate(crate::rig::GREETING);
    let answered = rig.issue("cont");
    let ids = rig.take_ids();
    rig.replies(ids[0]);
    assert!(rig.vm.claim(&answered).is_some());
    let mut mock = Mock::new(&record(&rig));
    assert_eq!(mock.greeting().matches("QMP").count(), 1);
    assert_eq!(mock.unused().collect::<Vec<_>>(), ["qmp_capabilities", "stop"]);
    assert_eq!(mock.receive(br#"{"execute": "stop"}"#), "", "the monitor did not reply in the run either");
    assert!(mock.is_over());
}

#[test]
fn a_mock_refuses_what_is_no_request() {
    let mut mock = Mock::new(&record(&run()));
    let refused = mock.receive(b"{\"execute\": 5} ");
    assert!(refused.contains("\"error\"") && !refused.contains("\"id\""), "{refused}");
    assert!(mock.receive(br#"{"execute": "set_password""#).is_empty());
    assert!(mock.receive(b"}").contains("\"return\""), "the name of the command decides");
}

#[test]
fn recording_changes_nothing() {
    let [mut plain, mut recorded] = [config(), config().recorded()].map(Rig::ready);
    for rig in [&mut plain, &mut recorded] {
        let ticket = rig.vm.execute(rig.now, &"query-status", Deadline::after(secs(9))).expect("a monitor");
        assert_eq!(rig.take_ids().len(), 1);
        rig.pass(secs(9));
        assert!(rig.vm.claim(&ticket).is_some());
        assert!(rig.vm.wait(rig.now, &rig.vm.mark(), [], FOREVER).is_err());
        rig.kill();
    }
    assert_eq!(plain.effects, recorded.effects);
    assert_eq!(plain.notices, recorded.notices);
}

#[test]
fn a_record_of_nothing_replays() {
    let machine = Machine::new(config().recorded()).expect("a valid configuration");
    let record = machine.record().expect("the run is recorded");
    assert_eq!((record.len(), record.is_empty(), record.dropped()), (1, false, 0));
    assert_eq!(record.replay().map(|machine| machine.state()), Ok(State::Idle));
}

/// The fuzzer starts from this record.
#[test]
fn the_run_that_is_fuzzed_replays() {
    let record: Record = include_str!("fuzzed/run.jsonl").parse().expect("a record");
    record.replay().expect("the same run");
}

//! Proves that a command which runs out of time says whether QEMU was busy or stuck, and that others ask nothing.

mod rig;

use core::time::Duration;

use qemu_machine_core::{
    CommandError, Deadline, FOREVER, Limits, Liveness, Moment, OutOfBand, Progress, Ticket, Value, json,
};
use rig::{Rig, at, config, secs};

/// A question with this id.
fn question(id: u16) -> String {
    format!(r#"{{"exec-oob":"query-yank","id":{id}}}"#)
}

/// A rig whose monitor has these commands in flight, each with so many seconds.
fn busy_with<const N: usize>(seconds: [u64; N]) -> (Rig, [Ticket<(&'static str, Value)>; N]) {
    let mut rig = Rig::ready_oob(config());
    let tickets = seconds.map(|seconds| issue(&mut rig, secs(seconds)));
    rig.take_sent();
    (rig, tickets)
}

fn issue(rig: &mut Rig, within: impl Into<Deadline>) -> Ticket<(&'static str, Value)> {
    let ticket = rig.vm.execute(rig.now, &("blockdev-add", json!({"driver": "null-co"})), within.into());
    rig.serve();
    ticket.expect("it may be issued")
}

/// When something is due.
fn until(rig: &Rig) -> Option<Moment> {
    rig.vm.deadline().map(|(until, _)| until)
}

fn timed_out<T>(liveness: Liveness) -> Option<Result<T, CommandError>> {
    Some(Err(CommandError::TimedOut(Progress::Sent, liveness)))
}

#[test]
fn g22_an_answer_out_of_band_says_that_qemu_is_busy() {
    let (mut rig, [slow]) = busy_with([10]);
    assert_eq!(until(&rig), Some(at(secs(5))), "half of its time");
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(2));
    assert_eq!(until(&rig), Some(at(secs(10))), "one question is enough");
    rig.replies(2);
    assert_eq!(until(&rig), Some(at(secs(10))), "and so is one answer");
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Busy));
    let error = CommandError::TimedOut(Progress::Sent, Liveness::Busy);
    assert_eq!(
        error.to_string(),
        "no reply within the deadline, after the command was sent; QEMU is busy: its monitor answers out of band"
    );
}

/// A QEMU that does not know the question lives as well.
#[test]
fn g22_a_refusal_is_an_answer() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(5));
    rig.refuses(2);
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Busy));
}

#[test]
fn g22_silence_says_that_qemu_is_stuck() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(5));
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Stuck));
    let error = CommandError::TimedOut(Progress::Sent, Liveness::Stuck);
    let words = "; QEMU is stuck: its monitor does not answer out of band either";
    assert!(error.to_string().ends_with(words), "{error}");
}

/// Nobody else gets the answer, however late it comes, and it is not counted as a reply that was lost.
#[test]
fn g22_a_late_answer_reaches_nobody() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(10));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown), "half and all of its time were over at once");
    let next = issue(&mut rig, secs(8));
    rig.pass(secs(4));
    let sent = rig.take_sent();
    assert!(sent.ends_with(&question(3)), "{sent}");
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&next), timed_out(Liveness::Stuck));
    let last = issue(&mut rig, FOREVER);
    rig.replies(3);
    assert_eq!(rig.vm.claim(&last), None);
    rig.replies(4);
    assert_eq!(rig.vm.claim(&last), Some(Ok(json!({"n": 4}))));
    let counters = rig.vm.session().counters();
    assert_eq!((counters.late, counters.unmatched), (0, 0));
}

/// For as long as a question is open, what comes serves every command that waits.
#[test]
fn g22_one_question_at_a_time_serves_all() {
    let (mut rig, [first, second, third]) = busy_with([10, 12, 20]);
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(4));
    rig.pass(secs(1));
    assert_eq!(rig.take_sent(), "", "the second's half time, while the question is open");
    rig.replies(4);
    assert_eq!(until(&rig), Some(at(secs(10))), "its answer is for both");
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&first), timed_out(Liveness::Busy));
    assert_eq!(rig.take_sent(), question(5), "the third's half time");
    rig.pass(secs(2));
    assert_eq!(rig.vm.claim(&second), timed_out(Liveness::Busy), "what was felt counts, and not what is awaited");
    rig.pass(secs(8));
    assert_eq!(rig.vm.claim(&third), timed_out(Liveness::Stuck));
}

/// QEMU answered, and was stopped then: the answer was for another half time.
#[test]
fn g22_a_reply_before_half_of_the_deadline_counts_for_nothing() {
    let (mut rig, [first, second]) = busy_with([4, 10]);
    rig.pass(secs(2));
    rig.replies(3);
    rig.pass(secs(2));
    assert_eq!(rig.vm.claim(&first), timed_out(Liveness::Busy));
    rig.take_sent();
    rig.pass(secs(1));
    assert_eq!(rig.take_sent(), question(4));
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&second), timed_out(Liveness::Stuck));
}

/// A driver that was not called in time knows nothing of QEMU.
#[test]
fn g22_a_question_that_came_late_says_nothing() {
    let (mut rig, [slow]) = busy_with([16]);
    rig.pass(Duration::from_millis(12_001));
    assert_eq!(rig.take_sent(), question(2));
    rig.pass(Duration::from_millis(3_999));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown));
    let (mut rig, [slow]) = busy_with([16]);
    rig.pass(secs(12));
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Stuck), "a quarter of the time is enough");
}

#[test]
fn g22_commands_that_are_answered_in_time_ask_nothing() {
    let (mut rig, [quick, patient]) = busy_with([10, 10]);
    rig.pass(secs(4));
    rig.replies(1);
    assert_eq!(rig.vm.claim(&quick), Some(Ok(json!({"n": 1}))));
    rig.vm.disown(patient.id());
    let endless = issue(&mut rig, FOREVER);
    rig.take_sent();
    assert_eq!(until(&rig), None, "neither what was given up nor what may take for ever");
    rig.pass(secs(1000));
    assert_eq!((rig.take_sent().as_str(), rig.vm.claim(&endless)), ("", None));
}

/// A command that waits behind seven others is asked for as well, and so is one that goes out of band itself.
#[test]
fn g22_whoever_waits_is_asked_for() {
    let mut rig = Rig::ready_oob(config());
    rig.issue_many(7);
    let eighth = issue(&mut rig, secs(10));
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(8), "past the eight");
    rig.replies(8);
    rig.pass(secs(5));
    assert_eq!(
        rig.vm.claim(&eighth),
        Some(Err(CommandError::TimedOut(Progress::Unsent, Liveness::Busy))),
        "which was not sent"
    );
    let mut rig = Rig::ready_oob(config());
    let now = rig.now;
    let out_of_band = rig.vm.execute(now, &OutOfBand("yank"), secs(2).into()).unwrap();
    rig.take_sent();
    rig.pass(secs(1));
    assert_eq!(rig.take_sent(), question(2));
    rig.replies(2);
    rig.pass(secs(1));
    assert_eq!(rig.vm.claim(&out_of_band), timed_out(Liveness::Busy));
}

#[test]
fn g22_a_monitor_without_out_of_band_is_not_asked() {
    let mut rig = Rig::ready(config());
    let slow = issue(&mut rig, secs(10));
    rig.take_sent();
    assert_eq!(until(&rig), Some(at(secs(10))));
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), "");
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown));
}

#[test]
fn g22_nobody_is_asked_against_the_callers_will() {
    let mut rig = Rig::ready_oob(config().without_heartbeat());
    let slow = issue(&mut rig, secs(10));
    rig.take_sent();
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), "");
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown));
}

/// It belongs to nobody, so it takes no caller's place, and it is not told as a command without an answer.
#[test]
fn g22_a_question_is_no_command_of_a_caller() {
    let mut limits = Limits::default();
    limits.commands = 1;
    let mut rig = Rig::ready_oob(config().limits(limits));
    let slow = issue(&mut rig, secs(10));
    rig.take_sent();
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(2));
    rig.replies(1);
    assert_eq!(rig.vm.claim(&slow), Some(Ok(json!({"n": 1}))));
    let next = issue(&mut rig, secs(10));
    rig.replies(3);
    assert_eq!(rig.vm.claim(&next), Some(Ok(json!({"n": 3}))));
}

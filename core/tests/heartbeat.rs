//! Tests of the heartbeat: a command that times out reports whether QEMU was busy or stuck, and no other command causes
//! a query.

use core::time::Duration;

use crate::rig::{Rig, at, config, secs};
use qemu_machine_core::{
    CommandError, Deadline, FOREVER, Limits, Liveness, Moment, OutOfBand, Progress, Ticket, Value, json,
};

/// Returns the heartbeat query with this id.
fn question(id: u16) -> String {
    format!(r#"{{"exec-oob":"query-yank","id":{id}}}"#)
}

/// Returns a machine with a command in flight for each of these deadlines in seconds.
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

/// Returns the time of the next deadline.
fn until(rig: &Rig) -> Option<Moment> {
    rig.vm.deadline().map(|(until, _)| until)
}

fn timed_out<T>(liveness: Liveness) -> Option<Result<T, CommandError>> {
    Some(Err(CommandError::TimedOut(Progress::Sent, liveness)))
}

#[test]
fn g22_an_out_of_band_reply_means_that_qemu_is_busy() {
    let (mut rig, [slow]) = busy_with([10]);
    assert_eq!(until(&rig), Some(at(secs(5))), "half of the deadline");
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(2));
    assert_eq!(until(&rig), Some(at(secs(10))), "one query is enough");
    rig.replies(2);
    assert_eq!(until(&rig), Some(at(secs(10))), "and so is one reply");
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Busy));
    let error = CommandError::TimedOut(Progress::Sent, Liveness::Busy);
    assert_eq!(
        error.to_string(),
        "no reply within the deadline, after the command was sent; QEMU is busy: its monitor answers out of band"
    );
}

/// A QEMU that does not know `query-yank` replies as well.
#[test]
fn g22_a_refusal_is_a_reply() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(5));
    rig.refuses(2);
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Busy));
}

#[test]
fn g22_no_out_of_band_reply_means_that_qemu_is_stuck() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(5));
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Stuck));
    let error = CommandError::TimedOut(Progress::Sent, Liveness::Stuck);
    let words = "; QEMU is stuck: its monitor does not answer out of band either";
    assert!(error.to_string().ends_with(words), "{error}");
}

/// However late it comes, the reply reaches no command, and is not counted as late or unmatched.
#[test]
fn g22_a_late_reply_to_the_heartbeat_reaches_no_command() {
    let (mut rig, [slow]) = busy_with([10]);
    rig.pass(secs(10));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown), "half and all of the time passed at once");
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

/// The reply to an open query counts for every command that waits.
#[test]
fn g22_one_query_at_a_time_serves_all_commands() {
    let (mut rig, [first, second, third]) = busy_with([10, 12, 20]);
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(4));
    rig.pass(secs(1));
    assert_eq!(rig.take_sent(), "", "half of the second deadline, while the query is open");
    rig.replies(4);
    assert_eq!(until(&rig), Some(at(secs(10))), "the reply counts for both");
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&first), timed_out(Liveness::Busy));
    assert_eq!(rig.take_sent(), question(5), "half of the third deadline");
    rig.pass(secs(2));
    assert_eq!(rig.vm.claim(&second), timed_out(Liveness::Busy), "the last reply counts, not the open query");
    rig.pass(secs(8));
    assert_eq!(rig.vm.claim(&third), timed_out(Liveness::Stuck));
}

/// QEMU replied, and was stopped afterwards: that reply says nothing about the second half of the other deadline.
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

/// If the driver calls too late, QEMU has too little time to reply.
#[test]
fn g22_a_query_that_was_sent_late_says_nothing() {
    let (mut rig, [slow]) = busy_with([16]);
    rig.pass(Duration::from_millis(12_001));
    assert_eq!(rig.take_sent(), question(2));
    rig.pass(Duration::from_millis(3_999));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown));
    let (mut rig, [slow]) = busy_with([16]);
    rig.pass(secs(12));
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Stuck), "a quarter of the deadline is enough");
}

#[test]
fn g22_commands_that_are_answered_in_time_cause_no_query() {
    let (mut rig, [quick, patient]) = busy_with([10, 10]);
    rig.pass(secs(4));
    rig.replies(1);
    assert_eq!(rig.vm.claim(&quick), Some(Ok(json!({"n": 1}))));
    rig.vm.disown(patient.id());
    let endless = issue(&mut rig, FOREVER);
    rig.take_sent();
    assert_eq!(until(&rig), None, "neither a disowned command nor one without a deadline");
    rig.pass(secs(1000));
    assert_eq!((rig.take_sent().as_str(), rig.vm.claim(&endless)), ("", None));
}

/// A command that is queued behind seven others causes a query, and so does an out-of-band command.
#[test]
fn g22_queued_and_out_of_band_commands_cause_a_query() {
    let mut rig = Rig::ready_oob(config());
    rig.issue_many(7);
    let eighth = issue(&mut rig, secs(10));
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), question(8), "ahead of the queued command");
    rig.replies(8);
    rig.pass(secs(5));
    assert_eq!(
        rig.vm.claim(&eighth),
        Some(Err(CommandError::TimedOut(Progress::Unsent, Liveness::Busy))),
        "the command was not sent"
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
fn g22_a_monitor_without_out_of_band_gets_no_query() {
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
fn g22_without_heartbeat_there_is_no_query() {
    let mut rig = Rig::ready_oob(config().without_heartbeat());
    let slow = issue(&mut rig, secs(10));
    rig.take_sent();
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), "");
    rig.pass(secs(5));
    assert_eq!(rig.vm.claim(&slow), timed_out(Liveness::Unknown));
}

/// A query does not count towards the limit of commands.
#[test]
fn g22_a_query_is_no_command_of_a_caller() {
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

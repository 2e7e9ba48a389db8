//! Tests of procedures that fail, time out or are dropped: what they remove from a scripted QEMU, and what they report.

use core::time::Duration;

use crate::rig::steps::{LONG, begun, mirror, on, started};
use crate::rig::{Rig, SIGKILL, config, secs};
use qemu_machine_core::procedure::{
    CLEAN_UP_WITHIN, Created, FollowJob, JobEnd, JobError, Migrate, MigrateError, MigrationEnd, ProcedureError, Run,
    Unplug,
};
use qemu_machine_core::{CommandError, ExitStatus, Limits, Liveness, Notice, Progress, WaitError, json};

const CANCEL: &str = "job-cancel,arguments:{id:j}";
const DISMISS: &str = "job-dismiss,arguments:{id:j}";

/// Runs a step that sends one command.
fn asks(rig: &mut Rig, run: &mut Run<FollowJob>, command: &str) {
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

fn timed_out() -> JobError {
    ProcedureError::from(WaitError::TimedOut).into()
}

/// Returns the job that remains, and why.
fn remains(end: Option<Result<JobEnd, JobError>>) -> (String, ProcedureError, ProcedureError) {
    match end {
        Some(Err(JobError::Procedure(ProcedureError::Remains { error, remains }))) => {
            assert_eq!(remains.len(), 1);
            (remains[0].created.to_string(), *error, remains[0].why.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn g40_a_job_that_runs_out_of_time_is_cancelled_and_dismissed() {
    let (mut rig, mut run) = started(mirror());
    rig.pass_exactly(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.replies(2);
    rig.job("aborting");
    rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
    assert_eq!(on(&mut rig, &mut run), None, "not before its end");
    rig.job("concluded");
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(3, "concluded", Some("Operation canceled"));
    asks(&mut rig, &mut run, DISMISS);
    rig.replies(4);
    assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out())), "it is removed, and the time has run out");
    assert_eq!(rig.vm.deadline(), None);
}

/// The deadline passes while a command has no reply: completing, listing, dismissing.
#[test]
fn g40_a_job_is_cancelled_at_whatever_step_time_runs_out() {
    let (mut rig, mut run) = started(mirror().complete_when_ready());
    rig.job("ready");
    asks(&mut rig, &mut run, "job-complete,arguments:{id:j}");
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.replies(2);
    rig.replies(3);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.job("null");
    assert_eq!(
        on(&mut rig, &mut run),
        Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into())),
        "the error is that of the step"
    );

    let (mut rig, mut run) = started(mirror());
    rig.job("concluded");
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(2, "concluded", None);
    asks(&mut rig, &mut run, DISMISS);
    rig.pass(secs(60));
    asks(&mut rig, &mut run, DISMISS);
    rig.refuses(4);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Completed)), "it had ended before");
}

#[test]
fn g40_a_job_that_ends_before_its_cancellation_has_ended() {
    for (event, status, end) in [
        (r#"{"device": "j"}"#, "concluded", Ok(JobEnd::Completed)),
        (r#"{"device": "j", "error": "No space left"}"#, "aborting", Err("the job failed: No space left".to_string())),
    ] {
        let (mut rig, mut run) = started(mirror());
        rig.pass(secs(60));
        asks(&mut rig, &mut run, CANCEL);
        rig.job(status);
        rig.happens_with("BLOCK_JOB_COMPLETED", event);
        rig.refuses(2);
        asks(&mut rig, &mut run, "query-jobs");
        rig.returns(3, "[]");
        assert_eq!(on(&mut rig, &mut run).map(|end| end.map_err(|error| error.to_string())), Some(end));
    }
}

/// The storage does not answer, or QEMU does not.
#[test]
fn g40_a_job_that_cannot_be_cancelled_in_time_is_named() {
    assert_eq!(CLEAN_UP_WITHIN, secs(10));
    for is_answered in [false, true] {
        let (mut rig, mut run) = started(mirror());
        rig.pass(secs(60));
        asks(&mut rig, &mut run, CANCEL);
        if is_answered {
            rig.replies(2);
            assert_eq!(on(&mut rig, &mut run), None);
        }
        rig.pass(CLEAN_UP_WITHIN - Duration::from_nanos(1));
        assert_eq!((on(&mut rig, &mut run), rig.asked().len()), (None, 0));
        rig.pass(Duration::from_nanos(1));
        let end = on(&mut rig, &mut run);
        let text = end.as_ref().and_then(|end| end.as_ref().err()).map(ToString::to_string).unwrap_or_default();
        assert!(
            text.starts_with("the deadline passed before the wait found anything; still in QEMU: job j ("),
            "{text}"
        );
        let (job, error, why) = remains(end);
        assert_eq!((&*job, error), ("job j", WaitError::TimedOut.into()));
        let unanswered = CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into();
        assert_eq!(why, if is_answered { WaitError::TimedOut.into() } else { unanswered });
        assert!(run.awaits().is_none(), "the clean-up is bounded");
    }
}

#[test]
fn g40_a_job_whose_cancellation_is_refused_is_named() {
    let (mut rig, mut run) = started(mirror());
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.refuses(2);
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(3, "running", None);
    let (job, error, why) = remains(on(&mut rig, &mut run));
    assert_eq!((&*job, error), ("job j", WaitError::TimedOut.into()));
    assert!(matches!(why, ProcedureError::Command(CommandError::Refused(_))), "{why}");

    // It was ending already.
    let (mut rig, mut run) = started(mirror());
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.refuses(2);
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(3, "aborting", None);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
    rig.job("null");
    assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out())));
}

/// The command that starts the job has no reply in time. QEMU may have executed it, or refused it because another client
/// has a job with this id, which must go on.
#[test]
fn g40_a_job_whose_start_was_not_answered_is_cancelled_only_if_it_is_ours() {
    let unanswered = || Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into()));
    let begin = |is_ours: bool| {
        let (mut rig, mut run) = begun(mirror(), LONG);
        rig.take_sent();
        rig.pass(secs(60));
        asks(&mut rig, &mut run, "query-jobs");
        if is_ours {
            rig.job("created");
            rig.replies(1);
        } else {
            rig.refuses(1);
        }
        (rig, run)
    };
    let (mut rig, mut run) = begin(true);
    rig.lists(2, "running", None);
    asks(&mut rig, &mut run, CANCEL);
    rig.replies(3);
    rig.job("null");
    assert_eq!(on(&mut rig, &mut run), unanswered());

    let (mut rig, mut run) = begin(true);
    rig.returns(2, "[]");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Completed)), "it was short");

    for listed in [true, false] {
        let (mut rig, mut run) = begin(false);
        if listed {
            rig.lists(2, "running", None)
        } else {
            rig.returns(2, "[]")
        }
        assert_eq!((on(&mut rig, &mut run), rig.asked().len()), (unanswered(), 0), "the job of another client stays");
    }

    // The machine had no room for it.
    let mut limits = Limits::default();
    limits.commands = 1;
    let mut rig = Rig::ready(config().limits(limits));
    let other = rig.issue("query-status");
    let mut run = Run::new(mirror(), LONG);
    assert!(matches!(on(&mut rig, &mut run), Some(Err(JobError::Procedure(ProcedureError::Command(_))))));
    rig.vm.disown(other.id());
}

#[test]
fn g40_a_job_that_was_joined_is_left_as_it_is() {
    let (mut rig, mut run) = begun(FollowJob::named("j"), LONG);
    rig.asked();
    rig.lists(1, "running", None);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.pass(secs(60));
    assert_eq!((on(&mut rig, &mut run), rig.asked().len()), (Some(Err(timed_out())), 0));

    let (mut rig, mut run) = begun(FollowJob::named("j"), LONG);
    rig.asked();
    run.disown(&mut rig.vm, rig.now);
    assert_eq!(rig.asked().len(), 0);
}

#[test]
fn g40_a_cancelled_run_cancels_its_job_and_its_clean_up_goes_on() {
    let (mut rig, mut run) = started(mirror());
    run.cancel(&mut rig.vm);
    asks(&mut rig, &mut run, CANCEL);
    run.cancel(&mut rig.vm);
    assert_eq!(on(&mut rig, &mut run), None, "the clean-up is not cancelled");
    rig.replies(2);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.job("null");
    assert_eq!(on(&mut rig, &mut run), Some(Err(ProcedureError::from(WaitError::Cancelled).into())));

    let (mut rig, mut run) = started(mirror());
    run.cancel(&mut rig.vm);
    asks(&mut rig, &mut run, CANCEL);
    rig.pass_exactly(secs(10));
    let (job, error, _) = remains(on(&mut rig, &mut run));
    assert_eq!((&*job, error), ("job j", WaitError::Cancelled.into()));
}

/// A dropped run takes no step; the machine cancels the job, and dismisses it when it is concluded.
#[test]
fn g40_a_dropped_run_cancels_its_job() {
    let (mut rig, mut run) = started(mirror());
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), [CANCEL]);
    rig.job("concluded");
    assert_eq!(rig.asked(), [DISMISS], "the event may come before the reply");
    rig.replies(2);
    rig.refuses(3);
    rig.job("concluded");
    assert_eq!(rig.asked().len(), 0, "it is dismissed once");
    assert_eq!(rig.vm.deadline(), None, "nothing is pending");
    let answers = rig.notices.iter().filter(|notice| matches!(notice, Notice::Answered(_))).count();
    assert_eq!(answers, 1, "the replies to the machine's own commands reach no caller");

    // Before the reply of the command that starts it.
    for is_refused in [false, true] {
        let (mut rig, mut run) = begun(mirror(), LONG);
        rig.asked();
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_eq!(rig.asked().len(), 0);
        if is_refused {
            rig.refuses(1);
            assert_eq!(rig.asked().len(), 0, "a job with this id is of another client");
            rig.job("concluded");
            assert_eq!(rig.asked().len(), 0);
        } else {
            rig.replies(1);
            assert_eq!(rig.asked(), [CANCEL]);
            rig.refuses(2);
            rig.job("concluded");
            assert_eq!(rig.asked().len(), 0, "it has ended by itself, and the next one may be of another client");
        }
        assert_eq!(rig.vm.deadline(), None);
    }

    // The reply has arrived, and the run has not taken it.
    let (mut rig, mut run) = begun(mirror(), LONG);
    rig.asked();
    rig.replies(1);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), [CANCEL]);

    // It waits to be dismissed.
    let (mut rig, mut run) = started(mirror());
    rig.job("concluded");
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(2, "concluded", None);
    asks(&mut rig, &mut run, DISMISS);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), [DISMISS]);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked().len(), 0, "once");
}

/// A run that has not begun, or is over, has nothing to remove; a machine that has ended has no job.
#[test]
fn g40_a_dropped_run_without_a_job_sends_nothing() {
    let mut rig = Rig::ready(config());
    Run::new(mirror(), LONG).disown(&mut rig.vm, rig.now);
    assert_eq!(rig.asked().len(), 0);
    let (mut rig, mut run) = started(mirror());
    rig.job("ready");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Ready)));
    run.disown(&mut rig.vm, rig.now);
    assert_eq!(rig.asked().len(), 0, "it was left so on purpose");
    let (mut rig, mut run) = started(mirror());
    rig.dies(SIGKILL);
    run.disown(&mut rig.vm, rig.now);
    rig.launch();
    rig.negotiate(crate::rig::GREETING);
    rig.job("concluded");
    assert_eq!(rig.asked().len(), 0, "the job was one of the previous run");
}

/// The events of the job are evicted between the start of the job and the first wait for them.
#[test]
fn g40_a_job_is_followed_through_a_storm_of_events() {
    let storm = |rig: &mut Rig| (0..100).for_each(|_| rig.happens("RTC_CHANGE"));
    let stormy = |data: Option<&str>| {
        let mut limits = Limits::default();
        limits.events = 2 << 10;
        let mut rig = Rig::ready(config().limits(limits));
        let mut run = Run::new(mirror(), LONG);
        assert_eq!(on(&mut rig, &mut run), None);
        rig.asked();
        rig.job("running");
        data.into_iter().for_each(|data| rig.happens_with("BLOCK_JOB_COMPLETED", data));
        rig.job("concluded");
        storm(&mut rig);
        rig.replies(1);
        asks(&mut rig, &mut run, "query-jobs");
        (rig, run)
    };
    for (error, end) in [(None, Ok(JobEnd::Completed)), (Some("full"), Err("the job failed: full".to_string()))] {
        let (mut rig, mut run) = stormy(Some(r#"{"device": "j"}"#));
        storm(&mut rig);
        rig.lists(2, "concluded", error);
        asks(&mut rig, &mut run, DISMISS);
        rig.replies(3);
        assert_eq!(on(&mut rig, &mut run).map(|end| end.map_err(|error| error.to_string())), Some(end));
    }
    let (mut rig, mut run) = stormy(None);
    rig.returns(2, "[]");
    assert_eq!(on(&mut rig, &mut run), Some(Err(JobError::Unobserved)), "its success is not asserted");

    // An event that is waited for is found in the storm, since the wait sees each event as it arrives.
    let (mut rig, mut run) = stormy(None);
    rig.lists(2, "running", None);
    assert_eq!((on(&mut rig, &mut run), rig.asked().len()), (None, 0), "the same gap is reported once");
    storm(&mut rig);
    rig.happens_with("BLOCK_JOB_COMPLETED", r#"{"device": "j"}"#);
    rig.job("concluded");
    rig.job("null");
    storm(&mut rig);
    asks(&mut rig, &mut run, "query-jobs");
    rig.returns(3, "[]");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Completed)));
}

/// QEMU cancels its jobs when it quits, and then closes the monitor.
#[test]
fn g40_a_job_that_is_cancelled_by_the_end_of_qemu_is_reported_so() {
    for is_asking in [false, true] {
        let (mut rig, mut run) = started(mirror());
        if is_asking {
            rig.job("concluded");
            asks(&mut rig, &mut run, "query-jobs");
        }
        rig.job("aborting");
        rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
        rig.dies(SIGKILL);
        let mut end = on(&mut rig, &mut run);
        while end.is_none() && run.awaits().is_none() {
            end = on(&mut rig, &mut run);
        }
        assert_eq!(end, Some(Ok(JobEnd::Cancelled)), "{is_asking}");
    }
    let (mut rig, mut run) = started(mirror());
    rig.job("ready");
    let end = on(&mut rig, &mut run);
    assert_eq!(end, Some(Ok(JobEnd::Ready)));
    // Without an event of its end, the end of the machine is the reason, also when a command had no reply.
    let (mut rig, mut run) = started(mirror().complete_when_ready());
    rig.job("ready");
    asks(&mut rig, &mut run, "job-complete,arguments:{id:j}");
    rig.dies(SIGKILL);
    let end = on(&mut rig, &mut run);
    assert!(matches!(end, Some(Err(JobError::Procedure(ProcedureError::Wait(WaitError::Ended(_)))))), "{end:?}");
}

#[test]
fn g40_a_job_on_a_monitor_that_is_lost_is_named() {
    let (mut rig, mut run) = started(mirror());
    rig.closes(qemu_machine_core::Channel::Monitor);
    rig.pass(secs(5));
    let (job, error, why) = remains(on(&mut rig, &mut run));
    assert_eq!((&*job, &error), ("job j", &why));
    assert_eq!(error, WaitError::Disconnected.into());
    assert_eq!(Created::Job("j".into()).to_string(), job);
}

#[test]
fn g40_a_snapshot_that_was_not_loaded_names_the_run_state() {
    let load = |status: &str| {
        let snapshot = json!({"job-id": "j"});
        let (mut rig, mut run) = begun(FollowJob::of(&("snapshot-load", snapshot), "j"), LONG);
        rig.asked();
        rig.replies(1);
        assert_eq!(on(&mut rig, &mut run), None);
        rig.job("concluded");
        asks(&mut rig, &mut run, "query-jobs");
        rig.returns(2, r#"[{"id": "j", "type": "snapshot-load", "status": "concluded", "current-progress": 1, "total-progress": 1, "error": "Error -22"}]"#);
        asks(&mut rig, &mut run, DISMISS);
        rig.replies(3);
        asks(&mut rig, &mut run, "query-status");
        rig.returns(4, &format!(r#"{{"status": "{status}", "running": {}}}"#, status == "running"));
        let Some(Err(JobError::Failed(failure))) = on(&mut rig, &mut run) else { panic!("it failed") };
        failure
    };
    let failure = load("restore-vm");
    assert_eq!((&*failure.reason, failure.run_state.as_deref()), ("Error -22", Some("restore-vm")));
    assert!(failure.to_string().starts_with("Error -22; the guest is left in run state restore-vm"), "{failure}");
    assert_eq!(load("running").to_string(), "Error -22");
}

#[test]
fn g40_a_failed_job_has_what_qemu_printed_meanwhile() {
    let fails = |tails: [&'static str; 2]| {
        let mut tails = tails.into_iter();
        let read = move || tails.next().unwrap_or_default().as_bytes().to_vec();
        let (mut rig, mut run) = started(mirror().log(read));
        rig.happens_with("BLOCK_JOB_COMPLETED", r#"{"device": "j", "error": "Error -5"}"#);
        rig.job("null");
        let Some(Err(JobError::Failed(failure))) = on(&mut rig, &mut run) else { panic!("it failed") };
        failure
    };
    let failure = fails(["old\nE\n", "old\nE\nE\nnew\x1b\n"]);
    assert_eq!(failure.log, "E\nnew\x1b\n", "a line that is printed again is new");
    assert_eq!(failure.to_string(), "Error -5\n  printed:\n    E\n    new\\u{1b}");
    assert_eq!(fails(["0123old\n", "old\nnew\n"]).log, "new\n", "the tail is bounded");
    assert_eq!(fails(["old\n", "only new\n"]).log, "only new\n");
    assert_eq!(fails(["same\n", "same\n"]).to_string(), "Error -5");
}

const FAILED: &str = r#"{"status": "failed"}"#;
const WORDS: &str = "qemu: Failed to load timer\n\nqemu: load of migration failed: Input/output error\n";
const AS_ONE: &str = "qemu: Failed to load timer; qemu: load of migration failed: Input/output error";

/// Begins to wait for a machine to arrive.
fn arriving() -> (Rig, Run<Migrate>) {
    let (mut rig, run) = begun(Migrate::arrival(), LONG);
    rig.log = WORDS.into();
    (rig, run)
}

/// QEMU reports the failure and exits at once, so that the report, or the reply to `query-migrate`, may be lost.
#[test]
fn g40_a_machine_that_does_not_arrive_is_reported_in_the_words_of_qemu() {
    for (is_reported, is_queried) in [(false, false), (true, false), (true, true)] {
        let (mut rig, mut run) = arriving();
        if is_reported {
            rig.happens_with("MIGRATION", FAILED);
        }
        if is_queried {
            assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec!["query-migrate".to_string()]));
        }
        rig.dies(ExitStatus::Code(1));
        let mut end = on(&mut rig, &mut run);
        while end.is_none() && run.awaits().is_none() {
            end = on(&mut rig, &mut run);
        }
        assert_eq!(end, Some(Err(MigrateError::Failed(AS_ONE.into()))), "{is_reported} {is_queried}");
    }
    // A QEMU that prints more than the reason.
    let (mut rig, mut run) = arriving();
    rig.log = (0..9).map(|line| format!("{line}\n")).collect::<String>().into();
    rig.dies(ExitStatus::Code(1));
    assert_eq!(on(&mut rig, &mut run), Some(Err(MigrateError::Failed("4; 5; 6; 7; 8".into()))));
    // QEMU 9.1 can stay, and then has the reason.
    let (mut rig, mut run) = arriving();
    rig.happens_with("MIGRATION", FAILED);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.returns(1, r#"{"status": "failed", "error-desc": "Not a migration stream"}"#);
    assert_eq!(on(&mut rig, &mut run), Some(Err(MigrateError::Failed("Not a migration stream".into()))));
}

#[test]
fn g40_a_destination_that_ends_for_another_reason_is_no_failed_migration() {
    for (part, status) in [(Migrate::arrival(), SIGKILL), (Migrate::to("unix:/m"), ExitStatus::Code(1))] {
        let (mut rig, mut run) = begun(part, LONG);
        rig.log = WORDS.into();
        rig.asked_under().into_iter().for_each(|id| rig.replies(id));
        on(&mut rig, &mut run);
        rig.asked_under().into_iter().for_each(|id| rig.replies(id));
        assert_eq!(on(&mut rig, &mut run), None);
        rig.dies(status);
        let end = on(&mut rig, &mut run);
        assert!(
            matches!(end, Some(Err(MigrateError::Procedure(ProcedureError::Wait(WaitError::Ended(_)))))),
            "{end:?}"
        );
    }
}

#[test]
fn g40_a_migration_whose_events_were_evicted_is_queried() {
    for (info, end) in [
        (r#"{"status": "completed"}"#, Some(Ok(MigrationEnd::Completed))),
        (r#"{"status": "cancelled"}"#, Some(Ok(MigrationEnd::Cancelled))),
        (r#"{"status": "failed", "error-desc": "gone"}"#, Some(Err(MigrateError::Failed("gone".into())))),
        (r#"{"status": "active"}"#, None),
        ("{}", None),
    ] {
        let mut limits = Limits::default();
        limits.events = 2 << 10;
        let mut rig = Rig::ready(config().limits(limits));
        (0..100).for_each(|_| rig.happens("RTC_CHANGE"));
        let mut run = Run::new(Migrate::arrival(), LONG);
        assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec!["query-migrate".to_string()]));
        rig.returns(1, info);
        assert_eq!(on(&mut rig, &mut run), end, "{info}");
        if end.is_none() {
            rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
            assert_eq!(on(&mut rig, &mut run), Some(Ok(MigrationEnd::Completed)));
        }
    }
}

/// Begins to send a machine, up to `migrate`, and to its reply if that is wanted.
fn sending(is_accepted: bool) -> (Rig, Run<Migrate>) {
    let (mut rig, mut run) = begun(Migrate::to("unix:/m"), LONG);
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked().last().expect("it goes on"), "migrate,arguments:{uri:unix:/m}");
    if is_accepted {
        rig.replies(2);
        assert_eq!(on(&mut rig, &mut run), None);
    }
    (rig, run)
}

fn unsent() -> MigrateError {
    ProcedureError::from(WaitError::TimedOut).into()
}

/// Runs a step that sends one command.
fn sends(rig: &mut Rig, run: &mut Run<Migrate>, command: &str) {
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

fn status(status: &str) -> String {
    format!(r#"{{"status": "{status}"}}"#)
}

#[test]
fn g40_a_migration_that_runs_out_of_time_is_cancelled() {
    for (status_now, event, end) in [
        ("active", "cancelled", Err(unsent())),
        ("setup", "cancelled", Err(unsent())),
        ("device", "completed", Ok(MigrationEnd::Completed)),
    ] {
        let (mut rig, mut run) = sending(true);
        rig.pass(secs(60));
        sends(&mut rig, &mut run, "query-migrate");
        rig.returns(3, &status(status_now));
        sends(&mut rig, &mut run, "migrate_cancel");
        rig.replies(4);
        assert_eq!(on(&mut rig, &mut run), None, "not before its end");
        rig.happens_with("MIGRATION", &status(event));
        assert_eq!(on(&mut rig, &mut run), Some(end), "{status_now}");
        assert_eq!(rig.vm.deadline(), None);
    }
}

/// QEMU lists the end of this migration, or that of an earlier one. The events of this one tell which.
#[test]
fn g40_a_migration_that_is_over_when_time_runs_out_is_reported_as_it_was_seen() {
    for (is_seen, end) in [(true, Ok(MigrationEnd::Completed)), (false, Err(()))] {
        let (mut rig, mut run) = sending(false);
        rig.pass(secs(60));
        sends(&mut rig, &mut run, "query-migrate");
        if is_seen {
            rig.happens_with("MIGRATION", &status("completed"));
        }
        rig.refuses(2);
        rig.returns(3, &status("completed"));
        let ended = on(&mut rig, &mut run).or_else(|| on(&mut rig, &mut run)).expect("it is over");
        assert_eq!(ended.map_err(|error| assert!(error.to_string().contains("no reply"), "{error}")), end);
    }
}

#[test]
fn g40_a_migration_that_cannot_be_cancelled_is_named() {
    let named = |run: &mut Run<Migrate>, rig: &mut Rig| match on(rig, run) {
        Some(Err(MigrateError::Procedure(error))) => error.remains()[0].created.clone(),
        other => panic!("{other:?}"),
    };
    // The guest runs on the destination, and would be lost.
    let (mut rig, mut run) = sending(true);
    rig.happens_with("MIGRATION", &status("postcopy-active"));
    assert_eq!(on(&mut rig, &mut run), None);
    rig.pass(secs(60));
    sends(&mut rig, &mut run, "query-migrate");
    rig.returns(3, &status("postcopy-active"));
    assert_eq!(named(&mut run, &mut rig), Created::Migration);
    // QEMU refuses.
    let (mut rig, mut run) = sending(true);
    rig.pass(secs(60));
    sends(&mut rig, &mut run, "query-migrate");
    rig.returns(3, &status("active"));
    sends(&mut rig, &mut run, "migrate_cancel");
    rig.refuses(4);
    assert_eq!(named(&mut run, &mut rig), Created::Migration);
    // QEMU does not answer, at one step or another.
    for is_answered in [false, true] {
        let (mut rig, mut run) = sending(true);
        rig.pass(secs(60));
        sends(&mut rig, &mut run, "query-migrate");
        if is_answered {
            rig.returns(3, &status("cancelling"));
            assert_eq!(on(&mut rig, &mut run), None);
        }
        rig.pass(CLEAN_UP_WITHIN);
        assert_eq!(named(&mut run, &mut rig), Created::Migration);
    }
    // The connection is lost.
    let (mut rig, mut run) = sending(true);
    rig.closes(qemu_machine_core::Channel::Monitor);
    rig.pass(secs(5));
    assert_eq!(named(&mut run, &mut rig), Created::Migration);
    // A destination may listen.
    let (mut rig, mut run) = begun(Migrate::listen("unix:/m"), LONG);
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.pass(secs(60));
    assert_eq!(named(&mut run, &mut rig), Created::IncomingMigration("unix:/m".into()));
}

#[test]
fn g40_a_migration_that_was_refused_is_not_cancelled() {
    let (mut rig, mut run) = sending(false);
    rig.refuses(2);
    assert!(matches!(on(&mut rig, &mut run), Some(Err(MigrateError::Procedure(ProcedureError::Command(_))))));
    assert_eq!(rig.asked(), Vec::<String>::new());
}

#[test]
fn g40_a_migration_whose_run_is_dropped_is_cancelled() {
    let (mut rig, mut run) = sending(true);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), ["migrate_cancel"]);
    // It is cancelled only if it was started.
    for is_accepted in [true, false] {
        let (mut rig, mut run) = sending(false);
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_eq!(rig.asked(), Vec::<String>::new());
        if is_accepted {
            rig.replies(2)
        } else {
            rig.refuses(2)
        }
        rig.serve();
        assert_eq!(rig.asked().len(), usize::from(is_accepted));
    }
    // The guest would be lost.
    let (mut rig, mut run) = sending(true);
    rig.happens_with("MIGRATION", &status("postcopy-active"));
    assert_eq!(on(&mut rig, &mut run), None);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), Vec::<String>::new());
}

#[test]
fn g40_a_device_whose_events_were_evicted_is_looked_for() {
    let present = r#"[{"name": "net", "type": "child<e1000>"}]"#;
    for (device, parent) in
        [("net", "/machine/peripheral"), ("/machine/peripheral-anon/device[0]", "/machine/peripheral-anon")]
    {
        for (is_gone, listed) in [(true, "[]"), (false, present)] {
            let mut limits = Limits::default();
            limits.events = 2 << 10;
            let mut rig = Rig::ready(config().limits(limits));
            let mut run = Run::new(Unplug::device(device), LONG);
            assert!(on(&mut rig, &mut run).is_none());
            rig.asked();
            (0..100).for_each(|_| rig.happens("RTC_CHANGE"));
            rig.replies(1);
            assert!(on(&mut rig, &mut run).is_none());
            if run.awaits().is_none() {
                assert!(on(&mut rig, &mut run).is_none());
            }
            assert_eq!(rig.asked(), [format!("qom-list,arguments:{{path:{parent}}}")]);
            rig.returns(2, &listed.replace("net", device.rsplit('/').next().expect("a name")));
            let end = on(&mut rig, &mut run);
            assert_eq!(end, is_gone.then_some(Ok(())), "{device}");
        }
    }
}

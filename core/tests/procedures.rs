//! Tests of procedures, step by step against a scripted QEMU: jobs, unplugging, migration.

use std::sync::{Arc, Mutex};

use crate::rig::steps::{LONG, begun, mirror, on, started};
use crate::rig::{Rig, SIGKILL, config, secs};
use qemu_machine_core::procedure::{
    self, CloseNode, ExecuteAndWait, FollowJob, JobEnd, JobError, Migrate, MigrateError, MigrationEnd, OpenNode,
    Procedure, ProcedureError, Run, Unplug, UnplugError,
};
use qemu_machine_core::{
    CommandError, Descriptor, FOREVER, Limits, Liveness, Mark, Misuse, Progress, Wait, WaitError, json,
};

#[test]
fn g08_an_event_of_a_command_is_found_before_with_and_after_its_reply() {
    for place in 0..3 {
        let (mut rig, mut run) =
            begun(ExecuteAndWait::new(&"stop", [Wait::event("RESUME"), Wait::event("STOP")]), LONG);
        assert_eq!(rig.asked(), ["stop"]);
        if place == 0 {
            rig.happens("STOP");
            assert!(on(&mut rig, &mut run).is_none(), "not without its reply");
        }
        if place == 1 {
            rig.says(concat!(r#"{"event": "STOP"}"#, "\r\n", r#"{"return": {"n": 1}, "id": 1}"#));
        } else {
            rig.replies(1);
        }
        if place == 2 {
            assert!(on(&mut rig, &mut run).is_none(), "not without its event");
            rig.happens("STOP");
        }
        let (reply, hit) = on(&mut rig, &mut run).expect("both came").expect("well");
        assert_eq!((reply, hit.index), (json!({"n": 1}), 1));
        assert!(on(&mut rig, &mut run).is_none() && run.awaits().is_none(), "a procedure returns once");
    }
}

#[test]
fn an_event_before_the_command_is_not_found() {
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    let mut run = Run::new(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), LONG);
    assert!(on(&mut rig, &mut run).is_none());
    rig.replies(1);
    assert!(on(&mut rig, &mut run).is_none());
}

#[test]
fn a_refusal_a_deadline_and_an_end_are_reported() {
    let (mut rig, mut run) = begun(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), LONG);
    rig.refuses(1);
    let refused = on(&mut rig, &mut run).expect("the procedure is over").unwrap_err();
    assert!(matches!(refused, ProcedureError::Command(CommandError::Refused(_))), "{refused}");

    let (mut rig, mut run) = begun(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), LONG);
    rig.pass(secs(60));
    let late = on(&mut rig, &mut run).expect("the procedure is over").unwrap_err();
    assert_eq!(late, CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into());

    let (mut rig, mut run) = begun(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), LONG);
    rig.pass(secs(59));
    rig.replies(1);
    assert!(on(&mut rig, &mut run).is_none());
    rig.pass_exactly(secs(1));
    assert_eq!(on(&mut rig, &mut run), Some(Err(WaitError::TimedOut.into())), "one deadline bounds it all");

    let (mut rig, mut run) = begun(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), FOREVER);
    rig.replies(1);
    assert!(on(&mut rig, &mut run).is_none());
    rig.dies(SIGKILL);
    assert!(matches!(on(&mut rig, &mut run), Some(Err(ProcedureError::Wait(WaitError::Ended(_))))));

    let mut idle = Rig::new(config());
    let mut run = Run::new(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]), LONG);
    let misuse = on(&mut idle, &mut run).expect("there is no machine").unwrap_err();
    assert_eq!(misuse, CommandError::Misuse(Misuse::NotLaunched).into());
    let (mut rig, mut run) = begun(ExecuteAndWait::new(&"stop", [Wait::text("none", "x")]), LONG);
    rig.replies(1);
    let misuse = on(&mut rig, &mut run).expect("there is no such console").unwrap_err();
    assert!(matches!(misuse, ProcedureError::Wait(WaitError::Misuse(Misuse::UnknownConsole(_)))), "{misuse}");
}

/// A procedure runs once: when it is begun again, it executes nothing.
#[test]
fn a_procedure_that_has_run_is_refused() {
    fn again<P: Procedure>(mut procedure: P) {
        drop(procedure.step(procedure::Input::Begun(Mark::default())));
        let second = procedure.step(procedure::Input::Begun(Mark::default()));
        assert!(matches!(second, procedure::Output::Execute(Err(Misuse::ProcedureReused))));
    }
    again(ExecuteAndWait::new(&"stop", [Wait::event("STOP")]));
    again(FollowJob::named("copy"));
    again(FollowJob::of(&"blockdev-mirror", "copy"));
    again(Migrate::to("unix:/m"));
    again(Migrate::arrival());
    again(Unplug::device("net1"));
    again(OpenNode::new("n", Descriptor::new(17_u32), |_| json!({})));
    let (mut rig, mut run) = begun(OpenNode::new("n", Descriptor::new(17_u32), |_| json!({})), LONG);
    rig.returns(1, "[]");
    assert!(on(&mut rig, &mut run).is_none());
    rig.returns(2, r#"{"fd": 9, "fdset-id": 3}"#);
    assert!(on(&mut rig, &mut run).is_none());
    rig.replies(3);
    again(CloseNode::new(&on(&mut rig, &mut run).expect("it is over").expect("it is opened")));
}

/// A disowned procedure takes no room, and its late reply reaches no other caller.
#[test]
fn a_disowned_procedure_leaves_nothing() {
    let mut limits = Limits::default();
    (limits.commands, limits.waits) = (1, 1);
    let mut rig = Rig::ready(config().limits(limits));
    for answered in [false, true] {
        let mut run = Run::new(Unplug::device("net"), LONG);
        assert!(on(&mut rig, &mut run).is_none());
        let id = rig.asked_under().pop().expect("it asked");
        if answered {
            rig.replies(id);
            assert!(on(&mut rig, &mut run).is_none());
        }
        run.disown(&mut rig.vm, rig.now);
        assert!(run.awaits().is_none() && on(&mut rig, &mut run).is_none());
        rig.replies(id);
    }
    assert_eq!(rig.vm.deadline(), None);
    let mut run = Run::new(Unplug::device("net"), LONG);
    assert!(on(&mut rig, &mut run).is_none() && run.awaits().is_some(), "there is room");
}

#[test]
fn a_device_is_gone_when_qemu_names_its_id_or_its_path() {
    let told = |device: &str, event: &str, data: &str| {
        let (mut rig, mut run) = begun(Unplug::device(device), LONG);
        assert_eq!(rig.asked(), [format!("device_del,arguments:{{id:{device}}}")]);
        rig.happens_with(event, r#"{"device": "other", "path": "/machine/peripheral/other"}"#);
        rig.replies(1);
        assert!(on(&mut rig, &mut run).is_none(), "another device went");
        rig.happens_with(event, data);
        on(&mut rig, &mut run)
    };
    let (id, path) = (r#"{"device": "net"}"#, r#"{"path": "/machine/peripheral/net"}"#);
    for (device, data) in
        [("net", id), ("net", path), ("/machine/peripheral/net", id), ("/machine/peripheral/net", path)]
    {
        assert_eq!(told(device, "DEVICE_DELETED", data), Some(Ok(())), "{device} {data}");
        let refused = told(device, "DEVICE_UNPLUG_GUEST_ERROR", data);
        assert!(matches!(refused, Some(Err(UnplugError::Refused(_)))), "{device} {data}");
    }
    let nameless = "/machine/peripheral-anon/device[0]";
    assert_eq!(told(nameless, "DEVICE_DELETED", &format!(r#"{{"path": "{nameless}"}}"#)), Some(Ok(())));
    let memory = told("net", "MEM_UNPLUG_ERROR", r#"{"device": "net", "msg": "busy"}"#);
    let Some(Err(error)) = memory else { panic!("{memory:?}") };
    assert!(error.to_string().starts_with("the guest refused to release the device: MEM_UNPLUG_ERROR"), "{error}");
}

#[test]
fn a_device_may_be_gone_before_the_reply() {
    let (mut rig, mut run) = begun(Unplug::device("net"), LONG);
    rig.happens_with("DEVICE_DELETED", r#"{"device": "net", "path": "/machine/peripheral/net"}"#);
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(())));
}

/// Several devices may be unplugged at once: the error names the one.
#[test]
fn an_unplug_that_times_out_names_its_device() {
    for replies in [false, true] {
        let (mut rig, mut run) = begun(Unplug::device("net\n"), LONG);
        if replies {
            rig.replies(1);
            assert!(on(&mut rig, &mut run).is_none());
        }
        rig.pass(secs(60));
        let Some(Err(error)) = on(&mut rig, &mut run) else { panic!("the deadline has passed") };
        let why = if replies {
            "the deadline passed before the wait found anything"
        } else {
            "no reply within the deadline, after the command was sent"
        };
        assert_eq!(error.to_string(), format!("the device `net\\n` was not unplugged in time: {why}"));
        let UnplugError::TimedOut { device, .. } = error else { panic!("{error:?}") };
        assert_eq!(device.as_str(), "net\n");
    }
}

#[test]
fn a_job_is_followed_to_its_end() {
    let (mut rig, mut run) = started(mirror().complete_when_ready());
    rig.happens_with("JOB_STATUS_CHANGE", r#"{"id": "other", "status": "concluded"}"#);
    rig.job("ready");
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked(), ["job-complete,arguments:{id:j}"]);
    rig.replies(2);
    for status in ["waiting", "pending"] {
        rig.job(status);
        assert_eq!(on(&mut rig, &mut run), None);
    }
    rig.happens_with("BLOCK_JOB_COMPLETED", r#"{"device": "j"}"#);
    rig.job("concluded");
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked(), ["query-jobs"]);
    rig.lists(3, "concluded", None);
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked(), ["job-dismiss,arguments:{id:j}"]);
    rig.replies(4);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Completed)));
}

/// Block jobs dismiss themselves by default (QEMU, `qapi/block-core.json`, `auto-dismiss`).
#[test]
fn a_job_that_dismissed_itself_still_reports_its_end() {
    for (event, data, end) in [
        ("BLOCK_JOB_COMPLETED", r#"{"device": "j"}"#, Ok(JobEnd::Completed)),
        ("BLOCK_JOB_COMPLETED", r#"{"device": "j", "error": "No space left"}"#, Err("the job failed: No space left")),
        ("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#, Ok(JobEnd::Cancelled)),
        ("OTHER", "{}", Err("the job failed: QEMU aborted it and gave no reason")),
    ] {
        for replied_first in [false, true] {
            let (mut rig, mut run) = begun(mirror(), LONG);
            if replied_first {
                rig.replies(1);
            }
            rig.job("running");
            if !matches!(end, Ok(JobEnd::Completed)) {
                rig.job("aborting");
            }
            rig.happens_with(event, data);
            rig.job("concluded");
            rig.job("null");
            rig.replies(1);
            assert_eq!(on(&mut rig, &mut run), None);
            assert_eq!(rig.asked().last().unwrap(), "query-jobs");
            rig.returns(2, "[]");
            let told = on(&mut rig, &mut run).expect("the procedure is over");
            assert_eq!(told.map_err(|error| error.to_string()), end.map_err(Into::into), "{event}");
        }
    }
}

#[test]
fn a_job_without_completion_or_finalization_is_left_waiting() {
    let (mut rig, mut run) = started(mirror());
    rig.job("ready");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Ready)));
    let (mut rig, mut run) = started(mirror());
    rig.job("pending");
    assert_eq!(on(&mut rig, &mut run), None, "every job passes this state");
    rig.happens_with("BLOCK_JOB_PENDING", r#"{"id": "j", "type": "mirror"}"#);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Pending)));
    let (mut rig, mut run) = started(mirror().finalize_when_pending());
    rig.happens_with("BLOCK_JOB_PENDING", r#"{"id": "j", "type": "mirror"}"#);
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked(), ["job-finalize,arguments:{id:j}"]);
}

#[test]
fn a_job_that_cannot_be_completed_reports_the_reason() {
    let (mut rig, mut run) = started(mirror().complete_when_ready());
    rig.job("ready");
    assert_eq!(on(&mut rig, &mut run), None);
    rig.refuses(2);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.lists(3, "ready", None);
    assert_eq!(on(&mut rig, &mut run), None);
    assert_eq!(rig.asked().last().unwrap(), "job-cancel,arguments:{id:j}", "it is not left behind");
    rig.replies(4);
    rig.job("null");
    let refused = on(&mut rig, &mut run).expect("the procedure is over");
    assert!(
        matches!(refused, Err(JobError::Procedure(ProcedureError::Command(CommandError::Refused(_))))),
        "{refused:?}"
    );
    // Another client cancelled the job at the same moment.
    let (mut rig, mut run) = started(mirror().complete_when_ready());
    rig.job("ready");
    assert_eq!(on(&mut rig, &mut run), None);
    rig.refuses(2);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
    rig.lists(3, "concluded", None);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.replies(4);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(JobEnd::Cancelled)), "the earlier event counts");
}

#[test]
fn a_job_that_another_client_started_can_be_followed() {
    let (mut rig, mut run) = begun(FollowJob::named("j"), LONG);
    assert_eq!(rig.asked(), ["query-jobs"]);
    rig.lists(1, "running", None);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.job("concluded");
    assert_eq!(on(&mut rig, &mut run), None);
    rig.lists(2, "concluded", Some("No space left"));
    assert_eq!(on(&mut rig, &mut run), None);
    rig.refuses(3);
    assert_eq!(
        on(&mut rig, &mut run).and_then(Result::err).map(|error| error.to_string()),
        Some("the job failed: No space left".to_string()),
        "a refused dismissal changes nothing"
    );
    let (mut rig, mut run) = begun(FollowJob::named("k"), LONG);
    rig.lists(1, "running", None);
    assert_eq!(on(&mut rig, &mut run), Some(Err(JobError::Unknown)));
}

#[test]
fn the_progress_of_a_job_is_queried_at_the_given_interval() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = {
        let told = told.clone();
        move |job: &qemu_machine_core::commands::Job| {
            told.lock().unwrap().push((job.status.clone(), job.current_progress, job.total_progress));
        }
    };
    let (mut rig, mut run) = started(mirror().report(secs(2), tell));
    for id in 2..5 {
        rig.pass(secs(1));
        assert_eq!((on(&mut rig, &mut run), rig.asked().len()), (None, 0));
        rig.pass(secs(1));
        assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec!["query-jobs".to_string()]));
        rig.lists(id, "running", None);
        assert_eq!(on(&mut rig, &mut run), None);
    }
    assert_eq!(*told.lock().unwrap(), vec![("running".to_string(), 3, 7); 3]);
    rig.pass(secs(54));
    assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec!["query-jobs".to_string()]));
    rig.lists(5, "running", None);
    assert_eq!((on(&mut rig, &mut run), told.lock().unwrap().len()), (None, 4));
    rig.pass(secs(1));
    assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec!["job-cancel,arguments:{id:j}".to_string()]));
}

/// The evicted events include those of the job.
#[test]
fn a_job_whose_events_were_evicted_is_queried() {
    let mut limits = Limits::default();
    limits.events = 300;
    let mut rig = Rig::ready(config().limits(limits));
    let mut run = Run::new(mirror(), LONG);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.happens_with("BLOCK_JOB_COMPLETED", r#"{"device": "j"}"#);
    rig.job("concluded");
    for _ in 0..20 {
        rig.happens("RTC_CHANGE");
    }
    rig.job("null");
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut run), None);
    assert!(rig.asked().contains(&"query-jobs".to_string()));
    rig.returns(2, "[]");
    assert_eq!(on(&mut rig, &mut run), Some(Err(JobError::Unobserved)), "whether it succeeded is not known");
}

#[test]
fn a_migration_is_followed_to_its_end() {
    let sent = |status: &str| {
        let (mut rig, mut run) = begun(Migrate::to("unix:/m"), LONG);
        assert_eq!(rig.asked(), ["migrate-set-capabilities,arguments:{capabilities:[{capability:events,state:true}]}"]);
        rig.replies(1);
        assert_eq!(on(&mut rig, &mut run), None);
        assert_eq!(rig.asked(), ["migrate,arguments:{uri:unix:/m}"]);
        rig.happens_with("MIGRATION", r#"{"status": "active"}"#);
        rig.replies(2);
        assert_eq!(on(&mut rig, &mut run), None);
        rig.happens_with("MIGRATION", &format!(r#"{{"status": "{status}"}}"#));
        let end = on(&mut rig, &mut run);
        (rig, run, end)
    };
    assert_eq!(sent("completed").2, Some(Ok(MigrationEnd::Completed)));
    assert_eq!(sent("cancelled").2, Some(Ok(MigrationEnd::Cancelled)));
    for (info, why) in [(r#"{"error-desc": "gone"}"#, "gone"), ("{}", "QEMU gave no reason")] {
        let (mut rig, mut run, end) = sent("failed");
        assert_eq!((end, rig.asked()), (None, vec!["query-migrate".to_string()]));
        rig.returns(3, info);
        assert_eq!(on(&mut rig, &mut run), Some(Err(MigrateError::Failed(why.into()))));
    }
}

#[test]
fn a_machine_is_received_in_two_steps() {
    let mut rig = Rig::ready(config());
    let mut listen = Run::new(Migrate::listen("unix:/m"), LONG);
    assert_eq!(on(&mut rig, &mut listen), None);
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut listen), None);
    assert_eq!(rig.asked().last().unwrap(), "migrate-incoming,arguments:{uri:unix:/m}");
    rig.replies(2);
    assert_eq!(on(&mut rig, &mut listen), Some(Ok(MigrationEnd::Listening)));
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    let mut arrival = Run::new(Migrate::arrival(), LONG);
    assert_eq!(on(&mut rig, &mut arrival), Some(Ok(MigrationEnd::Completed)), "the event came before the procedure");
}

//! Tests of the procedures that copy disks, step by step against a scripted QEMU.

use std::sync::{Arc, Mutex};

use crate::rig::steps::{LONG, asks, assert_sent, begun, concludes, on, started};
use crate::rig::{Rig, secs};
use qemu_machine_core::procedure::{
    Backup, Copied, CopyTarget, Created, FollowJob, JobError, JobProgress, Mirror, ProcedureError, Run,
};
use qemu_machine_core::{CommandError, Liveness, Progress, json};

const DELETE: &str = "blockdev-del,arguments:{node-name:copy}";
const CANCEL: &str = "job-cancel,arguments:{id:j}";
const DISMISS: &str = "job-dismiss,arguments:{id:j}";
const DISK: &str = r#"[{"node-name": "disk", "image": {"virtual-size": 4096, "filename": "d"}}]"#;

fn to_file() -> Backup {
    Backup::of("disk", CopyTarget::file("copy", "/c", "qcow2")).job_id("j")
}

fn to_image() -> CopyTarget {
    CopyTarget::image("copy", json!({"driver": "null-co"}))
}

/// Begins a copy to an image, up to `blockdev-add`.
fn opening() -> (Rig, Run<Backup>) {
    let (mut rig, mut run) = begun(Backup::of("disk", to_image()).job_id("j"), LONG);
    assert_sent(&mut rig, &["query-named-block-nodes,arguments:{flat:true}"]);
    rig.returns(1, DISK);
    asks(&mut rig, &mut run, "blockdev-add,arguments:{driver:null-co,node-name:copy}");
    (rig, run)
}

/// Begins a copy to an image, up to the reply to `blockdev-backup` if that is wanted.
fn copying(is_started: bool) -> (Rig, Run<Backup>) {
    let (mut rig, mut run) = opening();
    rig.replies(2);
    asks(&mut rig, &mut run, "blockdev-backup");
    if is_started {
        rig.job("created");
        rig.job("running");
        rig.replies(3);
        assert!(on(&mut rig, &mut run).is_none());
    }
    (rig, run)
}

fn timed_out() -> ProcedureError {
    CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into()
}

#[test]
fn a_backup_creates_opens_fills_and_closes_its_target() {
    let (mut rig, mut run) = begun(to_file(), LONG);
    assert_sent(&mut rig, &["query-named-block-nodes"]);
    rig.returns(1, DISK);
    let file = "blockdev-create,arguments:{job-id:j-file,options:{driver:file,filename:/c,size:0}}";
    asks(&mut rig, &mut run, file);
    rig.replies(2);
    concludes(&mut rig, &mut run, "j-file");
    let format = "blockdev-create,arguments:{job-id:j-format,options:\
                  {driver:qcow2,file:{driver:file,filename:/c},size:4096}}";
    let id = asks(&mut rig, &mut run, format);
    rig.replies(id);
    concludes(&mut rig, &mut run, "j-format");
    let id = asks(&mut rig, &mut run, "blockdev-add");
    rig.replies(id);
    let start = "blockdev-backup,arguments:{auto-dismiss:false,device:disk,job-id:j,sync:full,target:copy}";
    let id = asks(&mut rig, &mut run, start);
    rig.replies(id);
    concludes(&mut rig, &mut run, "j");
    let id = asks(&mut rig, &mut run, DELETE);
    rig.replies(id);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(Copied::default())));
}

#[test]
fn a_raw_file_needs_no_format_and_an_id_has_only_letters_that_qemu_accepts() {
    let (mut rig, mut run) = begun(Backup::of("#disk 1", CopyTarget::file("copy", "/c", "raw")), LONG);
    rig.asked();
    rig.returns(1, &DISK.replace("\"disk\"", "\"#disk 1\""));
    let file = "blockdev-create,arguments:{job-id:backup-_disk_1-file,options:{driver:file,filename:/c,size:4096}}";
    asks(&mut rig, &mut run, file);
    rig.replies(2);
    concludes(&mut rig, &mut run, "backup-_disk_1-file");
    let id = asks(&mut rig, &mut run, "blockdev-add");
    rig.replies(id);
    asks(&mut rig, &mut run, "blockdev-backup");
}

#[test]
fn the_arguments_of_the_caller_are_added_and_those_of_the_procedure_stay() {
    let sent = |backup: Backup| {
        let (mut rig, _) = begun(backup, LONG);
        rig.asked().pop().unwrap_or_default()
    };
    let backup = || Backup::of("disk", CopyTarget::node("n")).job_id("j");
    let text = sent(backup().incremental("b").arguments(json!({"speed": 7, "device": "other"})));
    let all = "{auto-dismiss:false,bitmap:b,device:disk,job-id:j,speed:7,sync:incremental,target:n}";
    assert_eq!(text, format!("blockdev-backup,arguments:{all}"));
    assert!(sent(backup().top()).contains("sync:top"));
    let (mut rig, mut run) = (Rig::ready(crate::rig::config()), Run::new(backup().arguments(json!([7])), LONG));
    let end = on(&mut rig, &mut run);
    assert!(matches!(end, Some(Err(JobError::Procedure(ProcedureError::Command(CommandError::Misuse(_)))))), "{end:?}");
}

#[test]
fn a_mirror_ends_by_a_cancellation_or_a_pivot() {
    let start = |mirror: Mirror| {
        let (mut rig, mut run) = begun(mirror.job_id("j"), LONG);
        rig.returns(1, DISK);
        assert!(on(&mut rig, &mut run).is_none());
        rig.replies(2);
        assert!(on(&mut rig, &mut run).is_none());
        rig.replies(3);
        rig.asked();
        rig.job("ready");
        (rig, run)
    };
    let (mut rig, mut run) = start(Mirror::of("disk", to_image()));
    asks(&mut rig, &mut run, "block-job-cancel,arguments:{device:j}");
    rig.replies(4);
    concludes(&mut rig, &mut run, "j");
    let id = asks(&mut rig, &mut run, DELETE);
    rig.replies(id);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(Copied::default())));

    let (mut rig, mut run) = start(Mirror::of("disk", to_image()).pivot());
    asks(&mut rig, &mut run, "job-complete");
    rig.replies(4);
    concludes(&mut rig, &mut run, "j");
    let copied = on(&mut rig, &mut run).expect("it is over").expect("it is complete");
    assert_eq!((copied.node.as_deref(), copied.remains.len()), (Some("copy"), 0), "the guest uses it");
}

#[test]
fn g40_a_node_that_cannot_be_closed_is_named() {
    for error in [None, Some("No space left")] {
        let (mut rig, mut run) = copying(true);
        rig.happens_with(
            "BLOCK_JOB_COMPLETED",
            &error
                .map_or(r#"{"device": "j"}"#.to_string(), |error| format!(r#"{{"device": "j", "error": "{error}"}}"#)),
        );
        concludes(&mut rig, &mut run, "j");
        let id = asks(&mut rig, &mut run, DELETE);
        rig.refuses(id);
        let end = on(&mut rig, &mut run).expect("it is over");
        let remains = match &end {
            Ok(copied) => &copied.remains[..],
            Err(error) => error.remains(),
        };
        assert_eq!(remains.iter().map(|one| &one.created).collect::<Vec<_>>(), [&Created::Node("copy".into())]);
        let text = end.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(text.starts_with("the job failed: No space left; still in QEMU: node copy ("), error.is_some());
    }
}

/// The deadline passes before the reply to `blockdev-add`, so the node may exist, or be one of another client.
#[test]
fn g40_a_target_that_was_opened_too_late_is_closed() {
    let both = r#"[{"node-name": "disk"}, {"node-name": "copy"}]"#;
    for (before, after, closes) in [(DISK, both, true), (both, both, false), (DISK, DISK, false)] {
        let (mut rig, mut run) = begun(Backup::of("disk", to_image()).job_id("j"), LONG);
        rig.asked();
        rig.returns(1, before);
        asks(&mut rig, &mut run, "blockdev-add");
        rig.pass(secs(60));
        asks(&mut rig, &mut run, "query-named-block-nodes");
        rig.returns(3, after);
        if closes {
            asks(&mut rig, &mut run, DELETE);
            rig.replies(4);
        }
        assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out().into())));
        assert_sent(&mut rig, &[]);
    }
    // QEMU answers nothing any more.
    let (mut rig, mut run) = opening();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, "query-named-block-nodes");
    rig.pass(secs(10));
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
    assert_eq!(error.remains()[0].created, Created::Node("copy".into()));
}

#[test]
fn g40_a_copy_that_runs_out_of_time_cancels_its_job_and_closes_its_target() {
    let (mut rig, mut run) = copying(true);
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.replies(4);
    rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
    assert!(on(&mut rig, &mut run).is_none());
    concludes(&mut rig, &mut run, "j");
    let id = asks(&mut rig, &mut run, DELETE);
    rig.replies(id);
    let end = on(&mut rig, &mut run);
    assert!(matches!(&end, Some(Err(error @ JobError::Procedure(_))) if error.remains().is_empty()), "{end:?}");
    // Neither the job nor the node can be removed in time.
    let (mut rig, mut run) = copying(true);
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CANCEL);
    rig.pass(secs(10));
    let mut end = on(&mut rig, &mut run);
    while end.is_none() && run.awaits().is_some() {
        rig.pass(secs(0));
        end = on(&mut rig, &mut run);
    }
    let error = end.expect("it is over").expect_err("it fails");
    let created: Vec<_> = error.remains().iter().map(|one| one.created.clone()).collect();
    assert_eq!(created, [Created::Job("j".into()), Created::Node("copy".into())]);
}

#[test]
fn g40_a_copy_of_a_machine_that_ends_leaves_nothing() {
    let (mut rig, mut run) = copying(true);
    rig.dies(crate::rig::SIGKILL);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
    assert_eq!(error.remains(), []);
}

#[test]
fn a_copy_that_another_client_cancels_is_an_error() {
    let (mut rig, mut run) = copying(true);
    rig.happens_with("BLOCK_JOB_CANCELLED", r#"{"device": "j"}"#);
    concludes(&mut rig, &mut run, "j");
    let id = asks(&mut rig, &mut run, DELETE);
    rig.replies(id);
    assert_eq!(on(&mut rig, &mut run), Some(Err(JobError::Cancelled)));
}

#[test]
fn g40_a_dropped_copy_removes_its_job_and_then_its_node() {
    // While the job runs.
    let (mut rig, mut run) = copying(true);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[CANCEL, DISMISS, DELETE]);
    rig.replies(4);
    rig.refuses(5);
    rig.refuses(6);
    assert_sent(&mut rig, &[]);
    rig.job("concluded");
    assert_sent(&mut rig, &[DISMISS]);
    rig.replies(7);
    assert_sent(&mut rig, &[]);
    rig.job("null");
    assert_sent(&mut rig, &[DELETE]);
    rig.replies(8);
    // The job had concluded before.
    let (mut rig, mut run) = copying(true);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[CANCEL, DISMISS, DELETE]);
    rig.refuses(4);
    rig.job("null");
    assert_sent(&mut rig, &[DELETE]);
    // Before the reply of the command that starts it.
    for is_started in [true, false] {
        let (mut rig, mut run) = copying(false);
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_sent(&mut rig, &[DELETE]);
        if is_started {
            rig.replies(3);
            assert_sent(&mut rig, &[CANCEL, DISMISS]);
        } else {
            rig.refuses(3);
            assert_sent(&mut rig, &[]);
        }
    }
    // Before the reply of the command that opens the target.
    for is_opened in [true, false] {
        let (mut rig, mut run) = opening();
        run.disown(&mut rig.vm, rig.now);
        if is_opened {
            rig.replies(2)
        } else {
            rig.refuses(2)
        }
        assert_sent(&mut rig, if is_opened { &[DELETE] } else { &[] });
    }
    // While the target is created.
    let (mut rig, mut run) = begun(to_file(), LONG);
    rig.asked();
    rig.returns(1, DISK);
    asks(&mut rig, &mut run, "blockdev-create");
    rig.replies(2);
    assert!(on(&mut rig, &mut run).is_none());
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &["job-cancel,arguments:{id:j-file}", "job-dismiss,arguments:{id:j-file}"]);
}

#[test]
fn a_target_of_a_disk_that_does_not_exist_is_not_created() {
    let (mut rig, mut run) = begun(to_file(), LONG);
    rig.asked();
    rig.returns(1, r#"[{"node-name": "other", "image": {"virtual-size": 4096}}, {"node-name": "disk"}]"#);
    assert_eq!(on(&mut rig, &mut run), Some(Err(JobError::UnknownNode("disk".into()))));
    assert_sent(&mut rig, &[]);
}

#[test]
fn the_rate_is_measured_by_the_clock_of_the_driver() {
    let reports = Arc::new(Mutex::new(Vec::<JobProgress>::new()));
    let into = reports.clone();
    let follow = FollowJob::of(&("blockdev-mirror", json!({"job-id": "j"})), "j");
    let (mut rig, mut run) = started(follow.progress(secs(2), move |progress| into.lock().unwrap().push(progress)));
    for (id, done) in [(2, 100), (3, 300)] {
        rig.pass(secs(2));
        asks(&mut rig, &mut run, "query-jobs");
        // QEMU takes its time for the reply.
        rig.pass(secs(3));
        let numbers = format!(r#""current-progress": {done}, "total-progress": 1000"#);
        rig.returns(id, &format!(r#"[{{"id": "j", "type": "mirror", "status": "running", {numbers}}}]"#));
        assert!(on(&mut rig, &mut run).is_none());
    }
    let [first, second] = reports.lock().unwrap()[..] else { panic!("two reports") };
    assert_eq!((first.done, first.total, first.rate, first.left), (100, 1000, None, None));
    assert_eq!((second.done, second.rate, second.left), (300, Some(40), Some(secs(700) / 40)));
}

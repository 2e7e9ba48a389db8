//! Tests of the procedures for snapshots, inside of images and as overlays, step by step against a scripted QEMU.

use crate::rig::steps::{LONG, asks, assert_sent, begun, concludes, on};
use crate::rig::{Rig, secs};
use qemu_machine_core::procedure::{CopyTarget, Created, ExternalSnapshot, JobError, ProcedureError, Run, Snapshot};
use qemu_machine_core::{CommandError, Liveness, Progress, json};

const CANCEL: &str = "job-cancel,arguments:{id:j}";
const DISMISS: &str = "job-dismiss,arguments:{id:j}";
const DISK: &str = r#"[{"node-name": "disk", "image": {"virtual-size": 4096, "filename": "d"}}]"#;

fn timed_out() -> ProcedureError {
    CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into()
}

const SAVED: &str = r#"[{"node-name": "disk", "image": {"virtual-size": 1, "snapshots": [{"name": "t"}]}}]"#;

/// Begins to save a snapshot, up to the reply to `snapshot-save`.
fn saving(before: &str) -> (Rig, Run<Snapshot>) {
    let (mut rig, mut run) = begun(Snapshot::save("t", ["disk", "data"]).job_id("j"), LONG);
    assert_sent(&mut rig, &["query-named-block-nodes"]);
    rig.returns(1, before);
    asks(&mut rig, &mut run, "snapshot-save,arguments:{devices:[disk,data],job-id:j,tag:t,vmstate:disk}");
    rig.job("created");
    rig.replies(2);
    assert!(on(&mut rig, &mut run).is_none());
    (rig, run)
}

/// The job concludes with this error.
fn fails(rig: &mut Rig, run: &mut Run<Snapshot>) {
    rig.job("concluded");
    let id = asks(rig, run, "query-jobs");
    rig.lists(id, "concluded", Some("Operation canceled"));
    let id = asks(rig, run, DISMISS);
    rig.replies(id);
}

#[test]
fn g40_a_snapshot_that_was_saved_in_spite_of_its_cancellation_is_deleted() {
    for (before, after, deletes) in [(DISK, SAVED, true), (DISK, DISK, false), (SAVED, SAVED, false)] {
        let (mut rig, mut run) = saving(before);
        fails(&mut rig, &mut run);
        if before == DISK {
            let id = asks(&mut rig, &mut run, "query-named-block-nodes");
            rig.returns(id, after);
        }
        if deletes {
            let delete = "snapshot-delete,arguments:{devices:[disk,data],job-id:j-undo,tag:t}";
            let id = asks(&mut rig, &mut run, delete);
            rig.replies(id);
            concludes(&mut rig, &mut run, "j-undo");
        }
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
        assert!(matches!(&error, JobError::Failed(why) if why.reason == "Operation canceled"), "{error}");
    }
}

#[test]
fn g40_a_snapshot_that_cannot_be_deleted_is_named() {
    for is_answered in [true, false] {
        let (mut rig, mut run) = saving(DISK);
        fails(&mut rig, &mut run);
        let id = asks(&mut rig, &mut run, "query-named-block-nodes");
        if is_answered {
            rig.returns(id, SAVED);
            let id = asks(&mut rig, &mut run, "snapshot-delete");
            rig.refuses(id);
        } else {
            rig.refuses(id);
        }
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
        assert_eq!(error.remains()[0].created, Created::Snapshot("t".into()));
        assert!(error.to_string().contains("Operation canceled; still in QEMU: snapshot t ("), "{error}");
    }
}

#[test]
fn g40_a_snapshot_whose_run_is_dropped_is_deleted_after_its_job() {
    let (mut rig, mut run) = saving(DISK);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[CANCEL, DISMISS]);
    // QEMU answers when it is done, and the job has concluded by then.
    rig.job("concluded");
    assert_sent(&mut rig, &[DISMISS]);
    rig.refuses(3);
    rig.job("null");
    rig.replies(4);
    let delete = "snapshot-delete,arguments:{devices:[disk,data],job-id:j-undo,tag:t}";
    let asked = rig.asked();
    assert!(asked.iter().all(|one| one == delete) && !asked.is_empty(), "{asked:?}");
    rig.replies(6);
    rig.happens_with("JOB_STATUS_CHANGE", r#"{"id": "j-undo", "status": "concluded"}"#);
    assert!(rig.asked().contains(&"job-dismiss,arguments:{id:j-undo}".to_string()));
    // A snapshot that existed before stays.
    let (mut rig, mut run) = saving(SAVED);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[CANCEL, DISMISS]);
    rig.job("concluded");
    rig.asked();
    rig.job("null");
    assert_sent(&mut rig, &[]);
}

const DISKS: &str = r#"[
    {"node-name": "disk", "drv": "qcow2", "image": {"virtual-size": 4096, "filename": "/d"}},
    {"node-name": "data", "drv": "raw", "image": {"virtual-size": 8192, "filename": "/e"}}
]"#;

/// Begins to put an image over each of two disks, up to the second `blockdev-add`.
fn overlaying() -> (Rig, Run<ExternalSnapshot>) {
    let image = |name: &str| CopyTarget::image(name, json!({"driver": "qcow2", "backing": null}));
    let snapshot = ExternalSnapshot::of("disk", image("one")).and("data", image("two"));
    let (mut rig, mut run) = begun(snapshot, LONG);
    assert_sent(&mut rig, &["query-named-block-nodes"]);
    rig.returns(1, DISKS);
    asks(&mut rig, &mut run, "blockdev-add,arguments:{backing:null,driver:qcow2,node-name:one}");
    rig.replies(2);
    asks(&mut rig, &mut run, "blockdev-add,arguments:{backing:null,driver:qcow2,node-name:two}");
    (rig, run)
}

const DELETE_ONE: &str = "blockdev-del,arguments:{node-name:one}";
const DELETE_TWO: &str = "blockdev-del,arguments:{node-name:two}";

#[test]
fn an_external_snapshot_is_one_transaction() {
    let (mut rig, mut run) = overlaying();
    rig.replies(3);
    asks(
        &mut rig,
        &mut run,
        "transaction,arguments:{actions:[{data:{node:disk,overlay:one},type:blockdev-snapshot},{data:{node:data,overlay:two},type:blockdev-snapshot}]}",
    );
    rig.replies(4);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(())));
    // An overlay that is created names the disk.
    let (mut rig, mut run) = begun(ExternalSnapshot::of("data", CopyTarget::file("o", "/o", "qcow2")), LONG);
    rig.asked();
    rig.returns(1, DISKS);
    asks(&mut rig, &mut run, "blockdev-create");
    rig.replies(2);
    concludes(&mut rig, &mut run, "external-snapshot-file");
    let options = "backing-file:/e,backing-fmt:raw,driver:qcow2,file:{driver:file,filename:/o},size:8192";
    let job = "job-id:external-snapshot-format";
    let id = asks(&mut rig, &mut run, &format!("blockdev-create,arguments:{{{job},options:{{{options}}}}}"));
    rig.replies(id);
    concludes(&mut rig, &mut run, "external-snapshot-format");
    let file = "file:{driver:file,filename:/o}";
    let id =
        asks(&mut rig, &mut run, &format!("blockdev-add,arguments:{{backing:null,driver:qcow2,{file},node-name:o}}"));
    rig.replies(id);
    asks(&mut rig, &mut run, "transaction");
}

#[test]
fn g40_the_overlays_of_a_snapshot_that_fails_are_closed() {
    // The second one is not opened.
    let (mut rig, mut run) = overlaying();
    rig.refuses(3);
    asks(&mut rig, &mut run, DELETE_ONE);
    rig.replies(4);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
    assert_eq!((error.remains(), rig.asked().len()), (&[][..], 0));
    // It is opened too late.
    let (mut rig, mut run) = overlaying();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, "query-named-block-nodes");
    rig.returns(4, r#"[{"node-name": "two"}]"#);
    asks(&mut rig, &mut run, DELETE_ONE);
    rig.replies(5);
    asks(&mut rig, &mut run, DELETE_TWO);
    rig.replies(6);
    assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out().into())));
    // The transaction has no reply, and has taken effect.
    let (mut rig, mut run) = overlaying();
    rig.replies(3);
    asks(&mut rig, &mut run, "transaction");
    rig.pass(secs(60));
    asks(&mut rig, &mut run, DELETE_ONE);
    rig.refuses(5);
    asks(&mut rig, &mut run, DELETE_TWO);
    rig.replies(6);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it fails");
    let created: Vec<_> = error.remains().iter().map(|one| one.created.clone()).collect();
    assert_eq!(created, [Created::Node("one".into())]);
}

#[test]
fn g40_the_overlays_of_a_snapshot_that_is_dropped_are_closed() {
    for is_opened in [true, false] {
        let (mut rig, mut run) = overlaying();
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_sent(&mut rig, &[DELETE_ONE]);
        if is_opened {
            rig.replies(3)
        } else {
            rig.refuses(3)
        }
        assert_sent(&mut rig, if is_opened { &[DELETE_TWO] } else { &[] });
    }
    let (mut rig, mut run) = overlaying();
    rig.refuses(3);
    asks(&mut rig, &mut run, DELETE_ONE);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[]);
}

//! Stories of procedures on a real QEMU: jobs, unplugging a device, migration.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qemu_machine_core::procedure::{
    ExecuteAndWait, FollowJob, JobEnd, JobError, Migrate, MigrateError, MigrationEnd, ProcedureError, Unplug,
    UnplugError,
};
use qemu_machine_core::{CommandError, Config, Deadline, Found, Shutdown, Value, Wait, WaitError, json};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// A machine with nothing in it.
fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-accel", "tcg"])
}

/// A machine with a processor, which stays paused.
fn paused() -> Config {
    Config::new(qemu()).args(["-machine", "pc", "-nodefaults", "-accel", "tcg", "-m", "16", "-S"])
}

fn g08_a_command_and_its_event_are_one_procedure<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    for (command, event) in [("stop", "STOP"), ("cont", "RESUME")] {
        let (reply, hit) = machine
            .run(ExecuteAndWait::new(&command, [Wait::event(event)]), LONG)
            .expect("QEMU replies and the event comes");
        let Found::Event(found) = hit.found else { panic!("{:?}", hit.found) };
        assert_eq!((reply, found.name()), (json!({}), event));
    }
    let refused = machine
        .run(ExecuteAndWait::new(&"no-such-command", [Wait::any_event()]), LONG)
        .expect_err("the command does not exist");
    assert!(matches!(refused, ProcedureError::Command(CommandError::Refused(_))), "{refused}");
    let short = Duration::from_millis(50).into();
    let never = machine
        .run(ExecuteAndWait::new(&"cont", [Wait::event("RESUME")]), short)
        .expect_err("the machine runs already");
    assert!(matches!(never, ProcedureError::Wait(WaitError::TimedOut) | ProcedureError::Command(_)), "{never}");
    machine.execute("query-status", LONG).expect("the monitor stays usable");
}

/// A disk of a megabyte, and room for its copy.
fn disks(scratch: &Scratch) -> [Value; 2] {
    let content: Vec<u8> = (0..1 << 20).map(|byte: u32| ((byte * 7) >> 4) as u8).collect();
    fs::write(scratch.path().join("disk"), content).expect("there is room");
    fs::write(scratch.path().join("copy"), vec![0; 1 << 20]).expect("there is room");
    ["disk", "copy"].map(|name| {
        json!({"driver": "file", "node-name": name, "filename": scratch.path().join(name).to_str(), "read-only": false})
    })
}

fn with_disks<H: Hosted>(scratch: &Scratch) -> H {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    for disk in disks(scratch) {
        machine.execute_with("blockdev-add", disk).expect("the node is added");
    }
    machine
}

fn same(scratch: &Scratch) -> bool {
    let read = |name| fs::read(scratch.path().join(name)).expect("the file is readable");
    read("disk") == read("copy")
}

fn a_disk_is_mirrored<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = with_disks::<H>(&scratch);
    let mirror = json!({"job-id": "copy", "device": "disk", "target": "copy", "sync": "full", "speed": 4 << 20});
    let reports = Arc::new(Mutex::new(Vec::new()));
    let report = {
        let reports = reports.clone();
        move |job: &qemu_machine_core::commands::Job| reports.lock().unwrap().push(job.clone())
    };
    let every = Duration::from_millis(20);
    let copy = FollowJob::of(&("blockdev-mirror", mirror), "copy").complete_when_ready().report(every, report);
    assert_eq!(machine.run(copy, LONG), Ok(JobEnd::Completed));
    let reports = reports.lock().unwrap();
    assert!(reports.iter().all(|job| (job.id.as_str(), job.kind.as_str()) == ("copy", "mirror")), "{reports:?}");
    assert_eq!(machine.execute("query-jobs", LONG), Ok(json!([])), "the job is dismissed");
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert!(same(&scratch));
}

fn a_mirror_is_left_ready_and_completed_by_another_procedure<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = with_disks::<H>(&scratch);
    let mirror = json!({"job-id": "copy", "device": "disk", "target": "copy", "sync": "full", "auto-dismiss": false});
    assert_eq!(machine.run(FollowJob::of(&("blockdev-mirror", mirror), "copy"), LONG), Ok(JobEnd::Ready));
    let other = FollowJob::named("copy").complete_when_ready();
    assert_eq!(machine.run(other, LONG), Ok(JobEnd::Completed));
    assert_eq!(machine.run(FollowJob::named("copy"), LONG), Err(JobError::Unknown), "the job is dismissed");
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert!(same(&scratch));
}

fn a_backup_waits_to_be_finalized<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = with_disks::<H>(&scratch);
    let backup = json!({"job-id": "copy", "device": "disk", "target": "copy", "sync": "full", "auto-finalize": false});
    assert_eq!(machine.run(FollowJob::of(&("blockdev-backup", backup), "copy"), LONG), Ok(JobEnd::Pending));
    let finalize = ExecuteAndWait::new(&("job-finalize", json!({"id": "copy"})), [Wait::event("BLOCK_JOB_COMPLETED")]);
    machine.run(finalize, LONG).expect("the job ends");
    let backup = json!({"job-id": "again", "device": "disk", "target": "copy", "sync": "full", "auto-finalize": false});
    let again = FollowJob::of(&("blockdev-backup", backup), "again").finalize_when_pending();
    assert_eq!(machine.run(again, LONG), Ok(JobEnd::Completed));
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert!(same(&scratch));
}

fn a_job_that_fails_reports_the_reason<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = with_disks::<H>(&scratch);
    // This is no block job: it stays until it is dismissed, and its error is only in the reply to `query-jobs`.
    let nowhere = json!({"driver": "file", "filename": "/nowhere/at/all", "size": 512});
    let create = FollowJob::of(&("blockdev-create", json!({"job-id": "new", "options": nowhere})), "new");
    let failed = machine.run(create, LONG);
    assert!(matches!(&failed, Err(JobError::Failed(why)) if why.reason.contains("/nowhere/at/all")), "{failed:?}");
    assert_eq!(machine.execute("query-jobs", LONG), Ok(json!([])), "the job is dismissed");
    // This is a block job, which dismisses itself: its error is only in an event.
    let full = json!({
        "driver": "blkdebug", "node-name": "full", "image": {"driver": "null-co", "size": 1 << 20},
        "inject-error": [{"event": "none", "iotype": "write", "errno": 28}],
    });
    machine.execute_with("blockdev-add", full).expect("the node is added");
    let mirror = json!({"job-id": "copy", "device": "disk", "target": "full", "sync": "full"});
    let failed = machine.run(FollowJob::of(&("blockdev-mirror", mirror), "copy").complete_when_ready(), LONG);
    assert!(matches!(&failed, Err(JobError::Failed(why)) if why.reason.contains("No space left")), "{failed:?}");
    let refused = machine.run(FollowJob::of(&("blockdev-mirror", json!({"job-id": "x"})), "x"), LONG);
    assert!(
        matches!(refused, Err(JobError::Procedure(ProcedureError::Command(CommandError::Refused(_))))),
        "{refused:?}"
    );
}

fn a_job_that_is_cancelled_meanwhile_is_reported_as_cancelled<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = with_disks::<H>(&scratch);
    let mirror = json!({"job-id": "copy", "device": "disk", "target": "copy", "sync": "full", "speed": 1});
    machine.execute_with("blockdev-mirror", mirror).expect("the job starts");
    machine.execute_with("block-job-cancel", json!({"device": "copy"})).expect("the job exists");
    let end = machine.run(FollowJob::named("copy"), LONG);
    // The job may be gone by now, and then its end is not known any more.
    assert!(matches!(end, Ok(JobEnd::Cancelled) | Err(JobError::Unknown)), "{end:?}");
}

fn a_device_that_needs_no_guest_is_unplugged_at_once<H: Hosted>() {
    let mut machine =
        H::launch(paused().args(["-device", "qemu-xhci", "-device", "usb-kbd,id=keys"])).expect("QEMU starts");
    assert_eq!(machine.run(Unplug::device("keys"), LONG), Ok(()));
    let gone = machine.run(Unplug::device("keys"), LONG);
    let Err(UnplugError::Procedure(ProcedureError::Command(CommandError::Refused(refusal)))) = gone else {
        panic!("{gone:?}")
    };
    assert_eq!(refusal.class, "DeviceNotFound");
    machine.execute_with("device_add", json!({"driver": "usb-mouse"})).expect("there is a place");
    let nameless = "/machine/peripheral-anon/device[1]";
    assert_eq!(machine.run(Unplug::device(nameless), LONG), Ok(()), "a device without an id has a path");
}

fn a_device_that_the_guest_keeps_times_out_at_the_deadline<H: Hosted>() {
    let mut machine = H::launch(paused().args(["-device", "virtio-rng-pci,id=rng"])).expect("QEMU starts");
    let kept = machine.run(Unplug::device("rng"), Duration::from_millis(100).into());
    let Err(UnplugError::TimedOut { device, error }) = kept else { panic!("{kept:?}") };
    assert_eq!((device.as_str(), *error), ("rng", ProcedureError::Wait(WaitError::TimedOut)));
    machine.execute("query-status", LONG).expect("the monitor stays usable");
}

fn address(scratch: &Path) -> String {
    format!("unix:{}/migration", scratch.display())
}

fn a_machine_moves_to_another_qemu<H: Hosted>() {
    let scratch = Scratch::create();
    let mut there = H::launch(empty().args(["-incoming", "defer"])).expect("QEMU starts");
    let mut here = H::launch(empty()).expect("QEMU starts");
    assert_eq!(there.execute("query-status", LONG).expect("the monitor answers")["status"], "inmigrate");
    assert_eq!(there.run(Migrate::listen(address(scratch.path())), LONG), Ok(MigrationEnd::Listening));
    assert_eq!(here.run(Migrate::to(address(scratch.path())), LONG), Ok(MigrationEnd::Completed));
    assert_eq!(there.run(Migrate::arrival(), LONG), Ok(MigrationEnd::Completed));
    let status =
        [&mut here, &mut there].map(|machine| machine.execute("query-status", LONG).expect("the monitor answers"));
    // QEMU reports the migration as completed before it leaves `finish-migrate`.
    assert!(["finish-migrate", "postmigrate"].iter().any(|state| status[0]["status"] == *state), "{}", status[0]);
    assert_eq!(status[1]["running"], true);
}

fn a_migration_without_a_receiver_fails<H: Hosted>() {
    let scratch = Scratch::create();
    let mut here = H::launch(empty()).expect("QEMU starts");
    let failed = here.run(Migrate::to(address(scratch.path())), LONG);
    // QEMU may look at the address before its reply or after it.
    let is_told = match &failed {
        Err(MigrateError::Failed(why)) => why.contains("migration"),
        Err(MigrateError::Procedure(ProcedureError::Command(CommandError::Refused(_)))) => true,
        _ => false,
    };
    assert!(is_told, "{failed:?}");
    assert_eq!(here.execute("query-status", LONG).expect("the monitor answers")["running"], true, "the source runs on");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g08_a_command_and_its_event_are_one_procedure
            a_disk_is_mirrored
            a_mirror_is_left_ready_and_completed_by_another_procedure
            a_backup_waits_to_be_finalized
            a_job_that_fails_reports_the_reason
            a_job_that_is_cancelled_meanwhile_is_reported_as_cancelled
            a_device_that_needs_no_guest_is_unplugged_at_once
            a_device_that_the_guest_keeps_times_out_at_the_deadline
            a_machine_moves_to_another_qemu
            a_migration_without_a_receiver_fails
        }
    };
}

rows!(stories, strict);

//! Stories of copies and snapshots of disks on a real QEMU: their progress, and what is left when they fail or are dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qemu_machine_core::procedure::{
    Backup, Copied, CopyTarget, ExternalSnapshot, JobError, JobProgress, Mirror, ProcedureError, Snapshot,
};
use qemu_machine_core::{CommandError, Config, Deadline, Shutdown, Value, Wait, json};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// A machine with nothing in it.
fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-accel", "tcg"])
}

/// A machine with memory, a disk in the qcow2 format and a device that uses it, which is paused. The device lets others
/// write to the disk.
fn with_disk(disk: &Path) -> Config {
    let node = format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={}", disk.display());
    let machine = ["-machine", "pc", "-nodefaults", "-accel", "tcg", "-m", "16", "-S"];
    Config::new(qemu()).args(machine).args([
        "-blockdev",
        &node,
        "-device",
        "virtio-blk-pci,id=vda,drive=disk,share-rw=on",
    ])
}

/// Creates an image of 8 MB in the qcow2 format. Its content is random enough to differ everywhere.
fn image(scratch: &Scratch) -> PathBuf {
    let (raw, image) = (scratch.path().join("raw"), scratch.path().join("disk.qcow2"));
    fs::write(&raw, (0..8 << 20).map(|byte: u32| ((byte * 7) >> 5) as u8).collect::<Vec<_>>()).expect("there is room");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &raw.to_string_lossy(), &image.to_string_lossy()]);
    image
}

/// Runs `qemu-img`, which must succeed, and returns what it prints.
fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed");
    assert!(output.status.success(), "qemu-img {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_same(one: &Path, other: &Path) {
    qemu_img(&["compare", &one.to_string_lossy(), &other.to_string_lossy()]);
}

/// Returns the names of all nodes that were not named by QEMU.
fn nodes<H: Hosted>(machine: &mut H) -> Vec<String> {
    let all = machine.execute("query-named-block-nodes", LONG).expect("the monitor answers");
    let names = all.as_array().expect("a list").iter().filter_map(|node| node["node-name"].as_str());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('#')).map(ToString::to_string).collect();
    names.sort();
    names
}

/// Writes bytes of this value to a node, from an offset on. QEMU prints errors of this command as text.
fn write<H: Hosted>(machine: &mut H, node: &str, pattern: u8, offset: usize) {
    let line = format!(r#"qemu-io {node} "write -P {pattern} {offset} {PIECE}""#);
    let printed = machine.execute_with("human-monitor-command", json!({"command-line": line}));
    assert_eq!(printed, Ok(json!("")));
}

/// The number of bytes that [`write`] writes.
const PIECE: usize = 64 << 10;

/// Asserts that no job is left, and no node but these.
fn assert_left<H: Hosted>(machine: &mut H, expected: &[&str]) {
    assert_eq!(machine.execute("query-jobs", LONG), Ok(json!([])));
    assert_eq!(nodes(machine), expected);
}

/// Returns the node that the device of the guest uses.
fn used<H: Hosted>(machine: &mut H) -> Value {
    machine.execute("query-block", LONG).expect("the monitor answers")[0]["inserted"]["node-name"].clone()
}

type Reports = Arc<Mutex<Vec<JobProgress>>>;

fn reports() -> (Reports, impl FnMut(JobProgress) + Send + 'static) {
    let reports = Reports::default();
    let into = reports.clone();
    (reports, move |progress| into.lock().expect("no panic").push(progress))
}

fn assert_complete(reports: &Reports) {
    let reports = reports.lock().expect("no panic");
    assert!(reports.windows(2).all(|pair| pair[0].done <= pair[1].done), "{reports:?}");
    assert!(reports.iter().all(|progress| progress.done <= progress.total), "{reports:?}");
    let last = reports.last().expect("the end is reported");
    assert_eq!((last.done, last.total), (8 << 20, 8 << 20));
    assert_eq!(last.rate.is_some(), reports.len() > 1, "two reports make a rate: {reports:?}");
}

fn g40_a_backup_creates_its_file_and_reports_its_progress<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = image(&scratch);
    let mut machine = H::launch(with_disk(&disk)).expect("QEMU starts");
    for format in ["qcow2", "raw"] {
        let path = scratch.path().join(format);
        let (reports, report) = reports();
        let backup = Backup::of("disk", CopyTarget::file("copy", path.to_string_lossy(), format))
            .arguments(json!({"speed": 32 << 20}))
            .progress(Duration::from_millis(20), report);
        assert_eq!(machine.run(backup, LONG), Ok(Copied::default()));
        assert_complete(&reports);
        assert_left(&mut machine, &["disk"]);
    }
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_same(&disk, &scratch.path().join("qcow2"));
    assert_same(&disk, &scratch.path().join("raw"));
}

fn an_incremental_backup_copies_what_was_written_since_the_bitmap<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = H::launch(with_disk(&image(&scratch))).expect("QEMU starts");
    machine.execute_with("block-dirty-bitmap-add", json!({"node": "disk", "name": "b"})).expect("a bitmap is added");
    let copy = scratch.path().join("copy");
    fs::write(&copy, vec![0; 8 << 20]).expect("there is room");
    for pattern in [7, 9] {
        write(&mut machine, "disk", pattern, PIECE);
        let target = CopyTarget::image("copy", json!({"driver": "file", "filename": copy.to_str()}));
        assert_eq!(machine.run(Backup::of("disk", target).incremental("b"), LONG), Ok(Copied::default()));
        let mut expected = vec![0; 8 << 20];
        expected[PIECE..2 * PIECE].fill(pattern);
        assert!(fs::read(&copy).expect("the copy is readable") == expected);
    }
}

fn a_mirror_leaves_the_guest_on_its_disk_or_moves_it<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = image(&scratch);
    let mut machine = H::launch(with_disk(&disk)).expect("QEMU starts");
    let target = |name: &str| CopyTarget::file(name, scratch.path().join(name).to_string_lossy(), "qcow2");
    let (reports, report) = reports();
    let mirror = Mirror::of("disk", target("copy")).progress(Duration::from_millis(20), report);
    assert_eq!(machine.run(mirror, LONG), Ok(Copied::default()));
    assert_complete(&reports);
    assert_eq!(used(&mut machine), "disk");
    assert_left(&mut machine, &["disk"]);

    let copied = machine.run(Mirror::of("disk", target("new")).pivot(), LONG).expect("the guest moves");
    assert_eq!((copied.node.as_deref(), copied.remains.len()), (Some("new"), 0));
    assert_eq!(used(&mut machine), "new");
    machine.execute_with("blockdev-del", json!({"node-name": "disk"})).expect("no guest uses it");
    assert_left(&mut machine, &["new"]);
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_same(&disk, &scratch.path().join("copy"));
    assert_same(&disk, &scratch.path().join("new"));
}

/// A target of 64 MB without content, which can be opened by name.
fn null(name: &str) -> CopyTarget {
    CopyTarget::image(name, json!({"driver": "null-co", "size": 64 << 20}))
}

/// A machine with a disk of 64 MB without content.
fn with_null<H: Hosted>() -> H {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let disk = json!({"driver": "null-co", "node-name": "disk", "size": 64 << 20});
    machine.execute_with("blockdev-add", disk).expect("the node is added");
    machine
}

fn g40_a_copy_that_fails_leaves_no_node<H: Hosted>() {
    let scratch = Scratch::create();
    let read_only = scratch.path().join("read-only");
    fs::File::create(&read_only).and_then(|file| file.set_len(64 << 20)).expect("there is room");
    let mut machine = with_null::<H>();
    let content = scratch.path().join("content");
    fs::write(&content, vec![7; 1 << 20]).expect("there is room");
    let content = json!({"driver": "file", "node-name": "content", "filename": content.to_str()});
    machine.execute_with("blockdev-add", content).expect("the node is added");
    let full = || {
        let image = json!({"driver": "null-co", "size": 1 << 20});
        let errors = json!([{"event": "none", "iotype": "write", "errno": 28}]);
        CopyTarget::image("copy", json!({"driver": "blkdebug", "image": image, "inject-error": errors}))
    };
    let is_full = |end: &Result<Copied, JobError>| {
        assert!(matches!(end, Err(JobError::Failed(why)) if why.reason.contains("No space left")), "{end:?}");
    };
    is_full(&machine.run(Backup::of("content", full()), LONG));
    assert_left(&mut machine, &["content", "disk"]);
    is_full(&machine.run(Mirror::of("content", full()).pivot(), LONG));
    assert_left(&mut machine, &["content", "disk"]);

    let is_refused = |end: &Result<Copied, JobError>| {
        let refused = matches!(end, Err(JobError::Procedure(ProcedureError::Command(CommandError::Refused(_)))));
        assert!(refused, "{end:?}");
    };
    let closed = json!({"driver": "file", "filename": read_only.to_str(), "read-only": true});
    is_refused(&machine.run(Backup::of("disk", CopyTarget::image("copy", closed)), LONG));
    assert_left(&mut machine, &["content", "disk"]);
    is_refused(&machine.run(Backup::of("disk", null("disk")), LONG));
    assert_left(&mut machine, &["content", "disk"]);

    let nowhere = CopyTarget::file("copy", "/nowhere/at/all", "qcow2");
    let failed = machine.run(Backup::of("disk", nowhere.clone()), LONG);
    assert!(matches!(&failed, Err(JobError::Failed(why)) if why.reason.contains("/nowhere/at/all")), "{failed:?}");
    let unknown = machine.run(Backup::of("no-disk", nowhere), LONG);
    assert_eq!(unknown, Err(JobError::UnknownNode("no-disk".into())));
    assert_left(&mut machine, &["content", "disk"]);
}

/// With a speed of 1, QEMU copies a byte in a second after the first 16 MB (measured with QEMU 7.2.22).
fn g40_a_copy_that_runs_out_of_time_or_is_dropped_leaves_no_node<H: Hosted>() {
    let mut machine = with_null::<H>();
    let slow = json!({"speed": 1});
    let short = Duration::from_millis(500).into();
    for end in [
        machine.run(Backup::of("disk", null("copy")).arguments(slow.clone()), short),
        machine.run(Mirror::of("disk", null("copy")).arguments(slow.clone()), short),
    ] {
        assert!(matches!(&end, Err(error @ JobError::Procedure(_)) if error.remains().is_empty()), "{end:?}");
    }
    assert_left(&mut machine, &["disk"]);
    for id in ["backup-disk", "mirror-disk"] {
        let status = |status: &str| Wait::event("JOB_STATUS_CHANGE").with(json!({"id": id, "status": status}));
        let mark = machine.mark();
        let dropped = match id {
            "backup-disk" => {
                machine.drop_run_at(Backup::of("disk", null("copy")).arguments(slow.clone()), status("running"))
            }
            _ => machine.drop_run_at(Mirror::of("disk", null("copy")).arguments(slow.clone()), status("running")),
        };
        assert!(!matches!(dropped, Some(Ok(_))), "{dropped:?}");
        machine.wait_any(&mark, &[status("null")], LONG).expect("the job is removed");
        assert_left(&mut machine, &["disk"]);
    }
}

fn g40_a_copy_that_another_client_cancels_is_an_error<H: Hosted>() {
    let mut machine = with_null::<H>();
    let id = json!({"device": "disk", "target": "copy", "job-id": "backup-disk", "speed": 1, "sync": "full"});
    let copy = json!({"driver": "null-co", "node-name": "copy", "size": 64 << 20});
    machine.execute_with("blockdev-add", copy).expect("the node is added");
    machine.execute_with("blockdev-backup", id).expect("the job starts");
    let end = machine.run(Backup::of("disk", CopyTarget::node("copy")), LONG);
    assert!(matches!(&end, Err(JobError::Procedure(_))), "its id is in use: {end:?}");
    machine.execute_with("job-cancel", json!({"id": "backup-disk"})).expect("the job of the other client is there");
    machine.wait_for(Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "backup-disk", "status": "null"})));
    let copied = machine.run(Backup::of("disk", CopyTarget::node("copy")), LONG).expect("the id is free");
    assert_eq!(copied.node.as_deref(), Some("copy"), "the node is the caller's");
    assert_left(&mut machine, &["copy", "disk"]);
}

fn tags(disk: &Path) -> usize {
    qemu_img(&["snapshot", "-l", "-U", &disk.to_string_lossy()]).matches("before").count()
}

fn g40_a_snapshot_is_saved_loaded_and_deleted<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = image(&scratch);
    let mut machine = H::launch(with_disk(&disk)).expect("QEMU starts");
    let (reports, report) = reports();
    let save = Snapshot::save("before", ["disk"]).progress(Duration::from_millis(20), report);
    assert_eq!(machine.run(save, LONG), Ok(()));
    let last = *reports.lock().expect("no panic").last().expect("the end is reported");
    assert_eq!((last.done, last.total), (1, 1), "QEMU counts one step");
    let exists = machine.run(Snapshot::save("before", ["disk"]), LONG);
    assert!(matches!(&exists, Err(JobError::Failed(why)) if why.reason.contains("exists")), "{exists:?}");
    assert_eq!(tags(&disk), 1, "the older snapshot stays");
    assert_eq!(machine.run(Snapshot::load("before", ["disk"]).state_in("disk"), LONG), Ok(()));
    let missing = machine.run(Snapshot::load("after", ["disk"]), LONG);
    assert!(matches!(&missing, Err(JobError::Failed(why)) if why.run_state.is_some()), "{missing:?}");
    assert_eq!(machine.run(Snapshot::delete("before", ["disk"]), LONG), Ok(()));
    assert_eq!(tags(&disk), 0);
    assert_left(&mut machine, &["disk"]);
}

fn an_external_snapshot_keeps_the_image_of_the_disk_as_it_was<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = image(&scratch);
    let mut machine = H::launch(with_disk(&disk)).expect("QEMU starts");
    let other = json!({"driver": "null-co", "node-name": "other", "size": 1 << 20});
    machine.execute_with("blockdev-add", other).expect("the node is added");
    let above = scratch.path().join("above.qcow2");
    let overlay = || CopyTarget::file("above", above.to_string_lossy(), "qcow2");
    let nowhere = CopyTarget::file("nowhere", "/nowhere/at/all", "qcow2");
    let failed = machine.run(ExternalSnapshot::of("disk", overlay()).and("other", nowhere), LONG);
    assert!(matches!(&failed, Err(JobError::Failed(why)) if why.reason.contains("/nowhere/at/all")), "{failed:?}");
    assert_left(&mut machine, &["disk", "other"]);
    let unfit = ExternalSnapshot::of("disk", overlay()).and("other", CopyTarget::node("disk"));
    let refused = machine.run(unfit, LONG);
    let is_refused = matches!(refused, Err(JobError::Procedure(ProcedureError::Command(CommandError::Refused(_)))));
    assert!(is_refused, "the transaction has all disks or none: {refused:?}");
    assert_left(&mut machine, &["disk", "other"]);

    assert_eq!(machine.run(ExternalSnapshot::of("disk", overlay()), LONG), Ok(()));
    assert_eq!(used(&mut machine), "above");
    write(&mut machine, "above", 7, 0);
    machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_same(&disk, &scratch.path().join("raw"));
    let differs =
        Command::new("qemu-img").arg("compare").args([&disk, &above]).output().expect("qemu-img is installed");
    assert_eq!(differs.status.code(), Some(1), "the guest writes to the overlay");
    let info: Value =
        serde_json::from_str(&qemu_img(&["info", "--output=json", &above.to_string_lossy()])).expect("JSON");
    assert_eq!(info["backing-filename"].as_str(), disk.to_str());
}

/// QEMU saves it all the same, since it cannot cancel the job.
fn g40_a_snapshot_whose_run_is_dropped_is_deleted<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = image(&scratch);
    let mut machine = H::launch(with_disk(&disk)).expect("QEMU starts");
    let status = |id: &str, status: &str| Wait::event("JOB_STATUS_CHANGE").with(json!({"id": id, "status": status}));
    let mark = machine.mark();
    match machine.drop_run_at(Snapshot::save("before", ["disk"]), status("snapshot-save", "running")) {
        None => {
            let gone = machine.wait_any(&mark, &[status("snapshot-save-undo", "null")], LONG);
            gone.expect("the snapshot is deleted");
            assert_eq!(tags(&disk), 0);
        }
        // It was faster than its cancellation.
        Some(Ok(())) => assert_eq!(tags(&disk), 1),
        Some(Err(error)) => assert_eq!((error.remains(), tags(&disk)), (&[][..], 0)),
    }
    assert_left(&mut machine, &["disk"]);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g40_a_backup_creates_its_file_and_reports_its_progress
            an_incremental_backup_copies_what_was_written_since_the_bitmap
            a_mirror_leaves_the_guest_on_its_disk_or_moves_it
            g40_a_copy_that_fails_leaves_no_node
            g40_a_copy_that_runs_out_of_time_or_is_dropped_leaves_no_node
            g40_a_copy_that_another_client_cancels_is_an_error
            g40_a_snapshot_is_saved_loaded_and_deleted
            g40_a_snapshot_whose_run_is_dropped_is_deleted
            an_external_snapshot_keeps_the_image_of_the_disk_as_it_was
        }
    };
}

rows!(stories, strict);

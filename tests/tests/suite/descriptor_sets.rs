//! Stories of fd sets on a real QEMU: several descriptors under one path, and deadlines of commands with a descriptor.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use qemu_machine_core::procedure::{AddFdSet, FdSet, ProcedureError, RemoveFdSet};
use qemu_machine_core::{CommandError, Config, Deadline, Progress, Value, json};
use qemu_machine_host::descriptor;
use qemu_machine_tests::leak_check::{Scratch, send, stop};
use qemu_machine_tests::qemu;
use rustix::process::Signal;

use crate::failed_procedures::opened;
use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-accel", "tcg"])
}

/// Opens a file, for reading alone or for writing as well.
fn open(path: &Path, writes: bool) -> OwnedFd {
    fs::File::options().read(true).write(writes).open(path).expect("the file exists").into()
}

fn a_disk_on_an_fd_set_is_reopened_with_another_access_mode<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("disk");
    fs::write(&path, vec![0; 1 << 20]).expect("there is room");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let descriptors = [false, true].map(|writes| descriptor(open(&path, writes)));
    let set = machine.run(AddFdSet::of("disk", descriptors), LONG).expect("QEMU takes both");
    let listed = machine.execute("query-fdsets", LONG).expect("the monitor answers");
    let fds = listed[0]["fds"].as_array().expect("a list");
    assert_eq!((&listed[0]["fdset-id"], fds.len(), &fds[0]["opaque"]), (&json!(set.id), 2, &json!("disk")));
    // The file that QEMU opens is the one with the access mode that it needs.
    let node = |read_only: bool| -> Value {
        json!({"driver": "file", "node-name": "disk", "filename": set.path(), "read-only": read_only})
    };
    machine.execute_with("blockdev-add", node(true)).expect("there is a descriptor for reading");
    machine.execute_with("blockdev-reopen", json!({"options": [node(false)]})).expect("there is one for writing");
    assert_eq!(machine.run(RemoveFdSet::of(set), LONG), Ok(()));
    assert_eq!(opened(&mut machine, &path), 1, "the node has its own copy");
    machine.execute_with("blockdev-del", json!({"node-name": "disk"})).expect("no guest uses it");
    assert_eq!((machine.execute("query-fdsets", LONG), opened(&mut machine, &path)), (Ok(json!([])), 0));
    let unknown = machine.run(RemoveFdSet::of(FdSet::with_id(77)), LONG);
    assert!(matches!(unknown, Err(ProcedureError::Command(CommandError::Refused(_)))), "{unknown:?}");
}

fn g40_an_empty_fd_set_is_refused<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let refused = machine.run(AddFdSet::of("none", []), LONG);
    assert!(matches!(refused, Err(ProcedureError::Command(CommandError::Refused(_)))), "{refused:?}");
    assert_eq!(machine.execute("query-fdsets", LONG), Ok(json!([])));
}

fn row_14_a_command_with_a_descriptor_has_a_deadline<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("disk");
    fs::write(&path, [0; 512]).expect("there is room");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    stop(pid);
    let short = Duration::from_millis(100).into();
    let late = machine.execute_with_fd_by("add-fd", json!({"fdset-id": 4}), open(&path, false), short);
    assert!(matches!(late, Err(CommandError::TimedOut(Progress::Sent, _))), "{late:?}");
    send(pid, Signal::CONT);
    let added = machine.execute_with_fd_by("add-fd", json!({"fdset-id": 5}), open(&path, false), LONG);
    assert_eq!(added.expect("QEMU takes the descriptor")["fdset-id"], 5);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_disk_on_an_fd_set_is_reopened_with_another_access_mode
            g40_an_empty_fd_set_is_refused
            row_14_a_command_with_a_descriptor_has_a_deadline
        }
    };
}

rows!(stories, strict);

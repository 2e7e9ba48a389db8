//! Stories of rows 13 and 14: descriptors that QEMU inherits, and descriptors that are sent with a command.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use qemu_machine_blocking::{Vm, descriptor};
use qemu_machine_core::{CommandError, json};
use qemu_machine_tests::leak_check::Scratch;

use super::{LONG, empty, link, links};
use crate::harness::Harness;
use crate::hosted::Hosted;
use crate::rows;

fn row_13_qemu_inherits_a_descriptor_in_a_set<H: Hosted>() {
    let scratch = Scratch::create();
    let path = made(scratch.path(), "disk");
    let config = empty().add_fd(descriptor(open(&path)), 7, "a,b").add_fd(descriptor(open(&path)), 7, "");
    let mut machine = H::launch(config.keep_fds()).expect("QEMU starts");
    let sets = machine.execute("query-fdsets", LONG).expect("the monitor answers");
    assert_eq!((&sets[0]["fdset-id"], sets[0]["fds"].as_array().map(Vec::len)), (&json!(7), Some(2)));
    let fds = sets[0]["fds"].as_array().expect("a list");
    assert!(fds.iter().any(|fd| fd["opaque"] == "a,b"), "{sets}");
    for fd in fds {
        assert_eq!(link(machine.pid().expect("the process runs"), &fd["fd"]), path.to_string_lossy());
    }
    // The set can be used, also in the next run.
    machine.kill().expect("the machine was launched");
    machine.relaunch().expect("QEMU starts again");
    let node = json!({"driver": "file", "node-name": "disk", "filename": "/dev/fdset/7", "read-only": true});
    machine.execute_with("blockdev-add", node).expect("the set opens the file");
    machine.kill().expect("the machine was launched");
}

fn row_14_a_descriptor_goes_with_the_command_that_takes_it<H: Hosted>() {
    let scratch = Scratch::create();
    let path = made(scratch.path(), "disk");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    let added =
        machine.execute_with_fd("add-fd", json!({"fdset-id": 3}), open(&path)).expect("QEMU accepts the descriptor");
    assert_eq!(link(pid, &added["fd"]), path.to_string_lossy());
    machine.execute_with_fd("getfd", json!({"fdname": "disk"}), open(&path)).expect("QEMU accepts the descriptor");
    assert_eq!(links(pid).iter().filter(|link| **link == path.to_string_lossy()).count(), 2);
    machine.execute_with("closefd", json!({"fdname": "disk"})).expect("the descriptor has that name");
    // A command that ignores its descriptor, and one without the descriptor that it needs.
    machine.execute_with_fd("query-status", json!({}), open(&path)).expect("the descriptor is ignored");
    let Err(CommandError::Refused(refusal)) = machine.execute_with("getfd", json!({"fdname": "0"})) else {
        panic!("there is no descriptor, and no such name")
    };
    assert_eq!(refusal.class, "GenericError");
    machine.kill().expect("the machine was launched");
}

fn row_14_each_of_many_commands_gets_its_own_descriptor<H: Hosted>() {
    const MANY: usize = 40;
    let scratch = Scratch::create();
    let paths: Vec<_> = (0..MANY).map(|number| made(scratch.path(), &number.to_string())).collect();
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    let command = |(number, path): (usize, &PathBuf)| ("add-fd", json!({"fdset-id": number}), open(path));
    let added = machine.execute_all_with_fds(paths.iter().enumerate().map(command).collect());
    for (number, (added, path)) in added.iter().zip(&paths).enumerate() {
        assert_eq!(added["fdset-id"], number);
        assert_eq!(
            link(pid, &added["fd"]),
            path.to_string_lossy(),
            "each command gets the descriptor that was sent with it"
        );
    }
    machine.kill().expect("the machine was launched");
    // In this process, none is open any more.
    assert_eq!(
        links(std::process::id()).iter().filter(|link| link.starts_with(&*scratch.path().to_string_lossy())).count(),
        0
    );
}

/// Threads launch machines at the same moment, each with its own file: no machine inherits the file of another.
#[test]
fn row_13_no_machine_gets_the_descriptor_of_another() {
    const THREADS: usize = 4;
    const LAUNCHES: usize = 60;
    qemu_machine_tests::bounded_by(std::time::Duration::from_secs(120), || {
        let scratch = Scratch::create();
        std::thread::scope(|threads| {
            for thread in 0..THREADS {
                let scratch = scratch.path();
                threads.spawn(move || {
                    (0..LAUNCHES).for_each(|launch| sees_its_own(scratch, &format!("{thread}-{launch}")))
                });
            }
        });
    });
}

fn sees_its_own(scratch: &Path, name: &str) {
    let path = made(scratch, name);
    let mut vm = <Vm as Harness>::launch(empty().add_fd(descriptor(open(&path)), 1, name)).expect("QEMU starts");
    let links = links(vm.pid().expect("the process runs"));
    let files: Vec<_> = links.iter().filter(|link| link.starts_with(&*scratch.to_string_lossy())).collect();
    assert_eq!(files, [&*path.to_string_lossy()]);
    assert_eq!(links.iter().filter(|link| link.starts_with("socket:")).count(), 1, "one socket: {links:?}");
    vm.kill().expect("the machine was launched");
    std::fs::remove_file(path).expect("it is there");
}

fn made(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, [0; 512]).expect("the file can be written");
    path
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("it is there").into()
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_13_qemu_inherits_a_descriptor_in_a_set
            row_14_a_descriptor_goes_with_the_command_that_takes_it
            row_14_each_of_many_commands_gets_its_own_descriptor
        }
    };
}

rows!(stories);

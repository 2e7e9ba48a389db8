//! Tests of the temporary directory: full, read-only, or removed during a run.

use std::fs::{create_dir, read_dir, remove_dir, remove_dir_all};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qemu_machine_blocking::{Cause, Config, FaultKind, LaunchFailure, Monitor, Shutdown, Vm};
use qemu_machine_tests::leak_check::{Scratch, bytes, leaving_nothing};

use crate::child::{alone_with_mounts, in_child, not_proven};
use crate::{LONG, config, failure, host_fault, works};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the body in a child process with a small file system of its own, mounted on the directory that the body gets.
fn on_a_small_file_system(test: &'static str, body: impl FnOnce(&Path) + Send + 'static) {
    let Some(alone) = alone_with_mounts() else {
        return not_proven("that a full or a read-only file system is reported: this process may not mount one");
    };
    in_child(test, alone, LIMIT, || {
        leaving_nothing(|scratch| {
            let place = scratch.join("small");
            create_dir(&place).unwrap();
            mount(&["-t", "tmpfs", "-o", "size=64k,mode=700"], &place);
            body(&place);
            assert_eq!(read_dir(&place).unwrap().count(), 0, "files left behind");
            unmount(&place);
            remove_dir(&place).unwrap();
        });
    });
}

fn mount(arguments: &[&str], place: &Path) {
    let mut command = Command::new("mount");
    let command = if arguments.contains(&"-t") { command.args(arguments).arg("none") } else { command.args(arguments) };
    assert!(command.arg(place).status().unwrap().success(), "{arguments:?}");
}

/// Unmounts lazily: the supervisor may hold the log of a dropped machine a moment longer.
fn unmount(place: &Path) {
    assert!(Command::new("umount").arg("--lazy").arg(place).status().unwrap().success());
}

/// A configuration that also creates a socket in the directory.
fn dialled(place: &Path) -> Config {
    config(place).monitor(Monitor::Socket)
}

/// Each file that is created there may find no room.
#[test]
fn g04_a_full_file_system_is_reported_with_the_failed_operation() {
    on_a_small_file_system("places::g04_a_full_file_system_is_reported_with_the_failed_operation", |place| {
        let steps = ["create the log", "create the directory", "listen at"];
        for (room, operation) in steps.into_iter().enumerate() {
            // One inode is the root directory.
            mount(&["-o", &format!("remount,nr_inodes={}", 1 + room)], place);
            let fault = host_fault(Vm::launch(dialled(place)));
            assert_eq!(fault.kind, FaultKind::Full, "{fault}");
            assert!(fault.operation.starts_with(operation), "{fault}");
            assert!(fault.operation.contains(place.to_str().unwrap()), "{fault}");
            assert_eq!(read_dir(place).unwrap().count(), 0, "files left behind");
        }
        mount(&["-o", "remount,nr_inodes=100"], place);
        works(dialled(place));
    });
}

/// Without room for a byte, only the log of QEMU stays empty.
#[test]
fn g04_a_full_file_system_costs_only_the_log() {
    on_a_small_file_system("places::g04_a_full_file_system_costs_only_the_log", |place| {
        let filler = place.join("filler");
        // The write fills the file system and then fails.
        assert!(std::fs::write(&filler, vec![0; 1 << 20]).is_err());
        let (failed, outcome) = failure(Vm::launch(config(place).args(["-device", "nonexistent"])));
        assert!(matches!(failed, LaunchFailure::Exited(_)), "{failed}");
        assert_eq!((&*outcome.log, &*outcome.faults), ("", &[][..]), "the output could not be written");
        works(dialled(place));
        std::fs::remove_file(filler).unwrap();
    });
}

#[test]
fn g04_a_read_only_file_system_is_reported() {
    on_a_small_file_system("places::g04_a_read_only_file_system_is_reported", |place| {
        mount(&["-o", "remount,ro"], place);
        let fault = host_fault(Vm::launch(config(place)));
        assert!(fault.kind == FaultKind::Denied && fault.operation.starts_with("create the log"), "{fault}");
        mount(&["-o", "remount,rw"], place);
        works(config(place));
    });
}

/// The fault names the path that cannot be removed.
#[test]
fn g15_a_file_system_that_becomes_read_only_under_a_machine() {
    on_a_small_file_system("places::g15_a_file_system_that_becomes_read_only_under_a_machine", |place| {
        let vm = Vm::launch(dialled(place)).unwrap();
        // A file that is open for writing forbids a read-only remount of the file system, but not of a bind mount.
        let made = read_dir(place).unwrap().next().unwrap().unwrap().path();
        mount(&["--bind", place.to_str().unwrap()], place);
        mount(&["-o", "remount,bind,ro"], place);
        let outcome = vm.shutdown(Shutdown::within(LONG)).unwrap();
        let [fault] = &outcome.faults[..] else { panic!("{outcome}") };
        assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
        assert!(fault.operation.starts_with("remove") && fault.operation.contains(made.to_str().unwrap()), "{fault}");
        drop(vm);
        unmount(place);
        remove_dir_all(made).unwrap();
        works(config(place));
    });
}

#[test]
fn g12_a_directory_that_was_removed_under_a_machine_is_no_fault() {
    leaving_nothing(|scratch| {
        let says = ["bash", "-c", "echo words; exec \"$@\"", "bash"];
        let vm = Vm::launch(config(scratch).monitor(Monitor::Socket).wrapper(says)).unwrap();
        let made = read_dir(scratch).unwrap().next().unwrap().unwrap().path();
        remove_dir_all(made).unwrap();
        assert!(vm.execute_by("query-status", LONG).is_ok());
        let outcome = vm.shutdown(Shutdown::within(LONG)).unwrap();
        assert_eq!((outcome.faults.len(), &*outcome.log), (0, "words\n"), "{outcome}");
    });
}

#[test]
fn g04_a_directory_that_is_gone_fails_the_launch_and_the_next_one_works() {
    leaving_nothing(|_| {
        let base = Scratch::create();
        let place = base.path().join("gone");
        let fault = host_fault(Vm::launch(Config::new("qemu").temporary_directory(bytes(&place))));
        assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
        assert!(fault.operation.starts_with("create the log"), "{fault}");
        create_dir(&place).unwrap();
        let vm = Vm::launch(config(&place)).unwrap();
        // A relaunch fails in the same way if the directory has gone since.
        vm.kill().unwrap();
        remove_dir(&place).unwrap();
        let error = vm.relaunch().expect_err("there is no directory");
        assert!(error.to_string().contains("create the log"), "{error}");
        assert_eq!(vm.outcome().unwrap().cause, Cause::NotStarted);
        create_dir(&place).unwrap();
        vm.relaunch().unwrap();
        vm.kill().unwrap();
    });
}

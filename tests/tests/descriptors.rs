//! Tests of descriptors: a process inherits only those that were made for it, and a lack of descriptors is reported and
//! leaves nothing behind.

use std::fs::{File, read_dir, read_link, read_to_string};
use std::path::Path;

use qemu_machine_blocking::{Config, FaultKind, LaunchError, LaunchFailure, Mark, Vm, Wait};
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::leak_check::{bytes, leaving_nothing};
use qemu_machine_tests::scripted::Script;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-qemu");

/// Descriptors of a process, each with its target.
type Descriptors = Vec<(i32, String)>;

fn config(script: &Script, scratch: &Path) -> Config {
    script.config(SCRIPTED).temporary_directory(bytes(scratch))
}

/// A machine that is ready, and opens no more descriptors.
fn at_rest(scratch: &Path, consoles: &[&str]) -> Vm {
    let config = config(&Script::launched().obey(), scratch);
    Vm::launch(consoles.iter().fold(config, |config, name| config.serial(*name))).unwrap()
}

fn descriptors_of(pid: u32) -> Descriptors {
    let entries = read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut all: Descriptors = entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            // The supervisor may close a descriptor of this process during the listing.
            Some((number, read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort();
    all
}

/// Descriptors of this process that every child inherits: the program that started the tests may have left some open.
fn inheritable() -> Descriptors {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let flags = |number: &i32| {
        let info = read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap()
    };
    let mut ours = descriptors_of(std::process::id());
    // The descriptor for reading the list is closed again.
    ours.retain(|(_, target)| !target.ends_with("/fd"));
    ours.retain(|(number, _)| *number > 2 && flags(number) & CLOSED_ON_EXEC == 0);
    ours
}

#[test]
fn a_process_has_its_channels_and_its_log_and_nothing_of_other_machines() {
    leaving_nothing(|scratch| {
        let _other = at_rest(scratch, &["a"]);
        let vm = at_rest(scratch, &["a", "b"]);
        let mut all = descriptors_of(vm.pid().unwrap());
        all.retain(|one| !inheritable().contains(one));
        let (sockets, rest): (Descriptors, Descriptors) =
            all.into_iter().partition(|(_, to)| to.starts_with("socket:"));
        // The scripted QEMU has its monitor twice.
        assert_eq!(sockets.len(), 2 + 2, "{sockets:?}");
        let [(1, output), (2, error)] = &rest[..] else { panic!("{rest:?}") };
        assert!(output.ends_with("(deleted)") && output == error, "the log has no path: {rest:?}");
    });
}

/// Other code in this process may have opened descriptors without close-on-exec.
#[test]
fn a_process_does_not_inherit_descriptors_of_other_code() {
    leaving_nothing(|scratch| {
        let _inheritable = rustix::io::dup(File::open("/dev/zero").unwrap()).unwrap();
        let all = descriptors_of(at_rest(scratch, &[]).pid().unwrap());
        assert!(all.iter().all(|(_, target)| target != "/dev/zero"), "{all:?}");
    });
}

/// At each operation that needs a descriptor.
#[test]
fn a_lack_of_descriptors_is_a_fault_of_the_host() {
    leaving_nothing(|scratch| {
        let (mut failed, mut left) = (0, Vec::new());
        for room in 0..40 {
            let config = config(&Script::launched().obey(), scratch).serial("tty");
            match with_room_for(room, || Vm::launch(config)) {
                Ok(vm) => drop(vm),
                Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), outcome }) => {
                    assert_eq!((fault.kind, fault.errno, outcome.exit), (FaultKind::Full, Some(24), None), "{fault}");
                    failed += 1;
                    left.extend((read_dir(scratch).unwrap().count() > left.len()).then(|| fault.to_string()));
                }
                // The process inherits the limit, and may have needed more than was left.
                Err(LaunchError::Failed { failure: LaunchFailure::Exited(_), .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!((5..30).contains(&failed), "{failed}");
        assert_eq!(left, [""; 0], "these left a file behind");
        // With descriptors, the launch succeeds.
        let vm = Vm::launch(config(&Script::launched().event("HERE").obey(), scratch)).unwrap();
        vm.wait_any(&Mark::default(), [Wait::event("HERE")], PATIENCE / 2).unwrap();
    });
}

/// Runs a function while this process may open this many more descriptors.
fn with_room_for<T>(room: usize, act: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let mut taken = descriptors_of(std::process::id());
    // The descriptor for reading the list is free again.
    taken.retain(|(_, target)| !target.ends_with("/fd"));
    let free = |number: &i32| taken.iter().all(|(other, _)| other != number);
    let limit = (0..).filter(free).nth(room).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit.try_into().unwrap()), ..before }).unwrap();
    let result = act();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

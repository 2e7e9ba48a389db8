//! Test of a dropped driver: its descriptors are closed, also while a handle is held. The test is alone in its program,
//! because it counts the descriptors of the program.

use std::fs;

use qemu_machine_core::{Cause, Config, Rung};
use qemu_machine_smol::Vm;
use qemu_machine_smol::tasks::wait_for_dropped;
use qemu_machine_tests::{PATIENCE, bounded, qemu};

/// Returns how many pidfds (`pidfd_open(2)`) and how many sockets this program holds.
fn held() -> (usize, usize) {
    let count = |of: &str| {
        let entries = fs::read_dir("/proc/self/fd").expect("our descriptors are listed");
        let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains(of)).count()
    };
    (count("pidfd"), count("socket:"))
}

#[test]
fn a_dropped_driver_leaves_no_descriptor() {
    bounded(|| {
        let before = held();
        let mut driving = None;
        let config = Config::new(qemu()).args(["-S"]).serial("tty");
        let launch = Vm::launch_with(config, |driver| {
            let shown = format!("{driver:?}");
            assert!(shown.starts_with("Driver(Machine { state: Launching(") && shown.len() < 200, "{shown}");
            driving = Some(smol::spawn(driver));
        });
        let vm = smol::block_on(launch).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(held(), (before.0 + 1, before.1 + 2), "the process, its monitor and its console");
        smol::block_on(driving.expect("it was spawned").cancel());
        let outcome = smol::block_on(vm.wait(PATIENCE)).expect("the machine ends");
        assert_eq!(outcome.cause, Cause::Asked(Rung::Kill));
        assert!(wait_for_dropped(PATIENCE));
        assert_eq!(held(), before);
    });
}

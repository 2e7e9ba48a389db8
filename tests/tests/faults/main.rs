//! Tests of faults around a machine, which are reported as what they are and leave nothing behind: signals to a real
//! QEMU in each phase of its run, directories that are full, read-only or gone, a lack of descriptors or permissions,
//! and a host with eight times more work than processors.

mod child;
mod descriptors;
mod orphans;
mod overload;
mod places;
mod programs;
mod signals;
mod steps;

use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{Config, LaunchError, LaunchFailure, Outcome, Resource, Vm};
use qemu_machine_core::HostFault;
use qemu_machine_tests::leak_check::bytes;
use qemu_machine_tests::{PATIENCE, qemu};

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// A QEMU without a guest, which dumps no core.
fn config(scratch: &Path) -> Config {
    let config = Config::new(qemu()).machine("none").temporary_directory(bytes(scratch));
    let config = config.resource_limit(Resource::CoreDump, 0);
    // The host for any Unix does not know which process connects.
    if cfg!(qemu_machine_portable) { config.trust_peer() } else { config }
}

/// Returns how a launch failed.
fn failure(launched: Result<Vm, LaunchError>) -> (LaunchFailure, Outcome) {
    match launched {
        Err(LaunchError::Failed { failure, outcome }) => (failure, *outcome),
        Err(error) => panic!("{error}"),
        Ok(vm) => panic!("the launch succeeded: {vm:?}"),
    }
}

/// Returns the fault of the host that made a launch fail.
fn host_fault(launched: Result<Vm, LaunchError>) -> HostFault {
    let (failure, outcome) = failure(launched);
    let LaunchFailure::Host(fault) = failure else { panic!("{failure}") };
    assert_eq!((outcome.exit, &*outcome.faults), (None, &[][..]), "{fault}");
    fault
}

/// Asserts that a launch and an orderly shutdown succeed.
fn works(config: Config) {
    let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
    let outcome = vm.shutdown(qemu_machine_blocking::Shutdown::within(PATIENCE)).expect("the machine was launched");
    assert_eq!(outcome.exit, Some(qemu_machine_blocking::ExitStatus::Code(0)), "{outcome}");
    assert_eq!(outcome.faults, [], "{outcome}");
}

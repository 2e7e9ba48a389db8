//! Proves that what goes wrong around a machine is told for what it is, and leaves nothing behind: signals to a real
//! QEMU in each phase of its run, directories that are full, read-only or gone, no descriptors, no permission, and a
//! host that has eight times more to do than it can.

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

use qemu_machine_blocking::{Config, LaunchError, LaunchFailure, Outcome, Vm};
use qemu_machine_core::HostFault;
use qemu_machine_tests::leak_check::bytes;
use qemu_machine_tests::{PATIENCE, qemu};

/// Longer than anything that is expected takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// A QEMU without a guest. Who ends it by a signal gets no core dump.
fn config(scratch: &Path) -> Config {
    let wrapper = ["bash", "-c", "ulimit -c 0; exec \"$@\"", "bash"];
    Config::new(qemu()).machine("none").temporary_directory(bytes(scratch)).wrapper(wrapper)
}

/// How a launch failed that came as far as the host.
fn failure(launched: Result<Vm, LaunchError>) -> (LaunchFailure, Outcome) {
    match launched {
        Err(LaunchError::Failed { failure, outcome }) => (failure, *outcome),
        Err(error) => panic!("{error}"),
        Ok(vm) => panic!("it was launched: {vm:?}"),
    }
}

/// The host's fault that a launch failed by.
fn host_fault(launched: Result<Vm, LaunchError>) -> HostFault {
    let (failure, outcome) = failure(launched);
    let LaunchFailure::Host(fault) = failure else { panic!("{failure}") };
    assert_eq!((outcome.exit, &*outcome.faults), (None, &[][..]), "{fault}");
    fault
}

/// It can be launched and ended in order.
fn works(config: Config) {
    let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
    let outcome = vm.shutdown(qemu_machine_blocking::Shutdown::within(PATIENCE)).expect("it was launched");
    assert_eq!(outcome.exit, Some(qemu_machine_blocking::ExitStatus::Code(0)), "{outcome}");
    assert_eq!(outcome.faults, [], "{outcome}");
}

//! Tests of launches that lack a descriptor, at each operation that needs one: on every runtime, in a child process.

use std::fs::{File, read_dir};
use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{Config, LaunchError, LaunchFailure, Monitor, Vm};
use qemu_machine_core::{FaultKind, HostFault};
use qemu_machine_tests::leak_check::{Scratch, descendants, leaving_nothing};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::in_child;
use crate::{config, host_fault, works};

const EMFILE: (FaultKind, Option<i32>) = (FaultKind::Full, Some(24));

const LIMIT: Duration = Duration::from_secs(60);

/// Descriptors that suffice for a launch: more than it needs, and far less than the limit that QEMU inherits.
const MOST: usize = 40;

/// Opens descriptors until only this many are left.
fn take_all_but(room: usize) -> Vec<File> {
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len().checked_sub(room).expect("there are more"));
    taken
}

/// Lowers the limit, so that a test can open all descriptors.
fn limit_descriptors() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
}

/// Launches with 0, 1, 2, … free descriptors until one launch succeeds, and returns the faults of the others.
fn faults(
    scratch: &Path,
    config: impl Fn() -> Config,
    launch: fn(Config) -> Result<(), LaunchError>,
) -> Vec<HostFault> {
    limit_descriptors();
    let mut faults = Vec::new();
    for room in 0..MOST {
        // The supervisor works in order: when it has started this process, it has closed the descriptors of earlier
        // ones.
        let sleeper = Config::new("sleep").arg("600").with_display().with_vga().without_monitor();
        let sleeper = Vm::launch(sleeper).unwrap_or_else(|error| panic!("{error}"));
        let taken = take_all_but(room);
        let launched = launch(config());
        drop((taken, sleeper));
        match launched {
            Ok(()) => return faults,
            Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), outcome }) => {
                assert_eq!(((fault.kind, fault.errno), outcome.exit), (EMFILE, None), "{fault}");
                assert_eq!(outcome.faults, [], "{fault}");
                faults.push(fault);
            }
            Err(error) => panic!("with room for {room}: {error}"),
        }
        let left: Vec<_> = read_dir(scratch).unwrap().collect();
        assert!(left.is_empty(), "{left:?} left behind by {:?}", faults.last());
        // The launch succeeds as soon as there are descriptors.
        launch(config()).unwrap_or_else(|error| panic!("after {:?}: {error}", faults.last()));
    }
    panic!("no launch succeeded")
}

/// Asserts that each of these operations lacked a descriptor at some launch.
fn assert_told(faults: &[HostFault], operations: &[&str]) {
    for operation in operations {
        assert!(faults.iter().any(|fault| fault.operation.starts_with(operation)), "{operation}: {faults:#?}");
    }
}

fn on_threads(config: Config) -> Result<(), LaunchError> {
    Vm::launch(config).map(|vm| drop(vm.kill()))
}

/// The executor is local, so the driver is gone when this returns.
fn on_smol(config: Config) -> Result<(), LaunchError> {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let vm = qemu_machine_smol::Vm::launch_with(config, |driver| executor.spawn(driver).detach()).await?;
        drop(vm.kill().await);
        Ok(())
    }))
}

fn on_mio(config: Config) -> Result<(), LaunchError> {
    let not_started = |error| {
        let fault = qemu_machine_host::fault("make a poll".into(), &error);
        LaunchError::not_started(fault, &Config::new("qemu").command_line().expect("a valid configuration"))
    };
    let mut event_loop = qemu_machine_mio::EventLoop::new().map_err(not_started)?;
    let (registry, tokens) = event_loop.parts();
    let mut vms = [qemu_machine_mio::Vm::launch(config, registry, tokens)?];
    event_loop.run(&mut vms, |vms| vms[0].launched()).map_err(not_started)??;
    vms[0].kill().expect("the machine was launched");
    event_loop.run(&mut vms, |vms| vms[0].outcome().map(drop)).map_err(not_started)?;
    Ok(())
}

/// Before the first launch there is no supervisor, nor anything else that stays.
#[test]
fn g04_the_first_launch_reports_which_operation_lacked_a_descriptor() {
    in_child("descriptors::g04_the_first_launch_reports_which_operation_lacked_a_descriptor", &[], LIMIT, || {
        let scratch = Scratch::create();
        limit_descriptors();
        let taken = take_all_but(0);
        let fault = host_fault(Vm::launch(config(scratch.path())));
        drop(taken);
        assert_eq!(((fault.kind, fault.errno), &*fault.operation), (EMFILE, "watch a machine"));
        works(config(scratch.path()));
        assert_eq!((descendants(std::process::id()), scratch.entries()), (vec![], vec![]));
    });
}

fn every_launch(test: &'static str, launch: fn(Config) -> Result<(), LaunchError>) {
    in_child(test, &[], LIMIT, move || {
        // The first launch makes what the program makes once and keeps.
        let scratch = Scratch::create();
        launch(config(scratch.path())).unwrap_or_else(|error| panic!("{error}"));
        leaving_nothing(move |scratch| {
            let inherited = faults(scratch, || config(scratch).serial("tty"), launch);
            let dialled = faults(scratch, || config(scratch).monitor(Monitor::Socket), launch);
            assert_told(
                &inherited,
                &["create the log", "create the monitor", "create the console 0", "start `qemu-system-x86_64`"],
            );
            assert_told(&dialled, &["create the log", "listen at", "start `qemu-system-x86_64`"]);
        });
    });
}

#[test]
#[cfg_attr(qemu_machine_portable, ignore = "the host for any Unix creates other descriptors")]
fn g04_every_launch_reports_which_operation_lacked_a_descriptor() {
    every_launch("descriptors::g04_every_launch_reports_which_operation_lacked_a_descriptor", on_threads);
}

#[test]
#[cfg_attr(qemu_machine_portable, ignore = "the host for any Unix creates other descriptors")]
fn g04_every_launch_reports_which_operation_lacked_a_descriptor_on_smol() {
    every_launch("descriptors::g04_every_launch_reports_which_operation_lacked_a_descriptor_on_smol", on_smol);
}

#[test]
#[cfg_attr(qemu_machine_portable, ignore = "the host for any Unix creates other descriptors")]
fn g04_every_launch_reports_which_operation_lacked_a_descriptor_on_mio() {
    every_launch("descriptors::g04_every_launch_reports_which_operation_lacked_a_descriptor_on_mio", on_mio);
}

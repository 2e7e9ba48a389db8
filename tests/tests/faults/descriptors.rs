//! No descriptors at a launch, however many of them it had already got: on every runtime, in a process of its own.

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

/// More than a launch needs, and far less than QEMU may have.
const MOST: usize = 40;

/// Takes every descriptor that there is but so many.
fn take_all_but(room: usize) -> Vec<File> {
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len().checked_sub(room).expect("there are more"));
    taken
}

/// So few that they can be taken.
fn limit_descriptors() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
}

/// What the launches say that lack a descriptor, until one lacks none.
fn faults(
    scratch: &Path,
    config: impl Fn() -> Config,
    launch: fn(Config) -> Result<(), LaunchError>,
) -> Vec<HostFault> {
    limit_descriptors();
    let mut faults = Vec::new();
    for room in 0..MOST {
        // The supervisor works off its orders in turn: when it has started this one, it has closed what the last ones had.
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
        // It works as soon as there are some.
        launch(config()).unwrap_or_else(|error| panic!("behind {:?}: {error}", faults.last()));
    }
    panic!("no launch succeeded")
}

/// Each of these operations lacked one at some launch.
fn assert_told(faults: &[HostFault], operations: &[&str]) {
    for operation in operations {
        assert!(faults.iter().any(|fault| fault.operation.starts_with(operation)), "{operation}: {faults:#?}");
    }
}

fn on_threads(config: Config) -> Result<(), LaunchError> {
    Vm::launch(config).map(|vm| drop(vm.kill()))
}

/// The driver is ours, and gone when this returns.
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
        LaunchError::not_started(fault, &Config::new("qemu").command_line().expect("a good configuration"))
    };
    let mut event_loop = qemu_machine_mio::EventLoop::new().map_err(not_started)?;
    let (registry, tokens) = event_loop.parts();
    let mut vms = [qemu_machine_mio::Vm::launch(config, registry, tokens)?];
    event_loop.run(&mut vms, |vms| vms[0].launched()).map_err(not_started)??;
    vms[0].kill().expect("it was launched");
    event_loop.run(&mut vms, |vms| vms[0].outcome().map(drop)).map_err(not_started)?;
    Ok(())
}

/// There is no supervisor yet, nor anything else that stays.
#[test]
fn g04_the_first_launch_says_what_it_lacked_a_descriptor_for() {
    in_child("descriptors::g04_the_first_launch_says_what_it_lacked_a_descriptor_for", &[], LIMIT, || {
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
        // What a program makes once and keeps is there.
        let scratch = Scratch::create();
        launch(config(scratch.path())).unwrap_or_else(|error| panic!("{error}"));
        leaving_nothing(move |scratch| {
            let inherited = faults(scratch, || config(scratch).serial("tty"), launch);
            let dialled = faults(scratch, || config(scratch).monitor(Monitor::Socket), launch);
            assert_told(&inherited, &["make the log", "make the monitor", "make the console 0", "execute `bash`"]);
            assert_told(&dialled, &["make the log", "listen at", "execute `bash`"]);
        });
    });
}

#[test]
fn g04_every_launch_says_which_descriptor_it_lacked() {
    every_launch("descriptors::g04_every_launch_says_which_descriptor_it_lacked", on_threads);
}

#[test]
fn g04_every_launch_says_which_descriptor_it_lacked_on_smol() {
    every_launch("descriptors::g04_every_launch_says_which_descriptor_it_lacked_on_smol", on_smol);
}

#[test]
fn g04_every_launch_says_which_descriptor_it_lacked_on_mio() {
    every_launch("descriptors::g04_every_launch_says_which_descriptor_it_lacked_on_mio", on_mio);
}

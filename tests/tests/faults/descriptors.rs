//! No descriptors at a launch, however many of them it had already got: on every runtime, in a process of its own.

use std::collections::BTreeSet;
use std::fs::{File, read_dir};
use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{Config, HostFault, LaunchError, LaunchFailure, Monitor, Vm};
use qemu_machine_tests::census::{Scratch, descendants, leaving_nothing};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::in_child;
use crate::config;

const EMFILE: i32 = 24;

const LIMIT: Duration = Duration::from_secs(60);

/// More than a launch needs, and far less than QEMU may have.
const MOST: usize = 40;

/// Takes every descriptor that there is but so many.
fn take_all_but(room: usize) -> Vec<File> {
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len().checked_sub(room).expect("there are more"));
    taken
}

/// What the launches say that lack a descriptor, until one lacks none.
fn faults(
    scratch: &Path,
    config: impl Fn() -> Config,
    launch: fn(Config) -> Result<(), LaunchError>,
) -> Vec<HostFault> {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
    let mut faults = Vec::new();
    for room in 0..MOST {
        let taken = take_all_but(room);
        let launched = launch(config());
        drop(taken);
        match launched {
            Ok(()) => return faults,
            Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), outcome }) => {
                assert_eq!((fault.errno, outcome.exit), (EMFILE, None), "{fault}");
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

/// The operations without the names in them.
fn operations(faults: &[HostFault]) -> BTreeSet<String> {
    let plain = |fault: &HostFault| fault.operation.split([' ', '/', '`']).take(2).collect::<Vec<_>>().join(" ");
    faults.iter().map(plain).collect()
}

fn on_threads(config: Config) -> Result<(), LaunchError> {
    Vm::launch(config).map(|vm| drop(vm.kill()))
}

fn on_smol(config: Config) -> Result<(), LaunchError> {
    smol::block_on(async {
        let vm = qemu_machine_smol::Vm::launch(config).await?;
        drop(vm.kill().await);
        Ok(())
    })
}

fn on_mio(config: Config) -> Result<(), LaunchError> {
    let not_started = |error| {
        let fault = qemu_machine_blocking::host::fault("make a poll".into(), &error);
        LaunchError::not_started(fault, &Config::new("qemu").command_line().expect("a good configuration"))
    };
    let mut desk = qemu_machine_mio::Desk::new().map_err(not_started)?;
    let (registry, tokens) = desk.parts();
    let mut vms = [qemu_machine_mio::Vm::launch(config, registry, tokens)?];
    desk.run(&mut vms, |vms| vms[0].launched()).map_err(not_started)??;
    vms[0].kill().expect("it was launched");
    desk.run(&mut vms, |vms| vms[0].outcome().map(drop)).map_err(not_started)?;
    Ok(())
}

/// The first launches of a program: there is no keeper yet, nor anything else that stays.
#[test]
fn g16_the_first_launch_says_which_descriptor_it_lacked() {
    in_child("descriptors::g16_the_first_launch_says_which_descriptor_it_lacked", &[], LIMIT, || {
        let scratch = Scratch::create();
        let faults = faults(scratch.path(), || config(scratch.path()).serial("tty"), on_threads);
        let expected = ["execute bash", "make the", "watch a"].map(String::from);
        assert!(operations(&faults).is_superset(&BTreeSet::from(expected)), "{faults:?}");
        assert_eq!(descendants(std::process::id()), []);
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
            println!("{inherited:?} {dialled:?}");
            assert!(inherited.len() > 5 && dialled.len() > 5, "{inherited:?} {dialled:?}");
            let expected = ["execute bash", "make the"].map(String::from);
            assert!(operations(&inherited).is_superset(&BTreeSet::from(expected)), "{inherited:?}");
            assert!(operations(&dialled).contains("listen at"), "{dialled:?}");
        });
    });
}

#[test]
fn g16_every_launch_says_which_descriptor_it_lacked() {
    every_launch("descriptors::g16_every_launch_says_which_descriptor_it_lacked", on_threads);
}

#[test]
fn g16_every_launch_says_which_descriptor_it_lacked_on_smol() {
    every_launch("descriptors::g16_every_launch_says_which_descriptor_it_lacked_on_smol", on_smol);
}

#[test]
fn g16_every_launch_says_which_descriptor_it_lacked_on_mio() {
    every_launch("descriptors::g16_every_launch_says_which_descriptor_it_lacked_on_mio", on_mio);
}

//! Tests of what the host for any Unix does not know: each is a clear error, or left out.
#![cfg(qemu_machine_portable)]

use std::os::fd::OwnedFd;

use qemu_machine_blocking::{
    Address, Config, FaultKind, HostFault, LaunchError, LaunchFailure, Monitor, Peer, Shutdown, Vm, descriptor,
};
use qemu_machine_host::IdentityError;
use qemu_machine_tests::leak_check::leaving_nothing;
use qemu_machine_tests::{PATIENCE, qemu};

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-display", "none"])
}

fn fault(result: Result<Vm, LaunchError>) -> HostFault {
    match result.map(drop) {
        Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_dials_is_accepted_only_if_any_is() {
    leaving_nothing(|_| {
        let fault = fault(Vm::launch(config().monitor(Monitor::Socket)));
        assert!(fault.to_string().contains("Config::trust_peer"), "{fault}");
        let vm = Vm::launch(config().monitor(Monitor::Socket).trust_peer()).expect("any peer is accepted");
        vm.shutdown(Shutdown::default()).expect("it runs");
    });
}

#[test]
fn abstract_sockets_are_unsupported() {
    leaving_nothing(|_| {
        let address = Address::abstract_unix("qemu-machine");
        for peer in [Peer::Listen(address.clone()), Peer::Dial(address)] {
            let fault = fault(Vm::attach(peer, PATIENCE));
            assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
            assert!(fault.to_string().contains("abstract"), "{fault}");
        }
    });
}

#[test]
fn cgroups_and_network_namespaces_are_unsupported() {
    leaving_nothing(|_| {
        let namespace = || descriptor(OwnedFd::from(std::fs::File::open("/dev/null").expect("it exists")));
        for (config, name) in [
            (config().cgroup("/sys/fs/cgroup"), "cgroups"),
            (config().network_namespace(namespace()), "network namespaces"),
        ] {
            let fault = fault(Vm::launch(config));
            assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
            assert!(fault.to_string().contains(name), "{fault}");
        }
    });
}

/// It may outlive this program, but no program can resume it.
#[test]
fn a_machine_has_no_identity() {
    leaving_nothing(|_| {
        let vm = Vm::launch(config().outlive_parent()).expect("it starts");
        match vm.identity() {
            Err(IdentityError::Host(fault)) => assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}"),
            other => panic!("{other:?}"),
        }
        vm.kill().expect("it runs");
    });
}

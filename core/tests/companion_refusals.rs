//! Tests of companions that cannot work: configurations and records that are refused, and a host that cannot probe a socket.

use std::time::Duration;

use crate::rig::{Rig, config};
use qemu_machine_core::record::Record;
use qemu_machine_core::{
    Companion, CompanionEffect, CompanionFailure, CompanionInput, Config, Descriptor, Effect, Input, LaunchFailure,
    Machine, Misuse, ProcessAttributes,
};

const NOBODY: u32 = 65534;

fn fs() -> Companion {
    Companion::new("fs", "virtiofsd").args(["-o", "source=/srv"]).listener("--fd=").chardev("fs")
}

fn bus() -> Companion {
    Companion::new("bus", "dbus-daemon").path("--address=")
}

fn refusal(config: Config) -> Option<String> {
    match Machine::new(config) {
        Ok(_) => None,
        Err(Misuse::Config(what)) => Some(what.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_another_user_or_network_namespace_prevents_is_refused() {
    let user = |uid| ProcessAttributes { uid: Some(uid), ..ProcessAttributes::default() };
    let network = ProcessAttributes { network_namespace: Some(Descriptor::new(())), ..ProcessAttributes::default() };
    for (config, part) in [
        (config().companion(fs()).uid(NOBODY), "dial companion `fs`"),
        (config().companion(bus().chardev("bus")).uid(NOBODY), "dial companion `bus`"),
        (config().companion(bus().attributes(user(NOBODY))), "companion `bus` cannot create a socket"),
        (config().companion(bus().attributes(network.clone())), "another network namespace"),
    ] {
        let refused = refusal(config).expect("it cannot work");
        assert!(refused.contains(part), "{refused}");
    }
    for config in [
        config().companion(fs()).uid(0),
        config().companion(Companion::new("net", "passt").connected("").netdev_stream("n")).uid(NOBODY),
        // QEMU does not dial these.
        config().companion(bus()).uid(NOBODY),
        config().companion(fs().attributes(user(NOBODY))),
        config().companion(fs().attributes(network)),
        config().companion(bus().attributes(user(0))),
    ] {
        assert_eq!(refusal(config), None);
    }
}

/// A record that was edited names a place for the socket behind all arguments.
#[test]
fn a_record_with_a_wrong_place_for_a_socket_is_refused() {
    let rig = Rig::ready(config().companion(fs()));
    let text = rig.vm.record().expect("the run is recorded").to_string();
    let record: Record = text.parse().expect("a record");
    record.replay().expect("the same run");
    let edited = text.replace("\"place\":2", "\"place\":3");
    assert_ne!(edited, text);
    let record: Record = edited.parse().expect("a record");
    let error = record.replay().map(drop).expect_err("it is refused").to_string();
    assert!(error.contains("socket of companion `fs`"), "{error}");
}

#[test]
fn a_host_that_cannot_probe_a_socket_fails_the_launch() {
    let mut rig = Rig::new(config().companion(bus()));
    rig.held = |effect| matches!(effect, Effect::Companion(_, CompanionEffect::Probe));
    rig.launch();
    let fault = crate::rig::fault("probe");
    rig.handle(Input::Companion(0, CompanionInput::ProbeFailed(fault.clone())));
    rig.pass(Duration::from_secs(1));
    let failure = CompanionFailure::Host(fault);
    assert_eq!(rig.failure(), LaunchFailure::Companion { name: "bus".into(), failure });
    assert!(rig.outcome().companions[0].exit.is_some(), "it was ended: {}", rig.outcome());
}

//! Tests of the grace of a companion: how long it may take to end by itself after QEMU has ended, before it gets SIGTERM.

use std::time::Duration;

use crate::rig::{Rig, config, secs};
use qemu_machine_core::{Companion, CompanionEffect, CompanionInput, Effect, ExitStatus, Input, Shutdown, Signal};

fn is_terminated(rig: &Rig) -> bool {
    let is_sigterm =
        |effect: &Effect| matches!(effect, Effect::Companion(0, CompanionEffect::Signal(Signal::Terminate)));
    rig.effects.iter().any(is_sigterm)
}

/// Returns a machine whose QEMU has ended, and its companion not.
fn ended(companion: Companion) -> Rig {
    let mut rig = Rig::ready(config().companion(companion));
    // The host does not report the end of the companion by itself.
    rig.held = |effect| matches!(effect, Effect::Companion(..));
    rig.shutdown(Shutdown::default());
    rig.exits(ExitStatus::Code(0));
    rig.closes_all();
    rig
}

#[test]
fn a_companion_gets_sigterm_after_its_grace_and_not_before() {
    let with_socket = || Companion::new("fs", "virtiofsd").listener("--fd=").chardev("fs");
    let without = || Companion::new("sleeper", "sleep").arg("600");
    for (companion, grace) in [
        (with_socket(), secs(1)),
        (with_socket().grace(secs(3)), secs(3)),
        (with_socket().grace(Duration::ZERO), Duration::ZERO),
        (without(), Duration::ZERO),
        (without().grace(secs(3)), secs(3)),
    ] {
        let mut rig = ended(companion.clone());
        if let Some(before) = grace.checked_sub(Duration::from_millis(1)) {
            rig.pass_exactly(before);
            assert!(!is_terminated(&rig), "{companion:?}");
            rig.pass_exactly(Duration::from_millis(1));
        }
        assert!(is_terminated(&rig), "{companion:?}");
    }
}

#[test]
fn a_companion_that_ends_within_its_grace_gets_no_signal() {
    let mut rig = ended(Companion::new("sleeper", "sleep").arg("600").grace(secs(3)));
    rig.pass_exactly(secs(2));
    rig.handle(Input::Companion(0, CompanionInput::Exited(ExitStatus::Code(0))));
    assert_eq!(rig.outcome().companions[0].exit, Some(ExitStatus::Code(0)));
    assert!(!is_terminated(&rig));
}

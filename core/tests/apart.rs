//! Tests that similar things stay distinct: waits of one kind, consoles, and the wrappers of a command.

use crate::rig::{Rig, config};
use qemu_machine_core::{Channel, Input, OutOfBand, Wait, WithRawReply, json};

#[test]
fn each_wait_has_its_own_id() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let stop = rig.wait(&mark, [Wait::event("STOP")]);
    let resume = rig.wait(&mark, [Wait::event("RESUME")]);
    assert_ne!(stop, resume);
    rig.happens("RESUME");
    assert!(rig.vm.claim_wait(stop).is_none());
    assert!(rig.vm.claim_wait(resume).expect("it came").is_ok());
}

#[test]
fn output_is_found_on_its_own_console_only() {
    let mut rig = Rig::ready(config().serial("other"));
    let mark = rig.vm.mark();
    let waits = ["tty", "other"].map(|console| rig.wait(&mark, [Wait::output(console)]));
    rig.handle(Input::Received(Channel::Console(1), b"boot"));
    assert!(rig.vm.claim_wait(waits[0]).is_none());
    assert!(rig.vm.claim_wait(waits[1]).expect("it was printed").is_ok());
}

/// A wrapper changes one property of a command, and keeps the others.
#[test]
fn wrappers_of_a_command_combine() {
    let mut rig = Rig::ready_oob(config());
    let _yank = rig.issue(WithRawReply(OutOfBand(("yank", json!({"instances": []})))));
    assert_eq!(rig.take_sent(), r#"{"exec-oob":"yank","arguments":{"instances":[]},"id":1}"#);
    let _plain = rig.issue(WithRawReply(("eject", json!({"id": "cd"}))));
    assert_eq!(rig.take_sent(), r#"{"execute":"eject","arguments":{"id":"cd"},"id":2}"#);
}

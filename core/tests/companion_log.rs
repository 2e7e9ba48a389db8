//! Tests of the logs of companions: an end is acted upon at once, and announced with its log, which is awaited for a bounded
//! time.

use std::time::Duration;

use crate::rig::{Rig, config};
use qemu_machine_core::{
    Companion, CompanionInput, ExitStatus, FOREVER, Found, Input, Mark, Notice, Shutdown, State, Wait,
};

const FAILED: ExitStatus = ExitStatus::Code(1);

/// Returns a running machine with a companion whose log is not read.
fn unread(companion: Companion) -> Rig {
    let mut rig = Rig::ready(config().companion(companion));
    rig.companion_log = None;
    rig
}

fn fs() -> Companion {
    Companion::new("fs", "virtiofsd").listener("--fd=").chardev("fs")
}

fn read(log: &[u8]) -> Input<'static> {
    Input::Companion(0, CompanionInput::LogRead(log.to_vec()))
}

fn is_announced(rig: &Rig) -> bool {
    rig.notices.contains(&Notice::CompanionEnded(0))
}

#[test]
fn an_end_is_acted_upon_before_its_log_is_read() {
    let mut rig = unread(fs().required());
    rig.handle(Input::Companion(0, CompanionInput::Exited(FAILED)));
    assert_eq!(rig.vm.companion_pid("fs"), Ok(None));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.vm.state(), State::Ending, "a required one ends the machine a second later");
    assert!(!is_announced(&rig));
}

#[test]
fn an_end_is_announced_with_its_log() {
    let mut rig = unread(fs());
    let wait = rig.vm.wait(rig.now, &Mark::default(), [Wait::companion("fs")], FOREVER).expect("it runs");
    rig.handle(Input::Companion(0, CompanionInput::Exited(FAILED)));
    assert!(!is_announced(&rig) && rig.vm.claim_wait(wait).is_none());
    rig.handle(read(b"no luck"));
    assert!(is_announced(&rig));
    let hit = rig.vm.claim_wait(wait).expect("it is over").expect("it is found");
    let Found::Companion(end) = hit.found else { panic!("{hit:?}") };
    assert_eq!((end.exit, &*end.log), (Some(FAILED), "no luck"));
    assert!(end.is_early);
}

/// A log that comes too late is in the outcome all the same.
#[test]
fn a_log_that_is_not_read_in_time_counts_as_empty() {
    let mut rig = unread(fs());
    rig.handle(Input::Companion(0, CompanionInput::Exited(FAILED)));
    rig.pass(Duration::from_millis(1999));
    assert!(!is_announced(&rig));
    rig.pass(Duration::from_millis(1));
    assert!(is_announced(&rig));
    assert_eq!(rig.vm.companion_end("fs").expect("it has one").expect("it has ended").log.len(), 0);
    rig.handle(read(b"at last"));
    let ends = rig.notices.iter().filter(|notice| **notice == Notice::CompanionEnded(0)).count();
    assert_eq!(ends, 1, "it is announced once");
    rig.kill();
    assert_eq!(&*rig.dies(ExitStatus::Code(0)).companions[0].log, "at last");
}

/// The outcome has the log, so it waits for it: two seconds at most, and not at all when the caller does not wait.
#[test]
fn the_end_of_the_machine_waits_for_a_log() {
    for is_abandoned in [false, true] {
        let mut rig = unread(fs());
        rig.shutdown(Shutdown::default());
        rig.exits(ExitStatus::Code(0));
        rig.closes_all();
        rig.handle(Input::Companion(0, CompanionInput::Exited(ExitStatus::Code(0))));
        assert_eq!(rig.vm.outcome(), None);
        if is_abandoned {
            rig.vm.abandon(rig.now);
            rig.serve();
        } else {
            rig.pass(Duration::from_secs(2));
        }
        let outcome = rig.outcome();
        assert_eq!(&*outcome.companions[0].log, "");
        assert!(is_abandoned || outcome.faults.is_empty(), "{outcome:#}");
        assert!(rig.vm.launch(rig.now).is_err(), "its log is outstanding");
        rig.handle(read(b""));
        rig.vm.launch(rig.now).expect("nothing is outstanding");
    }
}

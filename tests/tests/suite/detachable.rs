//! Machines that outlive their program: detached by one handle, and resumed by another.

use std::time::Duration;

use qemu_machine_core::{
    Cause, CommandError, Config, Deadline, ExitStatus, FaultKind, Gap, Identity, LaunchError, LaunchFailure, Mark,
    Misuse, Progress, Rung, Shutdown, State, Wait, json,
};
use qemu_machine_host::{Presence, registered};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, send};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use crate::extra_monitors::{
    g18_an_extra_monitor_outlives_its_program, g18_the_socket_of_another_program_is_not_in_the_identity,
};
use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

fn detachable(scratch: &Scratch) -> Config {
    let config =
        Config::new(qemu()).args(["-machine", "none", "-nodefaults"]).temporary_directory(bytes(scratch.path()));
    config.outlive_parent()
}

fn g18_a_machine_is_detached_and_resumed<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = H::launch(detachable(&scratch)).expect("QEMU starts");
    let identity = machine.identity().expect("the process runs");
    let qemu = Watched::new(identity.pid).expect("the process runs");
    machine.execute("stop", LONG).expect("the monitor answers");
    let outcome = machine.detach().expect("it is detachable");
    assert_eq!((outcome.cause, outcome.exit, outcome.pid), (Cause::Disconnected, None, Some(identity.pid)));
    assert_eq!((machine.pid(), machine.qemu_pid()), (None, None), "no program follows it");
    assert_eq!(machine.execute("cont", LONG), Err(CommandError::Disconnected(Progress::Unsent)));
    drop(machine);
    for _ in 0..2 {
        let mut again = H::launch(Config::resume(identity.clone())).expect("the machine runs on");
        assert_eq!(again.execute("query-status", LONG).expect("the monitor answers")["status"], "paused");
        assert_eq!((again.state(), again.pid()), (State::Running, Some(identity.pid)));
        again.disconnect().expect("it runs");
        assert_eq!(scratch.entries().len(), 1, "the files stay for the next handle");
    }
    let mut last = H::launch(Config::resume(identity.clone())).expect("the machine runs on");
    let mark = Mark::default();
    last.execute("cont", LONG).expect("the monitor answers");
    last.wait_any(&mark, &[Wait::event("RESUME")], LONG).expect("the event comes");
    last.shutdown(Shutdown::default()).expect("the machine was launched");
    qemu.assert_ends_within(PATIENCE);
    assert_eq!(scratch.entries(), [""; 0]);
    H::launch(Config::resume(identity)).map(drop).expect_err("it is gone");
}

fn g18_the_situation_of_a_resumed_machine_is_queried<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = H::launch(detachable(&scratch)).expect("QEMU starts");
    let identity = machine.identity().expect("the process runs");
    machine.execute("stop", LONG).expect("the monitor answers");
    machine.detach().expect("it is detachable");
    drop(machine);
    let mut again = H::launch(Config::resume(identity)).expect("the machine runs on");
    let found = again.run(Gap::before_this_session().resync(), LONG).expect("it is known");
    assert_eq!((found.status.expect("known").status.as_str(), found.unknown), ("paused", vec![]));
    assert_eq!((found.jobs, found.migration, found.failing_disks), (Some(vec![]), None, vec![]));
    again.shutdown(Shutdown::default()).expect("the machine was launched");
}

/// Until it is detached, a detachable machine belongs to its handle: dropping the handle or a shutdown ends it.
fn g18_a_detachable_machine_ends_with_its_handle_until_it_is_detached<H: Hosted>() {
    let scratch = Scratch::create();
    for orderly in [true, false] {
        let mut machine = H::launch(detachable(&scratch)).expect("QEMU starts");
        let qemu = Watched::new(machine.pid().expect("the process runs")).expect("the process runs");
        if orderly {
            let outcome =
                machine.shutdown(Shutdown::within(Duration::from_secs(10))).expect("the machine was launched");
            assert_eq!(outcome.exit, Some(ExitStatus::Code(0)), "{outcome}");
            assert_eq!(machine.detach(), Err(Misuse::NotRunning));
            assert!(machine.identity().is_err());
        }
        drop(machine);
        qemu.assert_ends_within(PATIENCE);
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

/// Launches a machine that has a name, a warning in its log and a log of its console, and detaches from it.
fn left<H: Hosted>(scratch: &Scratch, wrapper: &[&str]) -> (Identity, Watched) {
    let config = detachable(scratch).name("left").args(["-global", "nothing.member=1"]).serial("tty");
    let log = scratch.path().join("tty.log");
    let config = config.console_log("tty", bytes(&log)).wrapper(wrapper.iter().copied());
    let mut machine = H::launch(config).expect("QEMU starts");
    let identity = machine.identity().expect("the process runs");
    let qemu = Watched::new(machine.qemu_pid().expect("it has greeted")).expect("the process runs");
    machine.detach().expect("it is detachable");
    (identity, qemu)
}

fn resume<H: Hosted>(identity: &Identity) -> H {
    H::launch(Config::resume(identity.clone()).launch_within(PATIENCE)).expect("the machine runs on")
}

fn g35_a_resumed_machine_has_its_process_its_log_and_its_names<H: Hosted>() {
    let scratch = Scratch::create();
    for wrapper in [&[][..], &["sh", "-c", "\"$@\"; exit $?", "sh"]] {
        let (identity, qemu) = left::<H>(&scratch, wrapper);
        let mut machine = resume::<H>(&identity);
        assert_eq!((machine.pid(), machine.name()), (Some(identity.pid), "left".to_owned()));
        assert_eq!(machine.qemu_pid() == machine.pid(), wrapper.is_empty());
        let line = machine.command_line().to_string();
        assert!(line.contains("nothing.member=1"), "{line}");
        let log = String::from_utf8(machine.log(4096)).expect("QEMU prints UTF-8");
        assert!(log.contains("warning"), "{log}");
        assert_eq!(machine.log_path(), identity.log.clone().map(Into::into));
        assert_eq!(machine.console_logs(), [("tty".to_owned(), scratch.path().join("tty.log"))]);
        // It can be left again, with the same identity, and ended like any other.
        assert_eq!(machine.identity().as_ref(), Ok(&identity));
        machine.detach().expect("it is ours");
        let mut machine = resume::<H>(&identity);
        let outcome = machine.shutdown(Shutdown::within(PATIENCE)).expect("it was launched");
        assert_eq!(
            (&outcome.cause, outcome.exit),
            (&Cause::Asked(Rung::Quit), Some(status(ExitStatus::Code(0)))),
            "{outcome}"
        );
        assert!(outcome.log.contains("warning"), "{outcome}");
        qemu.assert_ends_within(PATIENCE);
        assert_eq!(scratch.entries(), ["tty.log"], "the log of the console stays");
    }
}

/// The kernel reports the exit status of a process that is no child from Linux 6.15 on.
fn status(status: ExitStatus) -> ExitStatus {
    if qemu_machine_tests::has_status_of_others() { status } else { ExitStatus::Unknown }
}

fn g35_a_resumed_machine_is_killed_and_ends_with_its_handle<H: Hosted>() {
    let scratch = Scratch::create();
    for is_dropped in [true, false] {
        let (identity, qemu) = left::<H>(&scratch, &[]);
        let mut machine = resume::<H>(&identity);
        if !is_dropped {
            let outcome = machine.kill().expect("it is ours");
            let is_killed = |exit| matches!(exit, ExitStatus::Signal { number: 9, .. } | ExitStatus::Unknown);
            assert!(outcome.exit.is_some_and(is_killed), "{outcome:?}");
            assert_eq!(outcome.cause, Cause::Asked(Rung::Kill), "{outcome:?}");
        }
        drop(machine);
        qemu.assert_ends_within(PATIENCE);
        assert_eq!(scratch.entries(), ["tty.log"]);
    }
}

/// The whole ladder is for a resumed machine, with the signals.
fn g35_a_resumed_machine_that_does_not_answer_is_killed<H: Hosted>() {
    let scratch = Scratch::create();
    let (identity, qemu) = left::<H>(&scratch, &[]);
    let mut machine = resume::<H>(&identity);
    send(identity.pid, Signal::STOP);
    let policy = Shutdown::within(Duration::ZERO).quit(Duration::from_millis(20)).terminate(Duration::from_millis(20));
    let outcome = machine.shutdown(policy).expect("it was launched");
    assert_eq!(outcome.rungs, [Rung::Quit, Rung::Terminate, Rung::Kill], "{outcome}");
    assert_eq!(outcome.cause, Cause::Asked(Rung::Kill), "{outcome}");
    qemu.assert_ends_within(PATIENCE);
    assert_eq!(scratch.entries(), ["tty.log"]);
}

fn g35_a_crash_of_a_resumed_machine_is_told_from_a_closed_monitor<H: Hosted>() {
    let scratch = Scratch::create();
    let (identity, _qemu) = left::<H>(&scratch, &[]);
    let mut machine = resume::<H>(&identity);
    send(identity.pid, Signal::SEGV);
    let outcome = machine.wait(PATIENCE.into()).expect("it ends");
    if qemu_machine_tests::has_status_of_others() {
        assert_eq!(outcome.cause, Cause::Signal { number: Some(11), sender: None }, "{outcome:?}");
    } else {
        assert_eq!((&outcome.cause, outcome.exit), (&Cause::Unknown, Some(ExitStatus::Unknown)), "{outcome:?}");
    }
    assert!(outcome.log.contains("warning"), "{outcome}");
    assert_eq!(scratch.entries(), ["tty.log"]);
}

fn g35_the_last_words_of_a_machine_that_died_in_between_are_reported<H: Hosted>() {
    let scratch = Scratch::create();
    let (identity, qemu) = left::<H>(&scratch, &[]);
    send(identity.pid, Signal::KILL);
    qemu.assert_ends_within(PATIENCE);
    let error = H::launch(Config::resume(identity.clone())).map(drop).expect_err("it is dead");
    let LaunchError::Failed { failure, outcome } = error else { panic!("{error}") };
    assert!(matches!(failure, LaunchFailure::Exited(_)), "{failure}");
    assert!(outcome.log.contains("warning") && outcome.exit.is_some(), "{outcome:?}");
    assert_eq!(scratch.entries(), ["tty.log"], "who finds it removes its files");
    assert!(!is_registered(&identity));
}

/// A machine that cannot be resumed is left as it is.
fn g35_what_is_not_the_machine_is_neither_killed_nor_removed<H: Hosted>() {
    let scratch = Scratch::create();
    let (identity, qemu) = left::<H>(&scratch, &[]);
    let (other, bystander) = left::<H>(&scratch, &[]);
    let refused = |identity: &Identity| match H::launch(Config::resume(identity.clone())).map(drop) {
        Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), .. }) => fault,
        other => panic!("{other:?}"),
    };
    // The process of one machine, and the monitor of another: what is sent there is not from that process.
    let mut forged = identity.clone();
    (forged.pid, forged.started) = (other.pid, other.started);
    let fault = refused(&forged);
    assert_eq!(fault.kind, FaultKind::Gone, "{fault}");
    assert!(fault.to_string().contains("which is not the machine"), "{fault}");
    // A process with the id of the machine, started later.
    forged = identity.clone();
    forged.started += 1;
    assert_eq!(refused(&forged).kind, FaultKind::Gone);
    for (identity, process) in [(identity, qemu), (other, bystander)] {
        let mut machine = resume::<H>(&identity);
        assert_eq!(machine.execute("query-status", LONG).expect("the monitor answers")["running"], true);
        machine.kill().expect("it is ours");
        process.assert_ends_within(PATIENCE);
    }
}

fn g35_an_identity_of_an_earlier_version_is_resumed<H: Hosted>() {
    let scratch = Scratch::create();
    let (identity, _qemu) = left::<H>(&scratch, &[]);
    let Identity { boot, pid, started, monitor, socket, directory, .. } = identity.clone();
    let first = json!({
        "boot": boot, "pid": pid, "started": started, "monitor": monitor, "socket": socket, "directory": directory,
    });
    let first: Identity = serde_json::from_value(first).expect("it is the first form");
    let mut machine = resume::<H>(&first);
    assert!(String::from_utf8_lossy(&machine.log(4096)).contains("warning"));
    machine.detach().expect("it is ours");
    let mut later = serde_json::to_value(&identity).expect("it is plain data");
    later["version"] = json!(Identity::VERSION + 1);
    later["member"] = json!("of a later version");
    let later = serde_json::from_value(later).expect("what is not known is ignored");
    let refused = H::launch(Config::resume(later)).map(drop).expect_err("it is refused").to_string();
    assert!(refused.contains(&format!("version {}", Identity::VERSION + 1)), "{refused}");
    resume::<H>(&identity).kill().expect("it is ours");
}

fn registered_as(identity: &Identity) -> Option<Presence> {
    let all = registered().expect("the registry can be read");
    all.into_iter().find(|machine| &machine.identity == identity).map(|machine| machine.presence)
}

fn is_registered(identity: &Identity) -> bool {
    registered_as(identity).is_some()
}

fn g35_machines_that_outlive_their_programs_are_listed<H: Hosted>() {
    let scratch = Scratch::create();
    let mut machine = H::launch(detachable(&scratch)).expect("QEMU starts");
    let identity = machine.identity().expect("the process runs");
    let qemu = Watched::new(identity.pid).expect("the process runs");
    assert_eq!(registered_as(&identity), Some(Presence::InUse));
    machine.detach().expect("it is detachable");
    assert_eq!(registered_as(&identity), Some(Presence::Left));
    let mut machine = resume::<H>(&identity);
    assert_eq!(registered_as(&identity), Some(Presence::InUse));
    machine.shutdown(Shutdown::default()).expect("it was launched");
    assert_eq!(registered_as(&identity), None);
    qemu.assert_ends_within(PATIENCE);

    let (identity, qemu) = left::<H>(&scratch, &[]);
    send(identity.pid, Signal::KILL);
    qemu.assert_ends_within(PATIENCE);
    assert_eq!(registered_as(&identity), Some(Presence::Ended));
    H::launch(Config::resume(identity.clone())).map(drop).expect_err("it is dead");
    assert_eq!(registered_as(&identity), None);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g18_an_extra_monitor_outlives_its_program
            g18_the_socket_of_another_program_is_not_in_the_identity
            g18_a_machine_is_detached_and_resumed
            g18_the_situation_of_a_resumed_machine_is_queried
            g18_a_detachable_machine_ends_with_its_handle_until_it_is_detached
            g35_a_resumed_machine_has_its_process_its_log_and_its_names
            g35_a_resumed_machine_is_killed_and_ends_with_its_handle
            g35_a_resumed_machine_that_does_not_answer_is_killed
            g35_a_crash_of_a_resumed_machine_is_told_from_a_closed_monitor
            g35_the_last_words_of_a_machine_that_died_in_between_are_reported
            g35_what_is_not_the_machine_is_neither_killed_nor_removed
            g35_an_identity_of_an_earlier_version_is_resumed
            g35_machines_that_outlive_their_programs_are_listed
        }
    };
}

rows!(stories);

//! Machines that outlive their program: detached by one handle, and resumed by another.

use std::time::Duration;

use qemu_machine_core::{Cause, Config, Deadline, Gap, Mark, Misuse, Shutdown, State, Wait};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes};
use qemu_machine_tests::{PATIENCE, qemu};

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
    assert_eq!((outcome.cause, outcome.exit, machine.pid()), (Cause::Disconnected, None, None));
    assert_eq!(machine.execute("cont", LONG), Err(Misuse::Ended.into()));
    drop(machine);
    for _ in 0..2 {
        let mut again = H::launch(Config::resume(identity.clone())).expect("the machine runs on");
        assert_eq!(again.execute("query-status", LONG).expect("the monitor answers")["status"], "paused");
        assert_eq!((again.state(), again.pid()), (State::Running, None));
        again.disconnect().expect("the machine is not ours");
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
            assert_eq!(outcome.exit, Some(qemu_machine_core::ExitStatus::Code(0)), "{outcome}");
            assert_eq!(machine.detach(), Err(Misuse::NotRunning));
            assert!(machine.identity().is_err());
        }
        drop(machine);
        qemu.assert_ends_within(PATIENCE);
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g18_a_machine_is_detached_and_resumed
            g18_the_situation_of_a_resumed_machine_is_queried
            g18_a_detachable_machine_ends_with_its_handle_until_it_is_detached
        }
    };
}

rows!(stories);

//! Stories of the state of a machine that is queried after events were missed.

use std::time::Duration;

use qemu_machine_core::procedure::{DiskFailure, FollowJob, JobEnd, Migrate, Resync};
use qemu_machine_core::{Config, Deadline, Gap, Mark, Wait, json};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// A machine whose firmware boots from a disk, of which each read finds no space. That stops the guest.
fn with_a_failing_disk() -> Config {
    let disk = json!({
        "driver": "blkdebug", "node-name": "full", "image": {"driver": "null-co", "size": 1 << 20},
        "inject-error": [{"event": "none", "iotype": "read", "errno": 28}],
    });
    let config = Config::new(qemu()).args(["-machine", "pc", "-nodefaults", "-accel", "tcg", "-m", "16", "-S"]);
    config.args(["-blockdev", &disk.to_string(), "-device", "ide-hd,drive=full,id=disk,rerror=stop"])
}

fn the_situation_of_a_machine_is_queried<H: Hosted>() {
    let mut machine = H::launch(with_a_failing_disk()).expect("QEMU starts");
    let calm = machine.run(Resync::new(), LONG).expect("it is known");
    assert_eq!(calm.status.expect("known").status, "prelaunch");
    assert_eq!((calm.jobs, calm.migration, calm.failing_disks, calm.unknown), (Some(vec![]), None, vec![], vec![]));

    machine.execute("cont", LONG).expect("the monitor answers");
    machine.wait_any(&Mark::default(), &[Wait::event("STOP")], LONG).expect("the disk fails");
    for name in ["from", "to"] {
        let node = json!({"driver": "null-co", "node-name": name, "size": 1 << 20});
        machine.execute_with("blockdev-add", node).expect("the node is added");
    }
    let mirror = json!({"job-id": "copy", "device": "from", "target": "to", "sync": "full"});
    assert_eq!(machine.run(FollowJob::of(&("blockdev-mirror", mirror), "copy"), LONG), Ok(JobEnd::Ready));
    let scratch = Scratch::create();
    let nowhere = format!("unix:{}/migration", scratch.path().display());
    machine.run(Migrate::to(nowhere), LONG).expect_err("no QEMU listens there");

    let found = machine.run(Gap::before_this_session().resync(), LONG).expect("it is known");
    assert_eq!(found.unknown, []);
    assert_eq!(found.status.expect("known").status, "io-error");
    let jobs = found.jobs.expect("known");
    assert_eq!((&*jobs[0].id, &*jobs[0].status, jobs.len()), ("copy", "ready", 1));
    let migration = found.migration.expect("there was one");
    assert_eq!(migration.status, "failed");
    let [disk] = &*found.failing_disks else { panic!("{:?}", found.failing_disks) };
    assert_eq!((disk.failure.clone(), disk.node.as_deref()), (DiskFailure::NoSpace, Some("full")));
    assert!(disk.qdev.as_deref().is_some_and(|qdev| qdev.contains("disk")), "{disk:?}");
    // The events after the queries are found from the mark.
    machine.execute_with("job-cancel", json!({"id": "copy"})).expect("the job exists");
    let gone = Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "copy", "status": "null"}));
    machine.wait_any(&found.mark, &[gone], LONG).expect("the job ends");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            the_situation_of_a_machine_is_queried
        }
    };
}

rows!(stories, strict);

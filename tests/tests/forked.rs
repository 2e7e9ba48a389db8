//! Tests of programs that fork: what a child does with the machines of its parent is refused, and the parent notices
//! nothing.
//!
//! Each test forks while a thread of the parent holds the lock of the machine, as a thread that the child lacks may do.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use fork::Fork;
use qemu_machine_blocking::{Cause, CommandError, Config, Misuse, Rung, Shutdown, State, Vm, Wait, WaitError};
use qemu_machine_core::{Deadline, Mark, Notice};
use qemu_machine_host::Shared;
use qemu_machine_host::tasks::{self, Reactor};
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::appended::Appended;
use qemu_machine_tests::leak_check::{Watched, alone};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// The exit status of a child that has done everything.
const DONE: i32 = 42;

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// Runs a closure in a forked child, and asserts that it returned true. The child prints nothing: a thread of the parent
/// may hold the lock of the standard output.
fn in_child(act: impl FnOnce() -> bool) {
    match fork::fork().expect("a process can be created") {
        Fork::Child => {
            let is_right = act();
            std::process::exit(if is_right { DONE } else { 1 });
        }
        Fork::Parent(pid) => {
            let child = Watched::new(pid.unsigned_abs()).expect("the child was not reaped");
            child.assert_ends_within(LONG);
            let pid = Pid::from_raw(pid).expect("it is the id of a process");
            let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).expect("it is our child");
            assert_eq!(ended.and_then(|ended| ended.exit_status()), Some(DONE), "what the child did is wrong");
        }
    }
}

/// Does everything that a child can do with a machine of its parent, and returns whether each call was refused or
/// returned nothing.
fn is_refused(vm: Vm) -> bool {
    let refused = Err(Misuse::Forked);
    let queries = [vm.state() == State::Idle, vm.pid().is_none(), vm.outcome().is_none(), vm.mark() == Mark::default()];
    let log = vm.log(100).is_ok_and(|log| log.is_empty());
    let command = matches!(vm.execute("stop"), Err(CommandError::Misuse(Misuse::Forked)));
    let wait = matches!(vm.wait(LONG), Err(WaitError::Misuse(Misuse::Forked)));
    let events = vm.wait_any(&Mark::default(), [Wait::event("STOP")], LONG);
    let waits = wait && matches!(events, Err(WaitError::Misuse(Misuse::Forked)));
    let ends = [
        vm.shutdown(Shutdown::default()).map(drop),
        vm.kill().map(drop),
        vm.disconnect().map(drop),
        vm.detach().map(drop),
    ];
    let is_shown = format!("{vm:?}").contains("Idle");
    let relaunch = vm.relaunch().is_err();
    drop(vm);
    queries == [true; 4] && log && command && waits && ends.iter().all(|end| *end == refused) && is_shown && relaunch
}

#[test]
fn g36_a_child_leaves_the_machine_of_its_parent_alone() {
    let _alone = alone();
    bounded(|| {
        let vm = Vm::launch(config()).unwrap_or_else(|error| panic!("{error}"));
        let mut events = vm.events([Wait::event("STOP")]).unwrap();
        vm.shared().with_machine(|_| {
            let copy = vm.clone();
            in_child(move || is_refused(copy));
        });
        // The last handle of a child, and a subscription.
        let moved = (vm.clone(), vm.events([Wait::any_event()]).unwrap());
        in_child(move || {
            drop(moved);
            true
        });
        vm.execute("stop").unwrap();
        assert_eq!(events.next(LONG).unwrap().name(), "STOP");
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

/// A machine that refuses its shutdown does not keep the others from theirs.
#[test]
fn a_child_shuts_its_own_machine_down_beside_one_of_its_parent() {
    let _alone = alone();
    bounded(|| {
        let vm = Vm::launch(config()).unwrap_or_else(|error| panic!("{error}"));
        in_child(|| {
            let Ok(own) = Vm::launch(config()) else { return false };
            let refused = Vm::shutdown_all([&vm, &own], Shutdown::within(LONG));
            matches!(refused, Err(Misuse::Forked)) && own.wait(LONG).is_ok()
        });
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

/// A child has threads of its own for machines of its own.
#[test]
fn g36_a_child_launches_its_own_machine() {
    let _alone = alone();
    bounded(|| {
        let vm = Vm::launch(config()).unwrap_or_else(|error| panic!("{error}"));
        in_child(|| {
            let Ok(own) = Vm::launch(config()) else { return false };
            // So has a child of the child.
            in_child(|| Vm::launch(config()).is_ok_and(|own| own.kill().is_ok()));
            own.execute("query-status").is_ok()
                && own.kill().is_ok_and(|outcome| outcome.cause == Cause::Asked(Rung::Kill))
        });
        vm.execute("query-status").unwrap();
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

/// A child ends no bound of its parent, and has a thread of its own for the logs of its own machines.
#[test]
fn g36_a_child_leaves_the_log_of_its_parent_bounded() {
    const LIMIT: u64 = 64 * 1024;
    // QEMU writes a hundred kilobytes to its log about each reply.
    let launch = || Vm::launch(config().args(["-trace", "visit_*"]).log_limit(LIMIT));
    let fill = |vm: &Vm| {
        let log = Appended::open(Path::new(&format!("/proc/{}/fd/2", vm.pid().expect("it runs"))));
        (0..10).for_each(|_| drop(vm.execute("query-commands")));
        log.wait_until(|file| file.blocks() * 512 <= 2 * LIMIT);
    };
    let _alone = alone();
    bounded(move || {
        let vm = launch().unwrap_or_else(|error| panic!("{error}"));
        in_child(|| {
            drop(vm.clone());
            let Ok(own) = launch() else { return false };
            fill(&own);
            own.kill().is_ok()
        });
        fill(&vm);
        assert_eq!(vm.shutdown(Shutdown::within(LONG)).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

/// The reactor's epoll is shared: a child that unregistered a socket would stop the deliveries to its parent.
async fn a_child_leaves_it_alone<R: Reactor>(vm: &tasks::Vm<R>) {
    let mut events = vm.events([Wait::event("STOP")]).unwrap();
    vm.shared().with_machine(|_| {
        let copy = vm.clone();
        in_child(move || {
            let is_refused = smol::block_on(async {
                let command = matches!(copy.execute("stop").await, Err(CommandError::Misuse(Misuse::Forked)));
                command && copy.kill().await.is_err() && copy.shutdown(Shutdown::default()).await.is_err()
            });
            let is_idle = copy.state() == State::Idle && copy.pid().is_none();
            drop(copy);
            is_refused && is_idle
        });
    });
    vm.execute("stop").await.unwrap();
    assert_eq!(events.next(LONG).await.unwrap().name(), "STOP");
    assert_eq!(vm.shutdown(Shutdown::within(LONG)).await.unwrap().cause, Cause::Asked(Rung::Quit));
}

#[test]
fn g36_a_child_leaves_the_machine_of_a_task_of_smol_alone() {
    let _alone = alone();
    bounded(|| {
        let executor = smol::Executor::new();
        smol::block_on(executor.run(async {
            let launch = qemu_machine_smol::Vm::launch_with(config(), |driver| executor.spawn(driver).detach());
            let vm = launch.await.unwrap_or_else(|error| panic!("{error}"));
            a_child_leaves_it_alone(&vm).await;
        }));
    });
}

#[test]
fn g36_a_child_leaves_the_machine_of_a_task_of_tokio_alone() {
    let _alone = alone();
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let vm = qemu_machine_tokio::Vm::launch(config()).await.unwrap_or_else(|error| panic!("{error}"));
            a_child_leaves_it_alone(&vm).await;
        });
    });
}

#[test]
fn g36_a_child_leaves_the_machine_of_a_loop_alone() {
    let _alone = alone();
    bounded(|| {
        let mut event_loop = EventLoop::new().unwrap();
        let (registry, tokens) = event_loop.parts();
        let mut vms = [qemu_machine_mio::Vm::launch(config(), registry, tokens).unwrap()];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap_or_else(|error| panic!("{error}"));
        let (registry, _) = event_loop.parts();
        let machines = std::cell::RefCell::new(Some(vms));
        in_child(|| {
            let Some([mut vm]) = machines.take() else { return false };
            let refused = Err(Misuse::Forked);
            let command = vm.execute("stop").map(drop) == refused;
            let ends = [vm.kill(), vm.shutdown(Shutdown::default()), vm.disconnect(), vm.relaunch(registry)];
            let turn: Option<Notice> = vm.turn(registry);
            drop(vm);
            command && ends.iter().all(|end| *end == refused) && turn.is_none()
        });
        let mut vms = machines.take().expect("the child took its own copy");
        let ticket = vms[0].execute_by("stop", Deadline::after(LONG)).unwrap();
        event_loop.run(&mut vms, |vms| vms[0].claim(&ticket)).unwrap().unwrap();
        vms[0].shutdown(Shutdown::within(LONG)).unwrap();
        let cause = event_loop.run(&mut vms, |vms| vms[0].outcome().map(|outcome| outcome.cause.clone())).unwrap();
        assert_eq!(cause, Cause::Asked(Rung::Quit));
    });
}

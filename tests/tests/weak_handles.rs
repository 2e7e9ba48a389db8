//! Tests of weak handles: callers that wait for the end through one, on threads and in tasks of two reactors, keep neither
//! the machine nor its files.

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use qemu_machine_core::{Cause, Config, FOREVER, Outcome, Rung, Shutdown, WaitError};
use qemu_machine_host::tasks::{self, wait_for_dropped};
use qemu_machine_smol::Smol;
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use qemu_machine_tokio::Tokio;

/// A machine, and how a caller without an executor waits for it.
trait Machine: Sized + Clone + Send + 'static {
    type Weak: Clone + Send + 'static;

    fn launch(config: Config) -> Self;
    fn pid(&self) -> Option<u32>;
    fn command(&self);
    fn shutdown(&self) -> Outcome;
    fn downgrade(&self) -> Self::Weak;
    fn upgrade(weak: &Self::Weak) -> Option<Self>;
    fn wait(weak: &Self::Weak, within: Duration) -> Result<Outcome, WaitError>;
    fn wait_forever(weak: &Self::Weak) -> Result<Outcome, WaitError>;
    /// Returns when what was dropped is removed.
    fn until_removed();
}

impl Machine for qemu_machine_blocking::Vm {
    type Weak = qemu_machine_blocking::WeakVm;

    fn launch(config: Config) -> Self {
        Self::launch(config).expect("QEMU starts")
    }

    fn pid(&self) -> Option<u32> {
        (**self).pid()
    }

    fn command(&self) {
        self.execute("query-status").expect("the monitor answers");
    }

    fn shutdown(&self) -> Outcome {
        self.shutdown(Shutdown::default()).expect("it was launched")
    }

    fn downgrade(&self) -> Self::Weak {
        self.downgrade()
    }

    fn upgrade(weak: &Self::Weak) -> Option<Self> {
        weak.upgrade()
    }

    fn wait(weak: &Self::Weak, within: Duration) -> Result<Outcome, WaitError> {
        weak.wait(within)
    }

    fn wait_forever(weak: &Self::Weak) -> Result<Outcome, WaitError> {
        weak.wait(FOREVER)
    }

    fn until_removed() {}
}

fn tokio_runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime can be made"))
}

/// Implements [`Machine`] for the tasks of one reactor.
macro_rules! in_tasks {
    ($reactor:ty, $block_on:expr, $spawn:expr) => {
        impl Machine for tasks::Vm<$reactor> {
            type Weak = tasks::WeakVm<$reactor>;

            fn launch(config: Config) -> Self {
                $block_on(Self::launch_with(config, $spawn)).expect("QEMU starts")
            }

            fn pid(&self) -> Option<u32> {
                (**self).pid()
            }

            fn command(&self) {
                $block_on(self.execute("query-status")).expect("the monitor answers");
            }

            fn shutdown(&self) -> Outcome {
                $block_on(self.shutdown(Shutdown::default())).expect("it was launched")
            }

            fn downgrade(&self) -> Self::Weak {
                self.downgrade()
            }

            fn upgrade(weak: &Self::Weak) -> Option<Self> {
                weak.upgrade()
            }

            fn wait(weak: &Self::Weak, within: Duration) -> Result<Outcome, WaitError> {
                $block_on(weak.wait(within))
            }

            fn wait_forever(weak: &Self::Weak) -> Result<Outcome, WaitError> {
                $block_on(weak.wait(FOREVER))
            }

            fn until_removed() {
                assert!(wait_for_dropped(PATIENCE), "the supervisor ends what was dropped");
            }
        }
    };
}

in_tasks!(Smol, smol::block_on, |driver| smol::spawn(driver).detach());
in_tasks!(Tokio, |future| tokio_runtime().block_on(future), |driver| drop(tokio::spawn(driver)));

fn config(logs: &Scratch) -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"]).log_directory(bytes(logs.path()))
}

/// Returns whether this program has a file open in this directory.
fn has_open(directory: &Path) -> bool {
    let open = fs::read_dir("/proc/self/fd").expect("it exists");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|file| file.starts_with(directory))
}

/// Callers that wait, and more than one, so that on threads one leads and others follow.
fn begin_to_wait<M: Machine>(weak: &M::Weak, callers: usize) -> std::sync::mpsc::Receiver<Result<Outcome, WaitError>> {
    let (sender, results) = channel();
    for _ in 0..callers {
        let (weak, sender) = (weak.clone(), sender.clone());
        // Sending fails only when the test has failed.
        thread::spawn(move || drop(sender.send(M::wait_forever(&weak))));
    }
    results
}

fn row_30_the_last_handle_ends_the_machine_although_weak_handles_wait<M: Machine>() {
    for callers in [1, 3] {
        let logs = Scratch::create();
        let vm = M::launch(config(&logs));
        let qemu = Watched::new(vm.pid().expect("it runs")).expect("it runs");
        let weak = vm.downgrade();
        let results = begin_to_wait::<M>(&weak, callers);
        // Meanwhile the callers begin to wait, and the machine is used as if there were none.
        (0..20).for_each(|_| vm.command());
        assert_eq!(M::wait(&weak, Duration::ZERO), Err(WaitError::TimedOut));
        let second = M::upgrade(&weak).expect("there is a handle");
        drop(vm);
        second.command();
        assert!(has_open(logs.path()), "it has a log");
        drop(second);
        qemu.assert_ends_within(PATIENCE);
        for _ in 0..callers {
            let outcome = results.recv_timeout(PATIENCE).expect("the caller is freed").expect("there is an outcome");
            assert_eq!(outcome.cause, Cause::Asked(Rung::Kill));
        }
        M::until_removed();
        assert!(M::upgrade(&weak).is_none(), "no handle is left");
        assert_eq!(M::wait(&weak, Duration::ZERO).expect("it is known").cause, Cause::Asked(Rung::Kill));
        assert!(!has_open(logs.path()), "a weak handle keeps no file");
    }
}

fn row_30_a_weak_handle_sees_each_end<M: Machine>() {
    let logs = Scratch::create();
    let vm = M::launch(config(&logs));
    let weak = vm.downgrade();
    let results = begin_to_wait::<M>(&weak, 2);
    let outcome = vm.shutdown();
    assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
    for _ in 0..2 {
        assert_eq!(results.recv_timeout(PATIENCE).expect("the caller is freed").as_ref(), Ok(&outcome));
    }
    assert!(M::upgrade(&weak).is_some(), "a machine that has ended has handles");
    drop(vm);
    assert_eq!(M::wait_forever(&weak).as_ref(), Ok(&outcome));
    assert!(M::upgrade(&weak).is_none() && !has_open(logs.path()));
}

#[test]
fn row_30_a_weak_handle_keeps_nothing_on_threads() {
    bounded(row_30_the_last_handle_ends_the_machine_although_weak_handles_wait::<qemu_machine_blocking::Vm>);
    bounded(row_30_a_weak_handle_sees_each_end::<qemu_machine_blocking::Vm>);
}

#[test]
fn row_30_a_weak_handle_keeps_nothing_in_tasks_on_smol() {
    bounded(row_30_the_last_handle_ends_the_machine_although_weak_handles_wait::<tasks::Vm<Smol>>);
    bounded(row_30_a_weak_handle_sees_each_end::<tasks::Vm<Smol>>);
}

#[test]
fn row_30_a_weak_handle_keeps_nothing_in_tasks_on_tokio() {
    bounded(row_30_the_last_handle_ends_the_machine_although_weak_handles_wait::<tasks::Vm<Tokio>>);
    bounded(row_30_a_weak_handle_sees_each_end::<tasks::Vm<Tokio>>);
}

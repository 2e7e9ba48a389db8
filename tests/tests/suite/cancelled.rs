//! Stories of launches that are cancelled before the machine is ready: nothing of them is left.

use std::future::Future;
use std::path::{Path, PathBuf};

use qemu_machine_blocking::{Cancel, Vm};
use qemu_machine_core::{Config, LaunchError, LaunchFailure, Monitor};
use qemu_machine_host::tasks;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::leak_check::{Scratch, Watched, mark, marked};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::Harness;
use crate::on_mio::Mio;
use crate::on_tasks::{Executor, Tasks};
use crate::rows;

/// A launch that can be cancelled.
trait CancelLaunch: Harness {
    /// Begins a launch that does not become ready, cancels it once `started` has returned, and returns its error. `None`
    /// means that the launch is a future, which was dropped.
    fn cancel_launch(config: Config, started: impl FnOnce() + Send + 'static) -> Option<LaunchError>;
}

impl CancelLaunch for Vm {
    fn cancel_launch(config: Config, started: impl FnOnce() + Send + 'static) -> Option<LaunchError> {
        let cancel = Cancel::new();
        std::thread::scope(|threads| {
            let launching = threads.spawn(|| cancel.run_until_cancelled(|| Vm::launch(config)));
            started();
            cancel.cancel();
            Some(launching.join().expect("no panic").map(drop).expect_err("it was cancelled"))
        })
    }
}

impl CancelLaunch for Mio {
    fn cancel_launch(config: Config, started: impl FnOnce() + Send + 'static) -> Option<LaunchError> {
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let vm = qemu_machine_mio::Vm::launch(config, registry, tokens).expect("it is valid");
        let mut machine = Self { event_loop, vm };
        machine.until(|vm| vm.machine().pid());
        started();
        machine.vm.kill().expect("it was launched");
        Some(machine.until(|vm| vm.launched()).expect_err("it was cancelled"))
    }
}

impl<E: Executor> CancelLaunch for Tasks<E> {
    fn cancel_launch(config: Config, started: impl FnOnce() + Send + 'static) -> Option<LaunchError> {
        async fn launch<E: Executor>(config: Config) {
            let launched = tasks::Vm::launch_with(config, E::spawn).await.map(drop);
            panic!("the launch is not over: {launched:?}");
        }
        let started: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(smol::unblock(started));
        E::block_on(smol::future::or(launch::<E>(config), started));
        None
    }
}

/// Returns a named pipe (`fifo(7)`).
fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("started");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("it is new");
    path
}

/// QEMU is a program that never dials its monitor, behind a wrapper that stays, with a guard and a private directory.
fn a_launch_that_is_cancelled_leaves_nothing<H: CancelLaunch>() {
    let (files, scratch, mark) = (Scratch::create(), Scratch::create(), mark());
    let fifo = fifo(files.path());
    let script = "sleep \"$2\" & echo started >\"$1\"; wait";
    let wrapper = ["sh", "-c", script, "sh"].map(PathBuf::from);
    let config = Config::new("unused").wrapper(wrapper.iter().chain([&fifo, &PathBuf::from(&mark)]));
    let config = config.monitor(Monitor::Socket).temporary_directory(scratch.path()).launch_within(PATIENCE);
    let error = H::cancel_launch(config, move || drop(std::fs::read(fifo).expect("the wrapper writes to it")));
    if let Some(error) = error {
        let is_cancelled = matches!(error, LaunchError::Failed { failure: LaunchFailure::Cancelled(_), .. });
        assert!(is_cancelled, "{error}");
    }
    assert_eq!(scratch.entries(), [""; 0]);
    // The rest of a process group that got SIGKILL ends soon after.
    let left = marked(&mark).into_iter().filter_map(|pid| Watched::new(pid).ok());
    left.for_each(|process| process.assert_ends_within(PATIENCE));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness: a_launch_that_is_cancelled_leaves_nothing }
    };
}

rows!(stories);

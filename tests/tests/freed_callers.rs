//! Tests of callers that wait while another ends the machine, disconnects or detaches: each is freed at once, on threads
//! and in tasks of three executors. And of calls that are cancelled one by one.
//!
//! QEMU is stopped meanwhile, so that it answers nothing, and no caller has a deadline. A caller that is not freed fails
//! the test.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use qemu_machine_blocking::Cancel;
use qemu_machine_core::procedure::ExecuteAndWait;
use qemu_machine_core::{
    Address, Cause, Config, FOREVER, LaunchError, LaunchFailure, Mark, Misuse, Outcome, Peer, Rung, Shutdown, Wait,
};
use qemu_machine_host::tasks::{Driver, Reactor, Vm};
use qemu_machine_smol::Smol;
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, send, stop};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use qemu_machine_tokio::Tokio;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

/// A machine that several callers share.
trait Machine: Clone + Send + 'static {
    fn launch(config: Config) -> Self;
    fn pid(&self) -> Option<u32>;
    fn command(&self) -> Result<(), String>;
    fn event(&self) -> Result<(), String>;
    fn subscription(&self) -> Result<(), String>;
    fn end(&self) -> Result<Cause, String>;
    fn relaunch(&self) -> Result<(), LaunchError>;
    fn disconnect(&self) -> Result<Outcome, Misuse>;
    fn detach(&self) -> Result<Outcome, Misuse>;
    fn kill(&self) -> Result<Outcome, Misuse>;
    fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse>;
}

fn failed<T>(result: Result<T, impl Debug>) -> Result<(), String> {
    result.map(drop).map_err(|error| format!("{error:?}"))
}

#[derive(Clone)]
struct OnThreads(qemu_machine_blocking::Vm);

impl Machine for OnThreads {
    fn launch(config: Config) -> Self {
        Self(qemu_machine_blocking::Vm::launch(config).expect("QEMU starts"))
    }

    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn command(&self) -> Result<(), String> {
        failed(self.0.execute_by("query-status", FOREVER))
    }

    fn event(&self) -> Result<(), String> {
        failed(self.0.wait_any(&Mark::default(), [Wait::event("RESET")], FOREVER))
    }

    fn subscription(&self) -> Result<(), String> {
        let mut events = self.0.events([Wait::event("RESET")]).map_err(|error| format!("{error:?}"))?;
        failed(events.next(FOREVER))
    }

    fn end(&self) -> Result<Cause, String> {
        self.0.wait(FOREVER).map(|outcome| outcome.cause).map_err(|error| format!("{error:?}"))
    }

    fn relaunch(&self) -> Result<(), LaunchError> {
        self.0.relaunch()
    }

    fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect()
    }

    fn detach(&self) -> Result<Outcome, Misuse> {
        self.0.detach()
    }

    fn kill(&self) -> Result<Outcome, Misuse> {
        self.0.kill()
    }

    fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.0.shutdown(how)
    }
}

/// In tasks of an executor.
struct InTasks<E: Executor>(Vm<E::Reactor>);

impl<E: Executor> Clone for InTasks<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// An executor: where the driver runs, and how a caller waits.
trait Executor: 'static {
    type Reactor: Reactor;

    fn spawn(driver: Driver<Self::Reactor>);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

struct OnSmol;

impl Executor for OnSmol {
    type Reactor = Smol;

    fn spawn(driver: Driver<Smol>) {
        smol::spawn(driver).detach();
    }
}

struct OnAsyncStd;

impl Executor for OnAsyncStd {
    type Reactor = Smol;

    fn spawn(driver: Driver<Smol>) {
        drop(async_std::task::spawn(driver));
    }
}

/// tokio, with the reactor of smol.
struct OnTokio;

impl Executor for OnTokio {
    type Reactor = Smol;

    fn spawn(driver: Driver<Smol>) {
        drop(tokio_runtime().spawn(driver));
    }
}

/// tokio, with its own reactor.
struct Native;

impl Executor for Native {
    type Reactor = Tokio;

    fn spawn(driver: Driver<Tokio>) {
        drop(tokio::spawn(driver));
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio_runtime().block_on(future)
    }
}

fn tokio_runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime can be made"))
}

impl<E: Executor> Machine for InTasks<E> {
    fn launch(config: Config) -> Self {
        Self(E::block_on(Vm::launch_with(config, E::spawn)).expect("QEMU starts"))
    }

    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn command(&self) -> Result<(), String> {
        failed(E::block_on(self.0.execute_by("query-status", FOREVER)))
    }

    fn event(&self) -> Result<(), String> {
        failed(E::block_on(self.0.wait_any(&Mark::default(), [Wait::event("RESET")], FOREVER)))
    }

    fn subscription(&self) -> Result<(), String> {
        let mut events = self.0.events([Wait::event("RESET")]).map_err(|error| format!("{error:?}"))?;
        failed(E::block_on(events.next(FOREVER)))
    }

    fn end(&self) -> Result<Cause, String> {
        E::block_on(self.0.wait(FOREVER)).map(|outcome| outcome.cause).map_err(|error| format!("{error:?}"))
    }

    fn relaunch(&self) -> Result<(), LaunchError> {
        E::block_on(self.0.relaunch_with(E::spawn))
    }

    fn disconnect(&self) -> Result<Outcome, Misuse> {
        E::block_on(self.0.disconnect())
    }

    fn detach(&self) -> Result<Outcome, Misuse> {
        E::block_on(self.0.detach())
    }

    fn kill(&self) -> Result<Outcome, Misuse> {
        E::block_on(self.0.kill())
    }

    fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        E::block_on(self.0.shutdown(how))
    }
}

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

/// A call on a thread of its own.
struct Pending<T>(Receiver<T>);

impl<T: Send + 'static> Pending<T> {
    fn begin<M: Machine>(machine: &M, call: impl FnOnce(&M) -> T + Send + 'static) -> Self {
        let ((begun, begins), (sender, result)) = (channel(), channel());
        let machine = machine.clone();
        thread::spawn(move || {
            begun.send(()).expect("the test waits");
            let result = call(&machine);
            drop(machine);
            // This fails only when the test has failed.
            let _ = sender.send(result);
        });
        begins.recv().expect("the thread starts");
        Self(result)
    }

    fn result(self) -> T {
        self.0.recv_timeout(PATIENCE).expect("the caller is freed")
    }
}

/// Gives callers the time in which they begin to wait: that of some replies of another machine. The results are the same
/// without it, but then a caller may not wait yet when it is let go.
fn until_they_wait() {
    static OTHER: OnceLock<qemu_machine_blocking::Vm> = OnceLock::new();
    let other = OTHER.get_or_init(|| qemu_machine_blocking::Vm::launch(empty()).expect("QEMU starts"));
    (0..20).for_each(|_| drop(other.execute("query-status").expect("the monitor answers")));
}

/// Begins a call of each kind, acts on the machine, and expects that each call returns.
fn frees_each<M: Machine>(machine: &M, act: impl FnOnce(&M) -> Outcome) -> Cause {
    let (commands, events, subscriptions, ends): (Vec<_>, Vec<_>, Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            (
                Pending::begin(machine, M::command),
                Pending::begin(machine, M::event),
                Pending::begin(machine, M::subscription),
                Pending::begin(machine, M::end),
            )
        })
        .collect();
    until_they_wait();
    let cause = act(machine).cause;
    for call in commands.into_iter().chain(events).chain(subscriptions) {
        call.result().expect_err("QEMU answers nothing");
    }
    for end in ends {
        assert_eq!(end.result().as_ref(), Ok(&cause));
    }
    cause
}

fn g33_each_caller_is_freed<M: Machine>() {
    let kill = |machine: &M| machine.kill().expect("it was launched");
    let shutdown =
        |machine: &M| machine.shutdown(Shutdown::within(std::time::Duration::ZERO)).expect("it was launched");
    for end in [kill, shutdown] {
        let machine = M::launch(empty());
        stop(machine.pid().expect("it runs"));
        assert_eq!(frees_each(&machine, end), Cause::Asked(Rung::Kill));
    }

    let scratch = Scratch::create();
    let kept = empty().outlive_parent().temporary_directory(bytes(scratch.path()));
    let machine = M::launch(kept);
    let pid = machine.pid().expect("it runs");
    let qemu = Watched::new(pid).expect("it runs");
    stop(pid);
    let detach = |machine: &M| machine.detach().expect("it may outlive this program");
    assert_eq!(frees_each(&machine, detach), Cause::Disconnected);
    send(pid, Signal::KILL);
    qemu.assert_ends_within(PATIENCE);
    // Who finds it removes it from the registry.
    let all = qemu_machine_host::registered().expect("the registry can be read");
    let left = all.into_iter().find(|machine| machine.identity.pid == pid).expect("it is listed");
    qemu_machine_blocking::Vm::resume(left.identity, PATIENCE).map(drop).expect_err("it has ended");

    let path = scratch.path().join("second");
    let option = [b"unix:", bytes(&path), b",server=on,wait=off"].concat();
    let owner = M::launch(empty().args([b"-qmp".as_slice(), &option]));
    let machine = M::launch(Config::attach(Peer::Dial(Address::unix(bytes(&path)))));
    stop(owner.pid().expect("it runs"));
    let disconnect = |machine: &M| machine.disconnect().expect("another launched it");
    assert_eq!(frees_each(&machine, disconnect), Cause::Disconnected);
}

/// A launch that is given up: its program waits until it is killed, or no process dials.
fn g33_a_relaunch_is_freed<M: Machine>() {
    let scratch = Scratch::create();
    let (second, started) = (scratch.path().join("second"), scratch.path().join("started"));
    mknodat(CWD, &started, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("the directory is writable");
    let script = "[ -e \"$0/second\" ] && { echo > \"$0/started\"; exec sleep 1000; }; exec \"$@\"";
    let config = empty().wrapper([b"sh".as_slice(), b"-c", script.as_bytes(), bytes(scratch.path())]);
    for end in [M::kill, |machine: &M| machine.shutdown(Shutdown::default())] {
        // Without this file, QEMU is started.
        let _ = fs::remove_file(&second);
        let machine = M::launch(config.clone().launch_within(FOREVER));
        machine.kill().expect("it was launched");
        fs::write(&second, "").expect("the directory is writable");
        let relaunch = Pending::begin(&machine, M::relaunch);
        wait_for(&started);
        end(&machine).expect("it was launched");
        match relaunch.result() {
            Err(LaunchError::Failed { failure: LaunchFailure::Cancelled(_), .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until the wrapper writes to the FIFO.
fn wait_for(fifo: &Path) {
    fs::read(fifo).expect("the wrapper writes");
}

#[test]
fn g33_each_caller_is_freed_on_threads() {
    bounded(g33_each_caller_is_freed::<OnThreads>);
    bounded(g33_a_relaunch_is_freed::<OnThreads>);
}

#[test]
fn g33_each_caller_is_freed_in_tasks_on_smol() {
    bounded(g33_each_caller_is_freed::<InTasks<OnSmol>>);
    bounded(g33_a_relaunch_is_freed::<InTasks<OnSmol>>);
}

#[test]
fn g33_each_caller_is_freed_in_tasks_on_tokio_with_the_reactor_of_smol() {
    bounded(g33_each_caller_is_freed::<InTasks<OnTokio>>);
    bounded(g33_a_relaunch_is_freed::<InTasks<OnTokio>>);
}

#[test]
fn g33_each_caller_is_freed_in_tasks_on_tokio() {
    bounded(g33_each_caller_is_freed::<InTasks<Native>>);
    bounded(g33_a_relaunch_is_freed::<InTasks<Native>>);
}

#[test]
fn g33_each_caller_is_freed_in_tasks_on_async_std() {
    bounded(g33_each_caller_is_freed::<InTasks<OnAsyncStd>>);
    bounded(g33_a_relaunch_is_freed::<InTasks<OnAsyncStd>>);
}

/// One caller gives up, whether it leads or follows, and the others go on to their results.
#[test]
fn g33_one_call_is_cancelled() {
    bounded(|| {
        let machine = OnThreads::launch(empty());
        let pid = machine.pid().expect("it runs");
        stop(pid);
        let kept = [Pending::begin(&machine, Machine::command), Pending::begin(&machine, Machine::command)];
        type Call = fn(&OnThreads) -> Result<(), String>;
        let calls: [Call; 4] =
            [Machine::command, Machine::event, Machine::subscription, |machine| machine.end().map(drop)];
        for call in calls.into_iter().cycle().take(12) {
            let cancel = Cancel::new();
            let token = cancel.clone();
            let cancelled = Pending::begin(&machine, move |machine| token.run_until_cancelled(|| call(machine)));
            until_they_wait();
            cancel.cancel();
            assert_eq!(cancelled.result(), Err("Cancelled".to_owned()));
        }
        send(pid, Signal::CONT);
        kept.into_iter().for_each(|call| assert_eq!(call.result(), Ok(())));
        assert_eq!(machine.command(), Ok(()));
        assert_eq!(machine.0.counters().late, 3, "the replies of the commands that were given up");
    });
}

/// The closure may make several calls. The innermost token counts as well as the outer one, and none after its closure.
#[test]
fn g33_a_cancelled_token_ends_each_call_in_its_closure() {
    bounded(|| {
        let machine = OnThreads::launch(empty());
        let (outer, inner) = (Cancel::new(), Cancel::new());
        inner.cancel();
        outer.run_until_cancelled(|| {
            let panicked = std::panic::catch_unwind(|| inner.run_until_cancelled(|| panic!("{:?}", machine.event())));
            assert!(panicked.is_err_and(|panic| panic.downcast_ref() == Some(&"Err(\"Cancelled\")".to_owned())));
            assert_eq!(machine.command(), Ok(()), "the inner one is left, also by a panic");
            outer.cancel();
            Cancel::new().run_until_cancelled(|| assert_eq!(machine.event(), Err("Cancelled".to_owned())));
        });
        assert!(outer.is_cancelled() && inner.is_cancelled());
        assert_eq!(machine.command(), Ok(()));
    });
}

#[test]
fn g33_a_procedure_is_cancelled() {
    bounded(|| {
        let machine = OnThreads::launch(empty());
        let cancel = Cancel::new();
        let token = cancel.clone();
        let wait = Pending::begin(&machine, move |machine| {
            let reset = ExecuteAndWait::new(&"query-status", [Wait::event("RESET")]);
            token.run_until_cancelled(|| failed(machine.0.run(reset, FOREVER)))
        });
        until_they_wait();
        cancel.cancel();
        let error = wait.result().expect_err("it is given up");
        assert!(error.contains("Cancelled"), "{error}");
    });
}

/// A launch that is given up ends its process, which waits for ever.
#[test]
fn g33_a_launch_is_cancelled() {
    bounded(|| {
        let scratch = Scratch::create();
        let started = scratch.path().join("started");
        mknodat(CWD, &started, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("the directory is writable");
        let script = "echo $$ > \"$0\"; exec sleep 1000";
        let config = empty().wrapper([b"sh".as_slice(), b"-c", script.as_bytes(), bytes(&started)]);
        let cancel = Cancel::new();
        let token = cancel.clone();
        let launch = thread::spawn(move || {
            let launch = || qemu_machine_blocking::Vm::launch(config.launch_within(FOREVER));
            token.run_until_cancelled(launch).map(drop)
        });
        let pid = fs::read_to_string(&started).expect("the wrapper writes");
        let sleep = Watched::new(pid.trim().parse().expect("a number")).expect("it runs");
        cancel.cancel();
        match launch.join().expect("no panic") {
            Err(LaunchError::Failed { failure: LaunchFailure::Cancelled(_), .. }) => {}
            other => panic!("{other:?}"),
        }
        sleep.assert_ends_within(PATIENCE);
    });
}

//! Tests of the lifetimes of tokio's runtimes: a machine needs one, may outlive one, and blocks none.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qemu_machine_core::{Cause, Config, LaunchError, Misuse, Monitor, Peer, Rung, Wait, json};
use qemu_machine_host::{Supervisor, descriptor};
use qemu_machine_tests::leak_check::leaving_nothing;
use qemu_machine_tests::null::GREETING;
use qemu_machine_tests::scripted::Script;
use qemu_machine_tests::{PATIENCE, qemu};
use qemu_machine_tokio::tasks::wait_for_dropped;
use qemu_machine_tokio::{Driver, Vm};
use tokio::runtime::{Builder, Runtime};

const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

fn config(directory: &Path) -> Config {
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults"]);
    config.temporary_directory(directory.as_os_str().as_encoded_bytes()).monitor(Monitor::Socket)
}

fn current() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
}

#[test]
fn a_launch_outside_of_a_runtime_is_refused() {
    leaving_nothing(|directory| {
        let launched = smol::future::block_on(Vm::launch(config(directory)));
        assert!(matches!(launched, Err(LaunchError::Misuse(Misuse::NoRuntime))), "{launched:?}");
    });
}

/// tokio itself panics, as it does for its own sockets. The thread that launches sees it, and nothing is left.
#[test]
fn a_runtime_without_timers_or_sockets_leaves_nothing() {
    for has_timers in [false, true] {
        leaving_nothing(move |directory| {
            let mut builder = Builder::new_current_thread();
            let runtime = if has_timers { builder.enable_time().build() } else { builder.build() };
            let runtime = runtime.expect("a runtime can be made");
            let launched = catch_unwind(AssertUnwindSafe(|| runtime.block_on(Vm::launch(config(directory))).map(drop)));
            assert!(launched.is_err(), "{launched:?}");
        });
    }
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nothing() {
    for make in [current, multi] {
        leaving_nothing(move |directory| {
            let runtime = make();
            let vm = runtime.block_on(Vm::launch(config(directory))).expect("QEMU starts");
            let mut events = vm.events([Wait::any_event()]).expect("the filter names events");
            runtime.shutdown_background();
            let outcome = smol::future::block_on(vm.wait(LONG)).expect("the machine ends");
            assert_eq!(outcome.cause, Cause::Asked(Rung::Kill));
            assert!(smol::future::block_on(vm.execute("query-status")).is_err());
            assert!(smol::future::block_on(events.next(LONG)).is_err());
            // Another runtime can launch it again.
            let runtime = make();
            runtime.block_on(vm.relaunch()).expect("QEMU starts again");
            runtime.block_on(vm.execute("query-status")).expect("the monitor answers");
        });
    }
}

/// The driver runs on another runtime than the one whose reactor watches the machine.
#[test]
fn a_machine_ends_with_its_reactor() {
    leaving_nothing(|directory| {
        let (reactor, executor) = (multi(), multi());
        let spawn = |driver: Driver| drop(executor.spawn(driver));
        let vm = reactor.block_on(Vm::launch_with(config(directory), spawn)).expect("QEMU starts");
        executor.block_on(vm.execute("query-status")).expect("the monitor answers");
        reactor.shutdown_background();
        let outcome = executor.block_on(vm.wait(LONG)).expect("the machine ends");
        assert_eq!(outcome.cause, Cause::Asked(Rung::Kill));
    });
}

#[test]
fn two_runtimes_share_two_machines() {
    leaving_nothing(|directory| {
        let runtimes = [multi(), current()];
        let vms = runtimes.each_ref().map(|runtime| runtime.block_on(Vm::launch(config(directory))));
        let [first, second] = vms.map(|vm| vm.expect("QEMU starts"));
        let status = |vm: &Vm| {
            let vm = vm.clone();
            async move { vm.execute("query-status").await.map(|status| status["status"].clone()) }
        };
        // The driver of the second one runs only while its runtime does.
        for vm in [&first, &second] {
            assert_eq!(runtimes[1].block_on(status(vm)).expect("the monitor answers"), "running");
        }
        assert_eq!(runtimes[0].block_on(status(&first)).expect("the monitor answers"), "running");
        runtimes[1].block_on(async { tokio::join!(first.kill(), second.kill()) }).0.expect("it was launched");
    });
}

/// The supervisor's thread while it does nothing: nothing that is left to it goes on.
struct Held {
    release: Sender<()>,
    thread: JoinHandle<()>,
}

impl Held {
    fn hold() -> Self {
        let ((release, released), (held, is_held)) = (channel(), channel());
        let thread = spawn(move || {
            let supervisor = Supervisor::get().expect("a thread can be made");
            let hold = move || {
                held.send(()).expect("the test runs");
                released.recv().expect("the test runs");
            };
            supervisor.run(hold).expect("no panic");
        });
        is_held.recv().expect("the supervisor runs");
        Self { release, thread }
    }

    fn let_run(self) {
        self.release.send(()).expect("it waits");
        self.thread.join().expect("no panic");
    }
}

/// A shell script that writes its process id into the file `$1`, and becomes the program that follows.
const NOTES_ID: &str = r#"echo $$ >"$1"; shift; exec "$@""#;

/// Returns whether a process runs, or has ended and was not reaped.
fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Drops something of a machine while the supervisor does nothing. The process is not reaped before `drop` returns, and
/// the other tasks of the thread have their turns.
fn drops<T>(runtime: &Runtime, pid: u32, dropped: T) {
    let held = Held::hold();
    let turns = runtime.block_on(async {
        let other = tokio::spawn(async {
            let mut turns = 0;
            while turns < 1000 {
                tokio::task::yield_now().await;
                turns += 1;
            }
            turns
        });
        drop(dropped);
        other.await.expect("no panic")
    });
    assert!(exists(pid), "only the supervisor reaps it");
    assert_eq!(turns, 1000);
    held.let_run();
    assert!(wait_for_dropped(PATIENCE));
    assert!(!exists(pid));
}

#[test]
fn a_thread_of_the_executor_does_not_wait_for_what_is_dropped() {
    leaving_nothing(|directory| {
        let runtime = current();
        let vm = runtime.block_on(Vm::launch(config(directory))).expect("QEMU starts");
        drops(&runtime, vm.pid().expect("it runs"), vm);

        let mut driving = None;
        let spawn = |driver| driving = Some(tokio::spawn(driver));
        let vm = runtime.block_on(Vm::launch_with(config(directory), spawn)).expect("QEMU starts");
        let pid = vm.pid().expect("it runs");
        // The runtime drops the driver when it next runs.
        driving.expect("it was spawned").abort();
        drops(&runtime, pid, ());
        assert_eq!(vm.outcome().map(|outcome| outcome.cause), Some(Cause::Asked(Rung::Kill)));

        // The program does not greet, so that the launch is pending. It writes its id into a FIFO.
        let fifo = directory.join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()));
        let wrapper = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(NOTES_ID), OsStr::new("sh"), fifo.as_os_str()];
        let config = Script::new().stall().config(env!("CARGO_BIN_EXE_scripted-qemu"));
        let config = config.wrapper(wrapper.map(|argument| argument.as_encoded_bytes()));
        let launch = runtime.spawn(Vm::launch(config));
        let read = fifo.clone();
        let pid = runtime.block_on(runtime.spawn_blocking(|| std::fs::read_to_string(read))).expect("no panic");
        launch.abort();
        drops(&runtime, pid.expect("it was written").trim().parse().expect("a number"), ());
        std::fs::remove_file(fifo).expect("it exists");
    });
}

#[test]
fn a_command_is_cancelled_by_a_token_and_by_select() {
    leaving_nothing(|directory| {
        current().block_on(async {
            let vm = Vm::launch(config(directory)).await.expect("QEMU starts");
            let token = tokio_util::sync::CancellationToken::new();
            let mark = vm.mark();
            let never = vm.wait_any(&mark, [Wait::event("NEVER")], LONG);
            token.cancel();
            assert!(token.run_until_cancelled(never).await.is_none());
            tokio::select! {
                biased;
                reply = vm.execute("query-status") => assert!(reply.is_err(), "{reply:?}"),
                () = std::future::ready(()) => {}
            }
            assert!(vm.execute("query-status").await.is_ok(), "the connection serves the next caller");
        });
    });
}

/// A request of another task sends what the driver waits to send, before the reactor has reported that there is room. The
/// driver must still be woken by the reply.
#[test]
fn a_reply_is_received_though_another_task_has_sent_the_rest() {
    leaving_nothing(|_| {
        let (mut monitor, ours) = UnixStream::pair().expect("a pair of sockets");
        let (drained, is_drained) = channel();
        let peer = spawn(move || {
            monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).expect("the socket is open");
            let mut buffer = vec![0; 64 << 10];
            let mut is_large = false;
            loop {
                let count = monitor.read(&mut buffer).expect("the socket is open");
                if is_large && buffer[..count].ends_with(b"\"id\":1}") {
                    break;
                }
                is_large |= buffer[..count].windows(5).any(|window| window == b"large");
                if is_large {
                    drained.send(()).expect("the test runs");
                }
            }
            drop(drained);
            monitor.write_all(b"{\"return\": {}, \"id\": 1}\r\n").expect("the socket is open");
            monitor
        });
        let runtime = current();
        runtime.block_on(async {
            let vm = Vm::attach(Peer::Connected(descriptor(ours)), LONG).await.expect("the peer greets");
            let mut large = Box::pin(vm.execute_by(("large", json!({"text": "x".repeat(2 << 20)})), LONG));
            assert!(smol::future::poll_once(large.as_mut()).await.is_none(), "the socket is full");
            // The driver waits for room from here on.
            tokio::task::yield_now().await;
            // The runtime has no turn while this thread waits for the peer.
            while is_drained.recv().is_ok() {
                drop(vm.events([Wait::any_event()]));
            }
            let reply = tokio::time::timeout(LONG / 2, large).await.expect("the driver is woken");
            assert_eq!(reply, Ok(json!({})));
        });
        drop(peer.join().expect("no panic"));
    });
}

/// The last bytes of a peer and its end are one readiness, which tokio reports once.
#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen() {
    leaving_nothing(|_| {
        let (mut monitor, ours) = UnixStream::pair().expect("a pair of sockets");
        monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).expect("the socket is open");
        current().block_on(async {
            let vm = Vm::attach(Peer::Connected(descriptor(ours)), LONG).await.expect("the peer greets");
            // The driver waits. The runtime has no turn between the two.
            tokio::task::yield_now().await;
            monitor.write_all(b"{\"event\": \"STOP\"}\r\n").expect("the socket is open");
            drop(monitor);
            let end = tokio::time::timeout(LONG / 2, vm.wait(LONG)).await.expect("the driver is woken");
            assert!(end.is_ok(), "{end:?}");
        });
    });
}

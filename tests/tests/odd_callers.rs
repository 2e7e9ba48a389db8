//! Tests of unusual callers: endless deadlines, arguments that call the machine, observers that panic, machines in
//! thread-local storage, and children that the caller or the kernel reaps.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_core::{
    Address, Cause, Channel, CommandError, Config, Mark, Misuse, Notice, Peer, Shutdown, State, Wait,
};
use qemu_machine_host::descriptor;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::leak_check::{Scratch, send};
use qemu_machine_tests::null::GREETING;
use qemu_machine_tests::{bounded, qemu};
use rustix::process::Signal;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2);

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

fn blocking() -> qemu_machine_blocking::Vm {
    qemu_machine_blocking::Vm::launch(config()).unwrap_or_else(|error| panic!("{error}"))
}

fn on_smol() -> qemu_machine_smol::Vm {
    smol::block_on(qemu_machine_smol::Vm::launch(config())).unwrap_or_else(|error| panic!("{error}"))
}

fn on_mio(config: Config) -> (EventLoop, qemu_machine_mio::Vm) {
    let mut event_loop = EventLoop::new().unwrap();
    let (registry, tokens) = event_loop.parts();
    let vm = qemu_machine_mio::Vm::launch(config, registry, tokens).unwrap();
    (event_loop, vm)
}

#[test]
fn a_deadline_beyond_the_clock_never_passes() {
    bounded(|| {
        let vm = on_smol();
        let mut wait = pin!(vm.wait(Duration::MAX));
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(smol::block_on(vm.execute_by("query-status", Duration::MAX)).unwrap()["running"], true);
        let vm = blocking();
        assert_eq!(vm.execute_by("query-status", Duration::MAX).unwrap()["running"], true);
        vm.shutdown(Shutdown::within(Duration::MAX)).unwrap();
    });
}

/// An iterator that the caller passes may call the machine.
#[test]
fn arguments_may_call_the_machine() {
    bounded(|| {
        let vm = blocking();
        let things = [Wait::event("STOP"), Wait::end()].into_iter().filter(|_| vm.pid().is_some());
        vm.execute("stop").unwrap();
        assert_eq!(vm.wait_any(&Mark::default(), things, LONG).unwrap().index, 0);
        let vm = on_smol();
        let things = [Wait::event("STOP"), Wait::end()].into_iter().filter(|_| vm.pid().is_some());
        smol::block_on(vm.execute("stop")).unwrap();
        assert_eq!(smol::block_on(vm.wait_any(&Mark::default(), things, LONG)).unwrap().index, 0);
    });
}

/// A waker may run the task at once, inside `wake`, and the task may call the machine.
#[test]
fn g24_a_waker_may_call_the_machine() {
    struct Asks(qemu_machine_smol::Vm);

    impl std::task::Wake for Asks {
        fn wake(self: std::sync::Arc<Self>) {
            assert_ne!(self.0.state(), State::Idle);
        }
    }

    bounded(|| {
        let vm = on_smol();
        let waker = Waker::from(std::sync::Arc::new(Asks(vm.clone())));
        let start = vm.mark();
        let mut stopped = pin!(vm.wait_any(&start, [Wait::event("STOP")], LONG));
        assert!(stopped.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // The event comes before the reply and wakes the wait above.
        smol::block_on(vm.execute("stop")).unwrap();
        assert!(matches!(stopped.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    });
}

/// Reads from a monitor until it has this many requests.
fn read_requests(monitor: &mut UnixStream, count: usize) {
    let mut requests = Vec::new();
    while requests.iter().filter(|byte| **byte == b'}').count() < count {
        let mut piece = [0; 4 << 10];
        let read = monitor.read(&mut piece).unwrap();
        requests.extend_from_slice(&piece[..read]);
    }
}

/// The thread that waits for the descriptors runs the observer. When it panics, another caller waits for them.
#[test]
fn g24_a_panic_of_an_observer_leaves_the_other_callers_a_leader() {
    bounded(|| {
        let (mut monitor, ours) = UnixStream::pair().unwrap();
        let greeting = [GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat();
        monitor.write_all(&greeting).unwrap();
        let vm = qemu_machine_blocking::Vm::attach(Peer::Connected(descriptor(ours)), LONG).unwrap();
        read_requests(&mut monitor, 1);
        let mut is_first = true;
        vm.observe_wire(|_| (), move |_| assert!(!std::mem::take(&mut is_first), "the observer panics once"));
        // A request is sent under the lock, so the caller before leads, and this one follows, when its request is here.
        let mut execute = |deadline| {
            let vm = vm.clone();
            let caller = spawn(move || vm.execute_by("query-name", deadline));
            read_requests(&mut monitor, 1);
            caller
        };
        let (panics, times_out, is_answered) = (execute(LONG), execute(Duration::from_secs(1)), execute(LONG));
        // Not a whole reply: the observer keeps it from the machine.
        monitor.write_all(b"\r\n").unwrap();
        assert!(panics.join().is_err());
        let timeout = times_out.join().unwrap();
        assert!(matches!(timeout, Err(CommandError::TimedOut(..))), "{timeout:?}");
        monitor.write_all(b"{\"return\": {}, \"id\": 3}\r\n").unwrap();
        assert_eq!(is_answered.join().unwrap().unwrap(), qemu_machine_core::json!({}));
    });
}

#[test]
fn a_machine_in_a_thread_local_ends_with_its_thread() {
    thread_local! { static KEPT: RefCell<Option<qemu_machine_blocking::Vm>> = const { RefCell::new(None) }; }

    bounded(|| {
        let ended = spawn(|| KEPT.with_borrow_mut(|kept| *kept = Some(blocking())));
        assert!(ended.join().is_ok());
    });
}

/// Calls that return at once poll no descriptors, so the supervisor must.
#[test]
fn g24_calls_that_never_block_still_notice_the_end() {
    bounded(|| {
        let vm = blocking();
        vm.execute("stop").unwrap();
        let pid = vm.pid().unwrap();
        (0..300).for_each(|_| drop(vm.execute("query-status")));
        let at_once = || vm.wait_any(&Mark::default(), [Wait::event("STOP")], LONG).map(drop);
        at_once().unwrap();
        send(pid, Signal::KILL);
        while vm.outcome().is_none() {
            at_once().unwrap();
        }
        assert_eq!(vm.outcome().map(|outcome| outcome.cause), Some(Cause::Signal { number: Some(9), sender: None }));
    });
}

/// Before its first turn, a loop must not block although something has happened already.
#[test]
fn a_loop_receives_what_happened_before_its_first_turn() {
    bounded(|| {
        // No process listens, which the launch finds at once.
        let (mut event_loop, vm) = on_mio(Config::attach(Peer::Dial(Address::unix("/nowhere/qmp"))));
        assert_eq!(vm.timeout(), Some(Duration::ZERO));
        let mut vms = [vm];
        assert!(event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().is_err());

        let (mut event_loop, vm) = on_mio(config());
        let mut vms = [vm];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        let status = vms[0].execute("query-status").unwrap();
        assert_eq!(vms[0].timeout(), Some(Duration::ZERO), "the request is not sent yet");
        assert_eq!(event_loop.run(&mut vms, |vms| vms[0].claim(&status)).unwrap().unwrap()["running"], true);
    });
}

#[test]
fn a_machine_without_a_monitor_has_its_consoles_on_every_loop() {
    bounded(|| {
        let config = Config::new(qemu()).args(["-S"]).without_monitor().serial("tty");
        let (mut event_loop, vm) = on_mio(config);
        let mut vms = [vm];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        assert_eq!(vms[0].machine().channels(), [Channel::Console(0)]);
    });
}

/// Unclaimed replies are bounded, and disowning a command makes room.
#[test]
fn unclaimed_commands_count_against_the_limit() {
    bounded(|| {
        let mut limits = qemu_machine_core::Limits::default();
        limits.commands = 3;
        let (mut event_loop, vm) = on_mio(config().limits(limits));
        let mut vms = [vm];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        let tickets: Vec<_> = (0..3).map(|_| vms[0].execute("query-status").unwrap()).collect();
        assert_eq!(vms[0].execute("query-status").map(drop), Err(Misuse::TooManyCommands(3)));
        vms[0].disown(tickets[0].id());
        event_loop.run(&mut vms, |vms| vms[0].claim(&tickets[2])).unwrap().unwrap();
        let next = vms[0].execute("query-status").unwrap();
        event_loop.run(&mut vms, |vms| vms[0].claim(&next)).unwrap().unwrap();
    });
}

/// The loop of the documentation: a batch is claimed once directly after the call, and then at its notices alone.
#[test]
fn g24_each_batch_is_claimed_by_its_notices() {
    bounded(|| {
        let mut limits = qemu_machine_core::Limits::default();
        limits.commands = 3;
        let (mut poll, mut events, mut next) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(8), 0);
        let tokens = || {
            next += 1;
            mio::Token(next)
        };
        let mut vm = qemu_machine_mio::Vm::launch(config().limits(limits), poll.registry(), tokens).unwrap();
        let mut run = |vm: &mut qemu_machine_mio::Vm,
                       on_notice: &mut dyn FnMut(&mut qemu_machine_mio::Vm, Notice) -> bool| loop {
            while let Some(notice) = vm.turn(poll.registry()) {
                if on_notice(vm, notice) {
                    return;
                }
            }
            poll.poll(&mut events, vm.timeout()).unwrap();
            events.iter().for_each(|event| assert!(vm.ready(event)));
        };
        let mut execute = |vm: &mut qemu_machine_mio::Vm, count| {
            let mut batch = vm.execute_all(vec!["query-status"; count]);
            let mut replies = vm.claim_all(&mut batch);
            if replies.is_none() {
                run(vm, &mut |vm, notice| {
                    if batch.awaits() == Some(notice) {
                        replies = vm.claim_all(&mut batch);
                    }
                    replies.is_some()
                });
            }
            let is_ok: Vec<_> = replies.unwrap().iter().map(Result::is_ok).collect();
            is_ok
        };
        assert_eq!(execute(&mut vm, 2), [true; 2]);
        assert_eq!(execute(&mut vm, 0), [true; 0]);
        assert_eq!(execute(&mut vm, 5), [true, true, true, false, false]);
        let unclaimed: Vec<_> = (0..3).map(|_| vm.execute("query-status").unwrap()).collect();
        assert_eq!(execute(&mut vm, 2), [false; 2], "{unclaimed:?} fill the limit");
        unclaimed.iter().for_each(|ticket| vm.disown(ticket.id()));
        vm.kill().unwrap();
        assert_eq!(execute(&mut vm, 2), [false; 2]);
    });
}

/// Returns whether the kernel keeps the status of a reaped process (Linux 6.15 or later). An older kernel may have the
/// change as well.
fn keeps_status() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|symbol: char| !symbol.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

/// Ends a machine of the launcher, which is started by this shell command, and asserts that the outcome is complete.
fn assert_ends(command: &str, option: Option<&str>) {
    let scratch = Scratch::create();
    let mut launcher = Command::new("bash")
        .args(["-c", command, "bash", env!("CARGO_BIN_EXE_launcher")])
        .args(option)
        .arg(scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    launcher.stdin.take().unwrap().write_all(b"end\n").unwrap();
    let mut printed = String::new();
    launcher.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(launcher.wait().unwrap().success(), "{printed}");
    assert!(printed.contains("ended by the caller (quit)"), "{printed}");
    let is_unknown = printed.contains("process: exit status unknown");
    assert!(printed.contains("process: exit status 0") || is_unknown && !keeps_status(), "{printed}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// In a program that ignores SIGCHLD, the kernel reaps children (`wait(2)`, NOTES).
#[test]
fn a_program_that_ignores_sigchld_gets_the_exit_status() {
    bounded(|| assert_ends("trap '' CHLD; exec \"$@\"", None));
}

#[test]
fn a_program_that_waits_for_all_children_gets_the_exit_status() {
    bounded(|| assert_ends("exec \"$@\"", Some("--reap")));
}

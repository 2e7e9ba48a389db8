//! Tests of the allocations of the runtimes for a command and for an event, on the thread of the caller.

use std::fs;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qemu_machine_blocking::{Peer, Vm, Wait, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::{GREETING, Wealth, serve};

use super::allocations_for_each;

pub(crate) const LONG: Duration = Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2);

/// A monitor that replies at once. Its thread ends when the connection is closed.
pub(crate) fn null(wealth: Wealth) -> (Peer, JoinHandle<()>) {
    let (peer, ours) = UnixStream::pair().expect("a pair of sockets");
    // A client that disconnects while the server writes causes an error.
    (Peer::Connected(descriptor(ours)), spawn(move || drop(serve(peer, &wealth))))
}

#[test]
fn a_command_on_threads_allocates_nothing() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let vm = Vm::attach(peer, LONG).expect("the machine is attached");
        let ask = || assert!(vm.execute_by(WithRawReply("query-status"), LONG).is_ok());
        (0..100).for_each(|_| ask());
        assert_eq!(allocations_for_each(1000, ask).to_string(), "0");
        drop(vm);
        server.join().expect("the server ended");
    });
}

#[test]
fn a_command_in_a_loop_allocates_nothing() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::attach(peer, LONG, registry, tokens).expect("the configuration is valid");
        let vms = std::slice::from_mut(&mut vm);
        event_loop.run(vms, |vms| vms[0].launched()).expect("the poll works").expect("the machine is attached");
        let mut ask = || {
            let ticket = vms[0].execute(WithRawReply("query-status")).expect("the command is accepted");
            assert!(event_loop.run(vms, |vms| vms[0].claim(&ticket)).expect("the poll works").is_ok());
        };
        (0..100).for_each(|_| ask());
        assert_eq!(allocations_for_each(1000, ask).to_string(), "0");
        drop(vm);
        server.join().expect("the server ended");
    });
}

/// The task, its driver and smol's reactor share one thread, so all are counted. The three allocations for each command
/// are the lists of wakers that the reactor makes in its two polls.
#[test]
fn a_command_in_a_task_allocates_nothing_by_itself() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let executor = smol::LocalExecutor::new();
        let config = qemu_machine_smol::Config::attach(peer).launch_within(LONG);
        let attached = qemu_machine_smol::Vm::launch_with(config, |driver| executor.spawn(driver).detach());
        let vm = smol::block_on(executor.run(attached)).expect("the machine is attached");
        let ask = async |times: u64| {
            for _ in 0..times {
                assert!(vm.execute_by(WithRawReply("query-status"), LONG).await.is_ok());
            }
        };
        smol::block_on(executor.run(ask(100)));
        let counted = allocation_counter::measure(|| smol::block_on(executor.run(ask(1000))));
        assert!(counted.count_total <= 3200, "{}", counted.count_total);
        drop(vm);
        drop(executor);
        server.join().expect("the server ended");
    });
}

/// The task, its driver and tokio's reactor share one thread, so all are counted.
#[test]
fn a_command_in_a_task_of_tokio_allocates_nothing() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let vm = runtime.block_on(qemu_machine_tokio::Vm::attach(peer, LONG)).expect("the machine is attached");
        let ask = async |times: u64| {
            for _ in 0..times {
                assert!(vm.execute_by(WithRawReply("query-status"), LONG).await.is_ok());
            }
        };
        runtime.block_on(ask(100));
        let counted = allocation_counter::measure(|| runtime.block_on(ask(1000)));
        assert_eq!(counted.count_total, 0);
        drop(vm);
        drop(runtime);
        server.join().expect("the server ended");
    });
}

/// A waker that counts its calls.
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>, pub(crate) Waker);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.wake_by_ref();
    }
}

/// Two commands of one task, each poll of which has another waker. If a command called the waker that it replaces, the
/// task would be polled without end while it waits.
#[test]
fn a_command_wakes_its_task_once() {
    bounded(|| {
        let (mut monitor, ours) = UnixStream::pair().expect("a pair of sockets");
        monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).expect("the socket is open");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let wakes = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            let attached = qemu_machine_tokio::Vm::attach(Peer::Connected(descriptor(ours)), LONG).await;
            let vm = attached.expect("the machine is attached");
            let unanswered = |milliseconds| vm.execute_by("query-status", Duration::from_millis(milliseconds));
            let mut both = pin!(smol::future::zip(unanswered(20), unanswered(60)));
            let replies = poll_fn(|context| {
                let waker = Waker::from(Arc::new(Counted(Arc::clone(&wakes), context.waker().clone())));
                both.as_mut().poll(&mut Context::from_waker(&waker))
            });
            let replies = replies.await;
            assert!(matches!(replies, (Err(_), Err(_))), "{replies:?}");
        });
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    });
}

/// Each event that is received is copied once. Events beyond the bound of the queue are counted as missed; both numbers
/// together are all events.
#[test]
fn an_event_that_is_received_allocates_at_most_once() {
    const EVENTS: u64 = 100_000;
    bounded(|| {
        let (peer, server) = null(Wealth { events: EVENTS as usize, ..Wealth::default() });
        let vm = Vm::attach(peer, LONG).expect("the machine is attached");
        let mut events = vm.events([Wait::any_event()]).expect("the filter names events");
        vm.execute_by("flood", LONG).expect("the monitor answers");
        let mut taken = 0;
        let counted = allocation_counter::measure(|| {
            while taken + events.missed() < EVENTS {
                events.next(LONG).expect("there are more");
                taken += 1;
            }
        });
        // A few more allocations are for each read, and for the history while it grows.
        assert!(counted.count_total <= EVENTS + EVENTS / 50, "{} for {taken} events", counted.count_total);
        drop((vm, events));
        server.join().expect("the server ended");
    });
}

/// Returns how often this thread has gone to sleep (`proc_pid_status(5)`).
pub(crate) fn sleeps() -> usize {
    let status = fs::read_to_string("/proc/thread-self/status").expect("Linux reports it");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

/// Threads wait for one event each, and the events are sent one after the other. If each event woke every thread, there
/// would be half as many sleeps as the square of the number of threads.
#[test]
fn g30_an_event_wakes_the_thread_that_waits_for_it() {
    const THREADS: usize = 48;
    bounded(|| {
        let (mut monitor, ours) = UnixStream::pair().expect("a pair of sockets");
        monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).expect("the socket is open");
        let vm = Vm::attach(Peer::Connected(descriptor(ours)), LONG).expect("the machine is attached");
        let mark = vm.mark();
        let (done, is_done) = mpsc::channel();
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (vm, mark, done) = (vm.clone(), mark.clone(), done.clone());
                spawn(move || {
                    done.send(()).expect("the test runs");
                    let before = sleeps();
                    let hit = vm.wait_any(&mark, [Wait::event(format!("EVENT_{number}"))], LONG);
                    let slept = sleeps() - before;
                    assert!(hit.is_ok());
                    done.send(()).expect("the test runs");
                    slept
                })
            })
            .collect();
        (0..THREADS).for_each(|_| is_done.recv().expect("each thread begins"));
        for number in 0..THREADS {
            writeln!(monitor, r#"{{"event": "EVENT_{number}"}}"#).expect("the socket is open");
            is_done.recv().expect("the thread found its event");
        }
        let slept: usize = threads.into_iter().map(|thread| thread.join().expect("it succeeds")).sum();
        // One for each thread, one for each event that the leader waited for, and those for the lock.
        assert!(slept < 8 * THREADS, "{slept}");
    });
}

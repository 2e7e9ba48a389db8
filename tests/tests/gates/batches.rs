//! Tests of what a batch costs on each runtime: sends, receives, allocations and wake-ups, however many commands it has.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Waker};
use std::thread::spawn;

use qemu_machine_blocking::{Peer, Vm, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::{GREETING, Wealth, schema_of};

use super::runtimes::{Counted, LONG, null, sleeps};

/// Commands of a batch. Their replies fit one read.
const BATCH: usize = 64;

/// Batches that are measured.
const ROUNDS: u64 = 100;

/// The allocations of a batch: the list of commands, and the list of results.
const ALLOCATIONS: u64 = 2;

/// Counts of the sends and of the receives of a monitor.
#[derive(Clone, Default)]
struct Pieces([Arc<AtomicUsize>; 2]);

impl Pieces {
    fn observer(&self, direction: usize) -> impl FnMut(&[u8]) + Send + 'static {
        let count = Arc::clone(&self.0[direction]);
        move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the counts since the last call.
    fn take(&self) -> [usize; 2] {
        [0, 1].map(|direction| self.0[direction].swap(0, Ordering::Relaxed))
    }

    /// Runs some batches, and asserts that each takes one send, one receive and a few allocations of this thread.
    fn assert_few(&self, mut run: impl FnMut(u64)) {
        run(20);
        self.take();
        let allocations = allocation_counter::measure(|| run(ROUNDS)).count_total;
        assert_eq!(self.take(), [ROUNDS as usize; 2], "sends and receives");
        assert!(allocations <= ALLOCATIONS * ROUNDS, "{allocations} allocations");
    }
}

fn commands() -> impl Iterator<Item = WithRawReply<&'static str>> {
    std::iter::repeat_n(WithRawReply("query-status"), BATCH)
}

fn assert_answered<T, E>(replies: &[Result<T, E>]) {
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), BATCH);
}

#[test]
fn a_batch_on_threads_is_one_send_one_receive_and_one_sleep() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let vm = Vm::attach(peer, LONG).expect("the machine is attached");
        let pieces = Pieces::default();
        vm.observe_wire(pieces.observer(0), pieces.observer(1));
        let run = |rounds| (0..rounds).for_each(|_| assert_answered(&vm.execute_all_by(commands(), LONG)));
        pieces.assert_few(run);
        let before = sleeps();
        run(ROUNDS);
        // A few more are for the lock, when the supervisor looks at the machine.
        let slept = sleeps() - before;
        assert!(slept <= ROUNDS as usize + 5, "{slept}");
        drop(vm);
        server.join().expect("the server ended");
    });
}

#[test]
fn a_batch_in_a_loop_is_one_send_and_one_receive() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::attach(peer, LONG, registry, tokens).expect("the configuration is valid");
        let vms = std::slice::from_mut(&mut vm);
        event_loop.run(vms, |vms| vms[0].launched()).expect("the poll works").expect("the machine is attached");
        let pieces = Pieces::default();
        vms[0].observe_wire(pieces.observer(0), pieces.observer(1));
        pieces.assert_few(|rounds| {
            for _ in 0..rounds {
                let mut batch = vms[0].execute_all(commands());
                assert_answered(&event_loop.run(vms, |vms| vms[0].claim_all(&mut batch)).expect("the poll works"));
            }
        });
        drop(vm);
        server.join().expect("the server ended");
    });
}

/// The task, its driver and tokio's reactor share one thread, so all allocations are counted.
#[test]
fn a_batch_in_a_task_is_one_send_and_one_receive() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let vm = runtime.block_on(qemu_machine_tokio::Vm::attach(peer, LONG)).expect("the machine is attached");
        let pieces = Pieces::default();
        vm.observe_wire(pieces.observer(0), pieces.observer(1));
        pieces.assert_few(|rounds| {
            runtime.block_on(async {
                for _ in 0..rounds {
                    assert_answered(&vm.execute_all_by(commands(), LONG).await);
                }
            });
        });
        drop(vm);
        drop(runtime);
        server.join().expect("the server ended");
    });
}

/// Negotiates, reads a batch, and replies to each command when the reply before was received.
fn reply_piece_by_piece(mut monitor: UnixStream, is_received: &Receiver<()>) {
    monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).expect("the socket is open");
    let mut requests = String::new();
    // The first is that of the negotiation.
    while requests.matches('}').count() < 1 + BATCH {
        let mut piece = [0; 4 << 10];
        let count = monitor.read(&mut piece).expect("the socket is open");
        requests.push_str(std::str::from_utf8(&piece[..count]).expect("requests are UTF-8"));
    }
    for request in requests.split_inclusive('}').skip(1) {
        let (_, id) = request.rsplit_once(':').expect("each has an id");
        write!(monitor, "{{\"return\": {{}}, \"id\": {id}\r\n").expect("the socket is open");
        is_received.recv().expect("the client receives it");
    }
}

#[test]
fn g24_a_batch_wakes_its_task_once() {
    bounded(|| {
        let (monitor, ours) = UnixStream::pair().expect("a pair of sockets");
        let (received, is_received) = channel();
        let peer = spawn(move || reply_piece_by_piece(monitor, &is_received));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let wakes = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            let attached = qemu_machine_tokio::Vm::attach(Peer::Connected(descriptor(ours)), LONG).await;
            let vm = attached.expect("the machine is attached");
            vm.observe_wire(|_| (), move |_| received.send(()).expect("the peer replies"));
            let mut batch = pin!(vm.execute_all_by(commands(), LONG));
            let replies = poll_fn(|context| {
                let waker = Waker::from(Arc::new(Counted(Arc::clone(&wakes), context.waker().clone())));
                batch.as_mut().poll(&mut Context::from_waker(&waker))
            });
            assert_answered(&replies.await);
        });
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        peer.join().expect("it has replied to all");
    });
}

/// The driver yields to a task that was woken and was not polled since. That of a batch is woken for the last result, also
/// when another future claims one meanwhile.
#[test]
fn g24_the_driver_does_not_wait_for_the_task_of_a_batch() {
    bounded(|| {
        let (peer, server) = null(Wealth { large: schema_of(16 << 20), ..Wealth::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polls);
        runtime.block_on(async {
            let config = qemu_machine_tokio::Config::attach(peer).launch_within(LONG);
            let spawn = |driver: qemu_machine_tokio::Driver| {
                let mut driver = Box::pin(driver);
                drop(tokio::spawn(poll_fn(move |context| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Future::poll(driver.as_mut(), context)
                })));
            };
            let vm = qemu_machine_tokio::Vm::launch_with(config, spawn).await.expect("the machine is attached");
            let before = polls.load(Ordering::Relaxed);
            let other = vm.execute_by(WithRawReply("query-status"), LONG);
            let batch = vm.execute_all_by(["query-status", "large"].map(WithRawReply), LONG);
            let (reply, replies) = tokio::join!(other, batch);
            assert!(reply.is_ok() && replies.iter().all(|reply| reply.is_ok()));
            // It would yield 256 times for each quarter of a megabyte.
            let polls = polls.load(Ordering::Relaxed) - before;
            assert!(polls < 1_000, "{polls}");
        });
        drop(runtime);
        server.join().expect("the server ended");
    });
}

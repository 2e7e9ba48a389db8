//! Tests of how often the callers of one machine sleep when many of them execute commands at once.

use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread::{scope, spawn};

use qemu_machine_blocking::{Peer, Vm, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::{Wealth, serve};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::runtimes::{LONG, sleeps};

/// Commands of all threads together.
const COMMANDS: usize = 6_400;

/// Rounds of which the best counts: on a busy machine, a thread loses its processor while it has the lock.
const ROUNDS: usize = 3;

/// Lets this thread, and those that it starts, run on one processor, as the bench does. On several, how many replies arrive
/// together depends on the machine.
fn stay_on_one_processor() {
    let mut processor = CpuSet::new();
    processor.set(sched_getcpu());
    sched_setaffinity(None, &processor).expect("it is the present one");
}

/// Returns how often a thread sleeps for each of its commands, when so many execute commands.
fn sleeps_for_each(vm: &Vm, threads: usize) -> f64 {
    let (each, begin) = (COMMANDS / threads, Barrier::new(threads));
    let ask = || {
        begin.wait();
        let before = sleeps();
        (0..each).for_each(|_| assert!(vm.execute_by(WithRawReply("query-status"), LONG).is_ok()));
        sleeps() - before
    };
    let slept: usize = scope(|scope| {
        let callers: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        callers.into_iter().map(|caller| caller.join().expect("it succeeds")).sum()
    });
    slept as f64 / (each * threads) as f64
}

/// A caller sleeps once, until its reply is there. A caller that was woken while another had the lock would sleep twice.
#[test]
fn g24_a_command_of_many_threads_sleeps_once() {
    bounded(|| {
        stay_on_one_processor();
        let (peer, ours) = UnixStream::pair().expect("a pair of sockets");
        // A client that disconnects while the server writes causes an error.
        let server = spawn(move || drop(serve(peer, &Wealth::default())));
        let vm = Vm::attach(Peer::Connected(descriptor(ours)), LONG).expect("the machine is attached");
        for threads in [1, 4, 16, 64] {
            let slept = (0..ROUNDS).map(|_| sleeps_for_each(&vm, threads)).fold(f64::MAX, f64::min);
            println!("{threads} threads: {slept:.2} sleeps for a command");
            assert!(slept <= 1.2, "{slept} with {threads} threads");
        }
        drop(vm);
        server.join().expect("the server ended");
    });
}

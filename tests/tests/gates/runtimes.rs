//! Proves what the runtimes allocate for a command and for an event, on the thread of the caller.

use std::os::unix::net::UnixStream;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qemu_machine_blocking::{Peer, Vm, Wait, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::{Wealth, serve};

use super::allocations_for_each;

const LONG: Duration = Duration::from_secs(10);

/// A monitor that answers at once. It is over when it is closed.
fn null(wealth: Wealth) -> (Peer, JoinHandle<()>) {
    let (peer, ours) = UnixStream::pair().expect("a pair of sockets");
    // A client that lets go while the peer writes ends it by an error.
    (Peer::Connected(descriptor(ours)), spawn(move || drop(serve(peer, &wealth))))
}

#[test]
fn a_command_on_threads_allocates_nothing() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let vm = Vm::attach(peer, LONG).expect("it is attached");
        let ask = || assert!(vm.execute_by(WithRawReply("query-status"), LONG).is_ok());
        (0..100).for_each(|_| ask());
        assert_eq!(allocations_for_each(1000, ask).to_string(), "0");
        drop(vm);
        server.join().expect("it ended");
    });
}

#[test]
fn a_command_in_a_loop_allocates_nothing() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let mut event_loop = EventLoop::new().expect("a poll");
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::attach(peer, LONG, registry, tokens).expect("it is a machine");
        let vms = std::slice::from_mut(&mut vm);
        event_loop.run(vms, |vms| vms[0].launched()).expect("it polls").expect("it is attached");
        let mut ask = || {
            let ticket = vms[0].execute(WithRawReply("query-status")).expect("it is accepted");
            assert!(event_loop.run(vms, |vms| vms[0].claim(&ticket)).expect("it polls").is_ok());
        };
        (0..100).for_each(|_| ask());
        assert_eq!(allocations_for_each(1000, ask).to_string(), "0");
        drop(vm);
        server.join().expect("it ended");
    });
}

/// The task and its driver share a thread here with smol's reactor, so that all are counted. The three are the lists of
/// wakers that the reactor makes each time that it looks, and it looks twice.
#[test]
fn a_command_in_a_task_allocates_nothing_by_itself() {
    bounded(|| {
        let (peer, server) = null(Wealth::default());
        let executor = smol::LocalExecutor::new();
        let config = qemu_machine_smol::Config::attach(peer).launch_within(LONG);
        let attached = qemu_machine_smol::Vm::launch_with(config, |driver| executor.spawn(driver).detach());
        let vm = smol::block_on(executor.run(attached)).expect("it is attached");
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
        server.join().expect("it ended");
    });
}

/// Of the events that came in time, each is copied once. What came too late is missed, and counted: together they are
/// all.
#[test]
fn an_event_that_is_taken_allocates_once_at_most() {
    const EVENTS: u64 = 100_000;
    bounded(|| {
        let (peer, server) = null(Wealth { events: EVENTS as usize, ..Wealth::default() });
        let vm = Vm::attach(peer, LONG).expect("it is attached");
        let mut events = vm.events([Wait::any_event()]).expect("it listens");
        vm.execute_by("flood", LONG).expect("it is answered");
        let mut taken = 0;
        let counted = allocation_counter::measure(|| {
            while taken + events.missed() < EVENTS {
                events.next(LONG).expect("there are more");
                taken += 1;
            }
        });
        // Beside each there are some for each read, and for the history where it grows.
        assert!(counted.count_total <= EVENTS + EVENTS / 50, "{} for {taken} events", counted.count_total);
        drop((vm, events));
        server.join().expect("it ended");
    });
}

//! Tests of the allocations of the runtimes for a command and for an event, on the thread of the caller.

use std::os::unix::net::UnixStream;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qemu_machine_blocking::{Peer, Vm, Wait, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::{Wealth, serve};

use super::allocations_for_each;

const LONG: Duration = Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2);

/// A monitor that replies at once. Its thread ends when the connection is closed.
fn null(wealth: Wealth) -> (Peer, JoinHandle<()>) {
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

//! Test of a stranger who dials the monitor over TCP and resets the connection before it is accepted.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use qemu_machine_core::{Address, Config, Monitor};
use qemu_machine_mio::{EventLoop, Vm};
use qemu_machine_tests::{bounded, qemu};
use rustix::net::sockopt::set_socket_linger;

/// The loop does not turn while the stranger connects, so the connection is reset when the host accepts it.
#[test]
fn g37_a_stranger_who_resets_the_connection_is_refused() {
    bounded(|| {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let config = Config::new(qemu()).args(["-machine", "none"]).monitor(Monitor::At(Address::Tcp(free)));
        let mut event_loop = EventLoop::new().unwrap();
        let (registry, tokens) = event_loop.parts();
        let mut vms = [Vm::launch(config, registry, tokens).unwrap()];
        event_loop.run(&mut vms, |vms| vms[0].machine().prepared().monitor.clone()).unwrap();
        let stranger = TcpStream::connect(free).unwrap();
        // Closing it then resets the connection (`socket(7)`, SO_LINGER; Linux, `net/ipv4/tcp.c`, `__tcp_close`).
        set_socket_linger(&stranger, Some(Duration::ZERO)).unwrap();
        drop(stranger);
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
    });
}

//! Tests of the bytes of a request, which is as short as it can be with an id: QEMU reads requests byte by byte
//! (measured with QEMU 7.2.22).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_blocking::{Peer, Value, Vm, json};
use qemu_machine_host::descriptor;
use qemu_machine_tests::bounded;
use qemu_machine_tests::null::GREETING;

/// Returns the request that the peer receives for a command.
fn seen(ask: impl FnOnce(&Vm) + Send + 'static) -> String {
    bounded(|| {
        let (mut peer, ours) = UnixStream::pair().expect("a pair of sockets");
        let client = spawn(move || {
            let vm = Vm::attach(Peer::Connected(descriptor(ours)), Duration::from_secs(60))
                .expect("the machine is attached");
            ask(&vm);
        });
        peer.write_all(GREETING).expect("the write succeeds");
        assert_eq!(hear(&mut peer, b"{\"return\": {}, \"id\": 0}\r\n"), r#"{"execute":"qmp_capabilities","id":0}"#);
        let request = hear(&mut peer, b"{\"return\": {}, \"id\": 1}\r\n");
        client.join().expect("it was answered");
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("it is closed");
        assert_eq!(rest, b"", "no byte follows a request");
        request
    })
}

/// Reads one request and replies to it.
fn hear(peer: &mut UnixStream, reply: &[u8]) -> String {
    let mut request = vec![0; 1024];
    let count = peer.read(&mut request).expect("there is a request");
    peer.write_all(reply).expect("the write succeeds");
    String::from_utf8_lossy(&request[..count]).into_owned()
}

#[test]
fn a_request_is_a_name_and_one_digit() {
    assert_eq!(seen(|vm| drop(vm.execute("query-status"))), r#"{"execute":"query-status","id":1}"#);
}

#[test]
fn empty_arguments_are_left_out() {
    assert_eq!(seen(|vm| drop(vm.execute(("stop", json!({}))))), r#"{"execute":"stop","id":1}"#);
    assert_eq!(seen(|vm| drop(vm.execute(("stop", None::<Value>)))), r#"{"execute":"stop","id":1}"#);
}

#[test]
fn arguments_are_written_without_white_space() {
    let request = seen(|vm| drop(vm.execute(("set-action", json!({"panic": "pause", "reboot": "reset"})))));
    assert_eq!(request, r#"{"execute":"set-action","arguments":{"panic":"pause","reboot":"reset"},"id":1}"#);
}

//! Player of a recorded monitor: a thread that serves one socket until the client hangs up.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use qemu_machine_core::record::Mock;

/// Plays a recorded monitor on a thread, and returns the client's end of the connection, for tests without a QEMU.
///
/// The thread ends when the client hangs up, or where the recorded monitor hung up. It waits for the client without a
/// deadline.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] when the record contains no greeting; any other error when a socket or a thread
/// cannot be created.
///
/// ```
/// # use std::time::Duration;
/// # use qemu_machine_blocking::record::{Mock, Record};
/// # use qemu_machine_blocking::{Peer, Vm, descriptor, play};
/// let record: Record = include_str!("../../runtime-blocking/examples/stopped.jsonl").parse()?;
/// let client = play(Mock::new(&record))?;
/// let vm = Vm::attach(Peer::Connected(descriptor(client)), Duration::from_secs(5))?;
/// assert_eq!(vm.execute("query-status")?["status"], "prelaunch");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn play(mock: Mock) -> io::Result<UnixStream> {
    if mock.greeting().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record contains no greeting of a monitor"));
    }
    let (local, remote) = UnixStream::pair()?;
    // An error means that the client hung up, which ends the thread.
    thread::Builder::new().name("qemu-mock".into()).spawn(move || drop(serve(mock, local)))?;
    Ok(remote)
}

fn serve(mut mock: Mock, mut client: UnixStream) -> io::Result<()> {
    client.write_all(mock.greeting().as_bytes())?;
    let mut received = [0; 4096];
    while !mock.is_over() {
        let count = match client.read(&mut received) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        client.write_all(mock.receive(&received[..count]).as_bytes())?;
    }
    Ok(())
}

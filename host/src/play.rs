//! Player of a recorded monitor: a thread that serves a socket until the client hangs up.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use qemu_machine_core::record::Mock;

/// Plays a recorded monitor, and returns the end of a socket at which it can be spoken with: for tests without a QEMU.
///
/// It answers until the client hangs up, or until it hangs up itself as the recorded monitor did. It waits for the client
/// without a deadline: it is the client's, and ends with it.
///
/// # Errors
///
/// When the record has no monitor that greets, and when the host gives no socket or no thread.
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
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record has no monitor that greets"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    // A client that hangs up ends it; who plays has nothing to report.
    thread::Builder::new().name("qemu-mock".into()).spawn(move || drop(serve(mock, ours)))?;
    Ok(theirs)
}

fn serve(mut mock: Mock, mut client: UnixStream) -> io::Result<()> {
    client.write_all(mock.greeting().as_bytes())?;
    let mut heard = [0; 4096];
    while !mock.is_over() {
        let count = match client.read(&mut heard) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        client.write_all(mock.hear(&heard[..count]).as_bytes())?;
    }
    Ok(())
}

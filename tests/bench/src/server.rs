//! Server process: a null server for each client that connects to the socket on its standard input.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::thread::Builder;

use qemu_machine_tests::null::{self, Wealth, schema_of};

use crate::plan::Workload;

/// Serves until it is killed.
///
/// # Errors
///
/// If the socket accepts no connection.
pub fn serve(workload: &Workload) -> io::Result<()> {
    let wealth = match *workload {
        Workload::Flood(events) => Wealth { events, ..Wealth::default() },
        Workload::Large(bytes, ..) | Workload::Dribble(bytes) => {
            Wealth { large: schema_of(bytes), ..Wealth::default() }
        }
        _ => Wealth::default(),
    };
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    for client in listener.incoming() {
        let (client, wealth) = (client?, wealth.clone());
        // A client that disconnects during a write ends its server thread with an error, which does not matter.
        Builder::new().stack_size(256 << 10).spawn(move || drop(null::serve(client, &wealth)))?;
    }
    Ok(())
}

//! Sockets with an address: sockets that listen, and sockets that connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use qemu_machine_core::{Address, FaultKind, HostFault, MonitorSocket};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, bind, connect, getpeername, getsockname, listen, sockopt};

use crate::fault::fault;
use crate::scratch_dir::{ScratchDir, path};
use crate::sys::{Os, System};

/// The permissions of a socket of the library: the owner alone may connect.
const PRIVATE: u32 = 0o600;

/// Result of dialling an address.
pub(crate) enum Dialled {
    /// Connected. `peer_busy` is whether the peer served another client, if the operating system knows.
    Connected { peer_busy: bool },
    /// The connection is in progress. The socket becomes writable when it is established or has failed (`connect(2)`,
    /// EINPROGRESS).
    Pending,
}

/// Listens at an address for one connection. Returns the real address, also for port 0.
pub(crate) fn listen_at(address: &Address, scratch: &mut ScratchDir) -> Result<(OwnedFd, Address), HostFault> {
    bound(address, scratch).map_err(|error| fault(format!("listen at {address}"), &error))
}

fn bound(address: &Address, scratch: &mut ScratchDir) -> io::Result<(OwnedFd, Address)> {
    match address {
        Address::Unix(bytes) => {
            let name = SocketAddrUnix::new(&**bytes)?;
            let socket = Os::stream_socket(AddressFamily::UNIX)?;
            Os::bind_with_mode(socket.as_fd(), &name, PRIVATE)?;
            scratch.made_socket(path(bytes));
            listen(&socket, 1)?;
            Ok((socket, address.clone()))
        }
        Address::Abstract(bytes) => {
            let socket = Os::stream_socket(AddressFamily::UNIX)?;
            bind(&socket, &Os::abstract_address(bytes)?)?;
            listen(&socket, 1)?;
            Ok((socket, address.clone()))
        }
        Address::Tcp(name) => {
            let socket = Os::stream_socket(family(name))?;
            // Otherwise closed connections of an earlier run keep the port in use. A socket that listens there makes
            // bind fail all the same (`socket(7)`, SO_REUSEADDR).
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(&socket, name)?;
            listen(&socket, 1)?;
            let real = SocketAddr::try_from(getsockname(&socket)?)?;
            Ok((socket, Address::Tcp(real)))
        }
    }
}

/// Creates a socket that listens at a path in a private directory, for a companion. Unlike those of the machine it blocks,
/// as programs expect of a descriptor that they inherit.
pub(crate) fn bind_privately(path: &Path) -> io::Result<OwnedFd> {
    /// QEMU dials once for each chardev, before the companion accepts.
    const BACKLOG: i32 = 8;
    let name = SocketAddrUnix::new(path)?;
    let socket = Os::stream_socket(AddressFamily::UNIX)?;
    Os::bind_with_mode(socket.as_fd(), &name, PRIVATE)?;
    listen(&socket, BACKLOG)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

/// Listens on a Unix socket for other programs, which QEMU will serve. No program can connect before the socket listens
/// (`connect(2)`, ECONNREFUSED), and its permissions are complete by then.
pub(crate) fn listen_for_others(wanted: &MonitorSocket, scratch: &mut ScratchDir) -> Result<OwnedFd, HostFault> {
    let mut bound = || -> io::Result<OwnedFd> {
        let path = path(&wanted.path);
        let name = SocketAddrUnix::new(&*wanted.path)?;
        let socket = Os::stream_socket(AddressFamily::UNIX)?;
        Os::bind_with_mode(socket.as_fd(), &name, wanted.mode)?;
        scratch.made_monitor_socket(path.clone());
        Os::widen_mode(&path, wanted.mode)?;
        listen(&socket, 1)?;
        Ok(socket)
    };
    let address = Address::unix(&*wanted.path);
    bound().map_err(|error| fault(format!("listen at {address} for other programs"), &error))
}

/// Accepts a connection. `None` means that no connection is pending.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match Os::accept(listener.as_fd()) {
        Ok(socket) => {
            // This fails for a Unix socket, which has no such option.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            Ok(Some(socket))
        }
        // No client, a signal, or an error of the connection of one client, which Linux reports here (`accept(2)`).
        // Another client may connect later.
        Err(
            Errno::AGAIN
            | Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Dials an address without blocking. When the backlog of a Unix socket is full, connect fails with EAGAIN instead of
/// EINPROGRESS (`connect(2)`). QEMU listens with a backlog of 1, behind the client that it serves (measured with QEMU
/// 7.2.22).
pub(crate) fn dial(address: &Address) -> io::Result<(OwnedFd, Dialled)> {
    match address {
        Address::Unix(bytes) => dial_unix(&SocketAddrUnix::new(&**bytes)?),
        Address::Abstract(bytes) => dial_unix(&Os::abstract_address(bytes)?),
        Address::Tcp(name) => {
            let socket = Os::stream_socket(family(name))?;
            // Commands are short and their replies are awaited, so the kernel must not collect bytes before it sends
            // (`tcp(7)`, TCP_NODELAY). Otherwise each command may be delayed.
            sockopt::set_tcp_nodelay(&socket, true)?;
            match connect(&socket, name) {
                Ok(()) => Ok((socket, Dialled::Connected { peer_busy: false })),
                Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, Dialled::Pending)),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn dial_unix(address: &SocketAddrUnix) -> io::Result<(OwnedFd, Dialled)> {
    let socket = Os::stream_socket(AddressFamily::UNIX)?;
    let peer_busy = Os::connect_unix(socket.as_fd(), address)?;
    // If that is unknown, the missing greeting shows later that QEMU serves another client.
    Ok((socket, Dialled::Connected { peer_busy: peer_busy.unwrap_or(false) }))
}

/// Dials a Unix socket that QEMU inherited. The kernel names the sender of what is received.
pub(crate) fn dial_naming_sender(address: &Address) -> io::Result<OwnedFd> {
    let (socket, address) = naming_sender(address)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// As [`dial_naming_sender`], and returns whether QEMU served another client before.
pub(crate) fn dial_again(address: &Address) -> io::Result<(OwnedFd, bool)> {
    let (socket, address) = naming_sender(address)?;
    let peer_busy = Os::connect_unix(socket.as_fd(), &address)?;
    Ok((socket, peer_busy.unwrap_or(false)))
}

fn naming_sender(address: &Address) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let Address::Unix(bytes) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = Os::stream_socket(AddressFamily::UNIX)?;
    // Before the peer can send.
    Os::name_senders(socket.as_fd(), true)?;
    Ok((socket, SocketAddrUnix::new(&**bytes)?))
}

/// Returns the fault for an address that could not be dialled.
pub(crate) fn refused(address: &Address, error: &io::Error) -> HostFault {
    let fault = fault(format!("connect to {address}"), error);
    // On a Unix socket, EAGAIN means a full backlog (Linux, `net/unix/af_unix.c`, `unix_stream_connect`).
    let is_full =
        matches!(address, Address::Unix(_) | Address::Abstract(_)) && error.kind() == io::ErrorKind::WouldBlock;
    if is_full { HostFault { kind: FaultKind::Busy, ..fault } } else { fault }
}

/// Returns the result of a connection in progress (`connect(2)`, EINPROGRESS). `None` means that it is still in
/// progress: there is no pending error, and no peer either (`getpeername(2)`, ENOTCONN).
pub(crate) fn progress(socket: impl AsFd) -> Option<io::Result<()>> {
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) => match getpeername(&socket) {
            Ok(_) => Some(Ok(())),
            Err(Errno::NOTCONN) => None,
            Err(error) => Some(Err(error.into())),
        },
        Ok(Err(error)) | Err(error) => Some(Err(error.into())),
    }
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

//! Sockets with an address: sockets that listen, and sockets that connect.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qemu_machine_core::{Address, FaultKind, HostFault, MonitorSocket};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, bind, connect, getpeername, getsockname, listen, sockopt};
use rustix::process::geteuid;

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

/// Returns the address of a Unix socket at a path. It may have 107 bytes on Linux, and 103 on FreeBSD and macOS: one byte of
/// `sun_path` is for the NUL, which some programs expect (`unix(7)`).
fn at_path(path: &[u8]) -> io::Result<SocketAddrUnix> {
    const MOST: usize = size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1;
    let length = path.len();
    if length > MOST {
        let reason = format!("name too long: {length} bytes, and a socket has {MOST} at most; use a shorter directory");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// Listens at an address for one connection. Returns the real address, also for port 0.
pub(crate) fn listen_at(address: &Address, scratch: &mut ScratchDir) -> Result<(OwnedFd, Address), HostFault> {
    bound(address, scratch).map_err(|error| fault(format!("listen at {address}"), &error))
}

fn bound(address: &Address, scratch: &mut ScratchDir) -> io::Result<(OwnedFd, Address)> {
    match address {
        Address::Unix(bytes) => {
            let name = at_path(bytes)?;
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
    let name = at_path(path.as_os_str().as_bytes())?;
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
        let name = at_path(&wanted.path)?;
        let admits_others = wanted.mode & !0o700 != 0;
        if admits_others && !is_safe(path.parent().unwrap_or(Path::new("/")))? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "other users may replace files in the directory: remove their permission to write, or set its sticky bit",
            ));
        }
        let socket = Os::stream_socket(AddressFamily::UNIX)?;
        Os::bind_with_mode(socket.as_fd(), &name, wanted.mode)?;
        if let Err(error) = Os::widen_mode(&path, wanted.mode) {
            if admits_others {
                // In a safe directory it is the socket.
                let _ = fs::remove_file(&path);
            }
            return Err(error);
        }
        scratch.made_monitor_socket(path)?;
        listen(&socket, 1)?;
        Ok(socket)
    };
    let address = Address::unix(&*wanted.path);
    bound().map_err(|error| fault(format!("listen at {address} for other programs"), &error))
}

/// Returns whether no other user can replace a file of this user in a directory (`inode(7)`, sticky bit). The kernel reports
/// no inode for the path of a bound socket, so its permissions are widened by path.
fn is_safe(directory: &Path) -> io::Result<bool> {
    const ROOT: u32 = 0;
    const STICKY: u32 = 0o1000;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let directory = fs::metadata(directory)?;
    let is_owner_trusted = [ROOT, geteuid().as_raw()].contains(&directory.uid());
    Ok(is_owner_trusted && (directory.mode() & WRITABLE_BY_OTHERS == 0 || directory.mode() & STICKY != 0))
}

/// Accepts a connection. `None` means that no connection is pending.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let accepted = Os::accept(listener.as_fd())?;
    if let Some(socket) = &accepted {
        // This fails for a Unix socket, which has no such option.
        let _ = sockopt::set_tcp_nodelay(socket, true);
    }
    Ok(accepted)
}

/// Dials an address without blocking. When the backlog of a Unix socket is full, connect fails with EAGAIN instead of
/// EINPROGRESS (`connect(2)`). QEMU listens with a backlog of 1, behind the client that it serves (measured with QEMU
/// 7.2.22).
pub(crate) fn dial(address: &Address) -> io::Result<(OwnedFd, Dialled)> {
    match address {
        Address::Unix(bytes) => dial_unix(&at_path(bytes)?),
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
    Ok((socket, at_path(bytes)?))
}

/// Returns the fault for an address that could not be dialled.
pub(crate) fn refused(address: &Address, error: &io::Error) -> HostFault {
    let fault = fault(format!("connect to {address}"), error);
    let is_unix = matches!(address, Address::Unix(_) | Address::Abstract(_));
    of_backlog(fault, is_unix.then(|| error.kind()), Os::REFUSES_WHEN_FULL)
}

/// Returns the fault with the kind that the state of a backlog explains, given the error of a Unix socket.
fn of_backlog(fault: HostFault, error: Option<io::ErrorKind>, refuses_when_full: bool) -> HostFault {
    match error {
        // A full backlog (Linux, `net/unix/af_unix.c`, `unix_stream_connect`).
        Some(io::ErrorKind::WouldBlock) => HostFault { kind: FaultKind::Busy, ..fault },
        Some(io::ErrorKind::ConnectionRefused) if refuses_when_full => {
            let reason = format!("{}, or clients wait for it already: this system says the same of both", fault.reason);
            HostFault { kind: FaultKind::RefusedOrBusy, reason: reason.into(), ..fault }
        }
        _ => fault,
    }
}

/// Returns the result of a connection in progress (`connect(2)`, EINPROGRESS). `None` means that it is still in
/// progress: there is no pending error, and no peer either (`getpeername(2)`, ENOTCONN).
pub(crate) fn progress(socket: impl AsFd) -> Option<io::Result<()>> {
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) => match getpeername(&socket) {
            Ok(_) => Some(Ok(())),
            Err(Errno::NOTCONN) => None,
            // The peer has closed its end already (XNU, `bsd/kern/uipc_syscalls.c`, `getpeername`): a read returns the end.
            Err(Errno::INVAL) if cfg!(target_vendor = "apple") => Some(Ok(())),
            Err(error) => Some(Err(error.into())),
        },
        Ok(Err(error)) | Err(error) => Some(Err(error.into())),
    }
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backlog_is_told_from_a_missing_listener_where_the_system_does() {
        let of = |kind: io::ErrorKind, refuses_when_full| {
            let address = Address::unix(*b"/run/qmp");
            let fault = fault(format!("connect to {address}"), &kind.into());
            of_backlog(fault, Some(kind), refuses_when_full)
        };
        assert_eq!(of(io::ErrorKind::WouldBlock, false).kind, FaultKind::Busy);
        assert_eq!(of(io::ErrorKind::ConnectionRefused, false).kind, FaultKind::Refused);
        let either = of(io::ErrorKind::ConnectionRefused, true);
        assert_eq!(either.kind, FaultKind::RefusedOrBusy);
        assert_eq!(
            either.to_string(),
            "cannot connect to /run/qmp: connection refused, or clients wait for it already: this system says the same of both"
        );
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error_with_the_most() {
        let most = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };
        assert!(at_path(&vec![b'x'; most]).is_ok());
        let error = at_path(&vec![b'x'; most + 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("name too long: {} bytes, and a socket has {most} at most; use a shorter directory", most + 1)
        );
    }

    #[test]
    fn a_socket_never_has_more_permissions_than_those_that_were_chosen() {
        let directory = std::env::temp_dir().join(format!("dial-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let of_binding = |mode: u32| {
            let path = directory.join(format!("{mode:o}"));
            let socket = Os::stream_socket(AddressFamily::UNIX).unwrap();
            Os::bind_with_mode(socket.as_fd(), &SocketAddrUnix::new(&path).unwrap(), mode).unwrap();
            // Before the library changes anything at the path.
            fs::symlink_metadata(&path).unwrap().mode() & 0o777 & !mode
        };
        let more = [0o600, 0o660, 0o606].map(of_binding);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(more, [0; 3]);
    }
}

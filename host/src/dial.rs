//! Decides how sockets with an address are made: those on which we listen, and those that dial.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use qemu_machine_core::{Address, FaultKind, HostFault};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, getpeername,
    getsockname, listen, socket_with, sockopt,
};

use crate::fault::fault;
use crate::scratch_dir::{ScratchDir, path};

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How dialling went.
pub(crate) enum Dialled {
    /// Connected. Whether somebody else was, as far as that can be known.
    Connected { peer_busy: bool },
    /// Under way: there is room to write when it is over.
    Pending,
}

/// Listens at an address, for one connection. The address is the real one, where a port was left to the system.
pub(crate) fn listen_at(address: &Address, scratch: &mut ScratchDir) -> Result<(OwnedFd, Address), HostFault> {
    let failed = |error: Errno| fault(format!("listen at {address}"), &error.into());
    let socket = match address {
        Address::Unix(bytes) => {
            let there = SocketAddrUnix::new(&**bytes).map_err(failed)?;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(failed)?;
            // Whoever can write to a socket can connect to it. The path takes this mode over.
            fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            bind(&socket, &there).map_err(failed)?;
            scratch.made_socket(path(bytes));
            socket
        }
        Address::Tcp(there) => {
            let socket = socket_with(family(there), SocketType::STREAM, FLAGS, None).map_err(failed)?;
            sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
            bind(&socket, there).map_err(failed)?;
            socket
        }
    };
    listen(&socket, 1).map_err(failed)?;
    let real = match (address, SocketAddr::try_from(getsockname(&socket).map_err(failed)?)) {
        (Address::Tcp(_), Ok(real)) => Address::Tcp(real),
        _ => address.clone(),
    };
    Ok((socket, real))
}

/// The connection that somebody made to a socket on which we listen, if somebody did.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, FLAGS) {
        Ok(socket) => {
            // It fails where there is nothing to set.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            Ok(Some(socket))
        }
        // Gone again before we looked, or a signal: another one may come.
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Dials an address. It never waits: a Unix socket whose backlog is full refuses at once.
pub(crate) fn dial(address: &Address) -> io::Result<(OwnedFd, Dialled)> {
    match address {
        Address::Unix(bytes) => {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
            // Looked up before: when it is accepted at once, our own connection would look like that of another.
            let others = fs::read("/proc/net/unix").unwrap_or_default();
            connect(&socket, &SocketAddrUnix::new(&**bytes)?)?;
            let peer_busy = is_peer_busy(&socket, &others);
            Ok((socket, Dialled::Connected { peer_busy }))
        }
        Address::Tcp(there) => {
            let socket = socket_with(family(there), SocketType::STREAM, FLAGS, None)?;
            // Commands are short, and each is waited for.
            sockopt::set_tcp_nodelay(&socket, true)?;
            match connect(&socket, there) {
                Ok(()) => Ok((socket, Dialled::Connected { peer_busy: false })),
                Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, Dialled::Pending)),
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Nobody has taken the call.
pub(crate) fn refused(address: &Address, error: &io::Error) -> HostFault {
    let fault = fault(format!("connect to {address}"), error);
    // connect(2): EAGAIN on a Unix socket is a full backlog, and nothing else there.
    let is_full = matches!(address, Address::Unix(_)) && error.kind() == io::ErrorKind::WouldBlock;
    if is_full { HostFault { kind: FaultKind::Busy, ..fault } } else { fault }
}

/// How a connection under way stands; none: still under way.
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

/// Whether the peer of this socket serves another client already. The kernel lists a connection that was accepted
/// under the name of the socket that accepted it; one that still waits for that, as ours does, is in another state.
fn is_peer_busy(socket: &OwnedFd, sockets: &[u8]) -> bool {
    const CONNECTED: &str = "03";
    let peer: Option<SocketAddrUnix> =
        getpeername(socket).ok().flatten().and_then(|peer: SocketAddrAny| peer.try_into().ok());
    let Some(name) = peer.as_ref().and_then(SocketAddrUnix::path_bytes) else { return false };
    let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
    String::from_utf8_lossy(sockets).lines().any(|line| {
        // Num RefCount Protocol Flags Type St Inode Path
        let mut fields = line.split_ascii_whitespace();
        fields.nth(5) == Some(CONNECTED) && line.strip_suffix(&name).is_some_and(|line| line.ends_with(' '))
    })
}

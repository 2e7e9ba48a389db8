//! Pipes and sockets that are closed at exec, and raise no SIGPIPE.
//!
//! POSIX has no call that creates a descriptor with FD_CLOEXEC set before the edition of 2024, and macOS has none. Between
//! the two calls another thread may start a process. One of this library closes all that it is not meant to inherit. One
//! that other code of the program starts keeps the descriptor open, as with the standard library on such a system.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, accept, socket, socketpair};

/// As [`System::SEND`](crate::sys::System::SEND).
#[cfg(not(target_vendor = "apple"))]
pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// As [`System::SEND`](crate::sys::System::SEND). macOS has no MSG_NOSIGNAL: [`raise_no_signal`] sets SO_NOSIGPIPE.
#[cfg(target_vendor = "apple")]
pub(super) const SEND: SendFlags = SendFlags::DONTWAIT;

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    close_at_exec(&read)?;
    close_at_exec(&write)?;
    Ok((read, write))
}

pub(super) fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = socket(family, SocketType::STREAM, None)?;
    ioctl_fionbio(&socket, true)?;
    set_up(&socket)?;
    Ok(socket)
}

pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
    set_up(&one)?;
    set_up(&other)?;
    Ok((one, other))
}

/// The flags are set explicitly: the new socket inherits O_NONBLOCK of the listener on some systems, and not on others.
pub(super) fn accept_client(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let socket = accept(listener)?;
    ioctl_fionbio(&socket, true)?;
    set_up(&socket)?;
    Ok(socket)
}

fn set_up(socket: &OwnedFd) -> io::Result<()> {
    raise_no_signal(std::os::fd::AsFd::as_fd(socket));
    close_at_exec(socket)
}

fn close_at_exec(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfd(descriptor, FdFlags::CLOEXEC)?)
}

#[cfg(target_vendor = "apple")]
pub(super) fn raise_no_signal(socket: BorrowedFd<'_>) {
    // This fails only for a descriptor that is no socket.
    let _ = rustix::net::sockopt::set_socket_nosigpipe(socket, true);
}

/// MSG_NOSIGNAL does that.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn raise_no_signal(_: BorrowedFd<'_>) {}

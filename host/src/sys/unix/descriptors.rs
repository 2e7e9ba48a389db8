//! Pipes and sockets that are closed at exec, and raise no SIGPIPE.
//!
//! On macOS no call creates a descriptor with FD_CLOEXEC set, so that two are needed, as also with
//! `--cfg qemu_machine_portable`. Between them another thread may start a process. One of this library closes all that it is
//! not meant to inherit. One that other code of the program starts keeps the descriptor open, as with the standard library
//! on such a system.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[cfg(target_vendor = "apple")]
use rustix::io::Errno;
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SendFlags, SocketType, socket_with, socketpair};

/// As [`System::SEND`](crate::sys::System::SEND).
#[cfg(not(target_vendor = "apple"))]
pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// As [`System::SEND`](crate::sys::System::SEND). macOS has no MSG_NOSIGNAL: [`raise_no_signal`] sets SO_NOSIGPIPE. And it
/// sends without blocking only by O_NONBLOCK (XNU, `bsd/kern/uipc_socket.c`, `sosendcheck`), which all sockets have.
#[cfg(target_vendor = "apple")]
pub(super) const SEND: SendFlags = SendFlags::DONTWAIT;

#[cfg(any(target_vendor = "apple", qemu_machine_portable))]
mod created {
    pub(super) use rustix::net::accept;
    pub(super) use rustix::pipe::pipe;

    use rustix::net::SocketFlags;

    pub(super) const CLOSED_AT_EXEC: SocketFlags = SocketFlags::empty();
}

#[cfg(not(any(target_vendor = "apple", qemu_machine_portable)))]
mod created {
    use std::os::fd::{BorrowedFd, OwnedFd};

    use rustix::net::{SocketFlags, accept_with};
    use rustix::pipe::{PipeFlags, pipe_with};

    pub(super) const CLOSED_AT_EXEC: SocketFlags = SocketFlags::CLOEXEC;

    pub(super) fn accept(listener: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
        accept_with(listener, CLOSED_AT_EXEC)
    }

    pub(super) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
        pipe_with(PipeFlags::CLOEXEC)
    }
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = created::pipe()?;
    close_at_exec(&read)?;
    close_at_exec(&write)?;
    Ok((read, write))
}

pub(super) fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = socket_with(family, SocketType::STREAM, created::CLOSED_AT_EXEC, None)?;
    ioctl_fionbio(&socket, true)?;
    set_up(&socket)?;
    Ok(socket)
}

pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, created::CLOSED_AT_EXEC, None)?;
    set_up(&one)?;
    set_up(&other)?;
    Ok((one, other))
}

/// The flags are set explicitly: the new socket inherits O_NONBLOCK of the listener on some systems, and not on others.
pub(super) fn accept_client(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let socket = created::accept(listener)?;
    ioctl_fionbio(&socket, true)?;
    set_up(&socket)?;
    Ok(socket)
}

fn set_up(socket: &OwnedFd) -> io::Result<()> {
    raise_no_signal(std::os::fd::AsFd::as_fd(socket))?;
    close_at_exec(socket)
}

fn close_at_exec(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfd(descriptor, FdFlags::CLOEXEC)?)
}

#[cfg(target_vendor = "apple")]
pub(super) fn raise_no_signal(socket: BorrowedFd<'_>) -> io::Result<()> {
    // macOS returns EINVAL for an accepted socket whose peer has closed its end already.
    rustix::net::sockopt::set_socket_nosigpipe(socket, true).map_err(|error| match error {
        Errno::INVAL => Errno::CONNABORTED.into(),
        error => error.into(),
    })
}

/// MSG_NOSIGNAL does that.
#[cfg(not(target_vendor = "apple"))]
#[allow(clippy::unnecessary_wraps, reason = "macOS has errors")]
pub(super) fn raise_no_signal(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

/// As [`System::set_up_given`](crate::sys::System::set_up_given). O_NONBLOCK belongs to the socket, so the caller's copies of
/// the descriptor have it too.
#[cfg(target_vendor = "apple")]
pub(super) fn set_up_given(socket: BorrowedFd<'_>) -> io::Result<()> {
    ioctl_fionbio(socket, true)?;
    raise_no_signal(socket)
}

/// The flags of [`SEND`] do that.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn set_up_given(socket: BorrowedFd<'_>) -> io::Result<()> {
    raise_no_signal(socket)
}

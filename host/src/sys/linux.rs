//! Linux 5.4 or later.

mod poller;
mod process;

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getpeername, socket_with, socketpair,
};
use rustix::rand::{GetRandomFlags, getrandom};

pub use poller::Poller;
pub(crate) use process::Process;

use super::{ProcessSpec, ProcessState, System};

const OPEN: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// This operating system.
#[derive(Debug)]
pub(crate) enum Linux {}

impl System for Linux {
    type Process = Process;

    const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

    fn start(spec: ProcessSpec) -> io::Result<Process> {
        process::start(spec)
    }

    fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
        Ok(socket_with(family, SocketType::STREAM, OPEN, None)?)
    }

    fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
    }

    fn accept(listener: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
        accept_with(listener, OPEN)
    }

    /// The path gets the mode of the socket, since the kernel creates it with that mode (`unix_bind_bsd` in
    /// `net/unix/af_unix.c`). Write permission for the path is permission to connect (unix(7)).
    fn bind_private(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<()> {
        fchmod(socket, Mode::RUSR | Mode::WUSR)?;
        bind(socket, address)
    }

    fn connect_unix(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<Option<bool>> {
        // Read before: once it is accepted, our own connection looks like that of another client.
        let before = fs::read("/proc/net/unix").ok();
        connect(socket, address)?;
        Ok(before.map(|before| is_peer_busy(socket, &before)))
    }

    fn random(buffer: &mut [u8]) -> io::Result<()> {
        // Up to 256 bytes are returned whole or not at all (getrandom(2)).
        getrandom(buffer, GetRandomFlags::empty())?;
        Ok(())
    }

    fn boot_id() -> Option<String> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
    }

    fn process_state(pid: u32) -> Option<ProcessState> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => parse_stat(&stat),
            Err(_) if fs::exists("/proc/self/stat").is_ok_and(|exists| exists) => Some(ProcessState::Gone),
            Err(_) => None,
        }
    }
}

/// Parses `/proc/PID/stat` (proc_pid_stat(5)): field 3 is the state, field 22 the start time in clock ticks since boot.
fn parse_stat(stat: &str) -> Option<ProcessState> {
    // Field 2 is the name of the program in brackets, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Some(ProcessState::Gone);
    }
    let since = fields.nth(18)?.parse().ok()?;
    Some(ProcessState::Running { since })
}

/// Returns whether the peer of a socket serves another client, by the lines of `/proc/net/unix`. The kernel lists an accepted
/// connection under the path of the listener, as connected; one that waits to be accepted is in another state.
fn is_peer_busy(socket: BorrowedFd<'_>, sockets: &[u8]) -> bool {
    // SS_CONNECTED in linux/net.h.
    const CONNECTED: &str = "03";
    let peer: Option<SocketAddrUnix> =
        getpeername(socket).ok().flatten().and_then(|peer: SocketAddrAny| peer.try_into().ok());
    let Some(path) = peer.as_ref().and_then(SocketAddrUnix::path_bytes) else { return false };
    let path = String::from_utf8_lossy(path.strip_suffix(b"\0").unwrap_or(path)).into_owned();
    String::from_utf8_lossy(sockets).lines().any(|line| {
        // Num RefCount Protocol Flags Type St Inode Path
        let mut fields = line.split_ascii_whitespace();
        fields.nth(5) == Some(CONNECTED) && line.strip_suffix(&path).is_some_and(|line| line.ends_with(' '))
    })
}

//! Implementation for Linux 5.4 or later, the first version in which `waitid(2)` accepts a pidfd (P_PIDFD).

mod cgroup;
mod clone;
mod credentials;
mod execute;
mod family;
mod file_watch;
#[cfg(test)]
mod foreign_reaper;
mod found;
mod guard;
mod head;
mod pidfd_info;
mod poller;
mod process;
mod spawn;
mod wiped;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, chmod, fchmod, fstat, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getpeername, getsockname, socket_with, socketpair, sockopt,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

pub(crate) use file_watch::FileWatch;
pub(crate) use guard::Guard;
pub use poller::Poller;
pub(crate) use process::{Other, Process};

use super::{Connector, Earlier, Head, ProcessSpec, ProcessState, System};

const OPEN: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The operating system Linux.
#[derive(Debug)]
pub(crate) enum Linux {}

impl System for Linux {
    type Process = Process;
    type Other = Other;
    type Guard = Guard;
    type FileWatch = FileWatch;

    const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
    const KILLS_ORPHANS: bool = true;

    /// EAGAIN says that the backlog is full (Linux, `net/unix/af_unix.c`, `unix_stream_connect`).
    const REFUSES_WHEN_FULL: bool = false;

    fn start(spec: ProcessSpec) -> io::Result<Process> {
        process::start(spec)
    }

    fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
        Ok(socket_with(family, SocketType::STREAM, OPEN, None)?)
    }

    fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
    }

    fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(pipe_with(PipeFlags::CLOEXEC)?)
    }

    /// The flags are set explicitly: the new socket does not inherit O_NONBLOCK from the listener (`accept(2)`).
    fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        match accept_with(listener, OPEN) {
            // No client, a signal, or an error of the connection of one client, which Linux reports here (`accept(2)`).
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
            accepted => Ok(Some(accepted?)),
        }
    }

    /// MSG_NOSIGNAL and MSG_DONTWAIT do that.
    fn set_up_given(_: BorrowedFd<'_>) {}

    /// The kernel creates the path with the mode of the socket, less the umask (Linux, `net/unix/af_unix.c`,
    /// `unix_bind_bsd`). Write permission for the path is permission to connect (`unix(7)`). So the mode is set before:
    /// a `chmod` after bind would leave a moment in which other users can connect.
    fn bind_with_mode(socket: BorrowedFd<'_>, address: &SocketAddrUnix, mode: u32) -> rustix::io::Result<()> {
        fchmod(socket, Mode::from_raw_mode(mode))?;
        bind(socket, address)
    }

    /// A file of another kind, or of another user, has taken the place of the socket: it is left alone. The path in `/proc`
    /// changes what is opened, since `fchmod(2)` refuses a descriptor of `open(2)` with O_PATH.
    fn widen_mode(path: &Path, mode: u32) -> io::Result<()> {
        let opened = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = fstat(&opened)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        if !is_socket || found.st_uid != geteuid().as_raw() {
            return Err(io::Error::other("another file is at the path"));
        }
        if found.st_mode & 0o777 == mode {
            return Ok(());
        }
        let itself = format!("/proc/self/fd/{}", opened.as_raw_fd());
        Ok(chmod(itself, Mode::from_raw_mode(mode))?)
    }

    fn abstract_address(name: &[u8]) -> io::Result<SocketAddrUnix> {
        Ok(SocketAddrUnix::new_abstract_name(name)?)
    }

    fn connect_unix(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<Option<bool>> {
        if let Some(path) = address.path() {
            // Without a socket, the table has nothing about it: an attachment may dial many times before there is one.
            fs::symlink_metadata(OsStr::from_bytes(path.to_bytes()))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOENT))?;
        }
        // Read before connecting: once it is accepted, this connection looks like that of another client.
        let before = fs::read("/proc/net/unix").ok();
        connect(socket, address)?;
        Ok(before.map(|before| is_peer_busy(socket, &before)))
    }

    fn has_listener(path: &[u8]) -> Option<bool> {
        // Without a socket, the table has nothing about it. A companion may be looked at many times before there is one,
        // and the table is large on a busy machine.
        let is_socket = fs::symlink_metadata(OsStr::from_bytes(path)).is_ok_and(|found| found.file_type().is_socket());
        if !is_socket {
            return Some(false);
        }
        Some(is_listening(path, &fs::read("/proc/net/unix").ok()?))
    }

    fn random(buffer: &mut [u8]) -> io::Result<()> {
        // Up to 256 bytes are never returned in part (`getrandom(2)`), so the length needs no check.
        getrandom(buffer, GetRandomFlags::empty())?;
        Ok(())
    }

    fn process_id() -> u32 {
        wiped::process_id()
    }

    fn find(pid: u32, since: u64) -> io::Result<Earlier<Process>> {
        process::find(pid, since)
    }

    fn other(pid: u32) -> io::Result<Other> {
        Other::open(pid)
    }

    /// The kernel clears the signal when a program changes its credentials, or is set-user-ID, or has capabilities
    /// (`prctl(2)`, PR_SET_PDEATHSIG). It makes the process undumpable then, so that its files belong to root
    /// (`proc(5)`); or they belong to another user. Below a program of root, the ids themselves show the change.
    fn ends_with_parent(pid: u32, uid: Option<u32>) -> bool {
        let expected = uid.unwrap_or_else(|| geteuid().as_raw());
        // A process that has ended needs no signal, and its files belong to root.
        matches!(Self::process_state(pid), Some(ProcessState::Gone))
            || fs::metadata(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.uid() == expected)
                && fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has_one_user(&status, expected))
    }

    /// A file system or a kernel that does not know the flag opens the directory itself (`open(2)`, BUGS), and fails: it is
    /// opened for writing.
    fn open_unnamed(mut options: OpenOptions, directory: &Path) -> io::Result<File> {
        options.custom_flags(OFlags::TMPFILE.bits() as i32).open(directory)
    }

    fn remove_head(file: BorrowedFd<'_>, length: u64) -> io::Result<Head> {
        head::remove(file, length)
    }

    fn can_remove_head(file: BorrowedFd<'_>) -> io::Result<()> {
        head::can_remove(file)
    }

    fn arguments(pid: u32) -> Vec<Vec<u8>> {
        // Each argument ends with a NUL byte (`proc_pid_cmdline(5)`).
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split_inclusive(|byte| *byte == 0)
            .map(|argument| argument.strip_suffix(b"\0").unwrap_or(argument).to_vec())
            .collect()
    }

    fn name_senders(socket: BorrowedFd<'_>, wanted: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_passcred(socket, wanted)?)
    }

    fn sender(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
        credentials::sender(socket)
    }

    fn belongs(pid: u32, ancestor: u32, inode: Option<u64>) -> bool {
        inode.is_some_and(|inode| family::is_holder(pid, inode)) || family::descends(pid, ancestor) == Some(true)
    }

    fn connector(socket: BorrowedFd<'_>, ancestor: u32, uid: Option<u32>) -> io::Result<Connector> {
        let address = getsockname(socket)?;
        let Ok(local) = SocketAddr::try_from(address) else {
            let Some(pid) = credentials::connector(socket)? else { return Ok(Connector::Unknown) };
            return Ok(match family::descends(pid, ancestor) {
                Some(true) => Connector::Process(pid),
                Some(false) => Connector::Stranger,
                None => Connector::Unknown,
            });
        };
        let peer = match getpeername(socket) {
            Ok(peer) => peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
            // It has reset the connection already (`getpeername(2)`, ENOTCONN).
            Err(Errno::NOTCONN) => return Ok(Connector::Stranger),
            Err(error) => return Err(error.into()),
        };
        Ok(peer.map_or(Connector::Unknown, |peer| {
            let users = [geteuid().as_raw(), uid.unwrap_or_else(|| geteuid().as_raw())];
            family::tcp_connector(local, peer, ancestor, users)
        }))
    }

    fn holders(inode: u64) -> Vec<Other> {
        let pids = family::holders(inode).0.into_iter().filter(|pid| !family::is_copy(*pid));
        // The pidfd is opened first: what holds the socket afterwards is the process that it refers to.
        let opened = pids.filter_map(|pid| Some((pid, Other::open(pid).ok()?)));
        opened.filter(|(pid, _)| family::is_holder(*pid, inode)).map(|(_, other)| other).collect()
    }

    /// The kernel generates the id once (`random(4)`, boot_id), so that it is new after each boot.
    fn boot_id() -> Option<String> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
    }

    fn pid_namespace() -> Option<u64> {
        Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
    }

    fn process_state(pid: u32) -> Option<ProcessState> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => parse_stat(&stat),
            Err(_) if fs::exists("/proc/self/stat").is_ok_and(|exists| exists) => Some(ProcessState::Gone),
            Err(_) => None,
        }
    }
}

/// Parses `/proc/PID/stat` (`proc_pid_stat(5)`): field 3 is the state, field 22 the start time in clock ticks since
/// boot. States Z (zombie) and X (dead) count as gone: the process runs no more, whether it was reaped or not.
fn parse_stat(stat: &str) -> Option<ProcessState> {
    // Field 2 is the name of the program in parentheses, which may contain spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Some(ProcessState::Gone);
    }
    let since = fields.nth(18)?.parse().ok()?;
    Some(ProcessState::Running { since })
}

/// Returns whether all user ids of a process are this one, and its group ids are one, by `/proc/PID/status`
/// (`proc_pid_status(5)`): the real, effective, saved and file system ids.
fn has_one_user(status: &str, expected: u32) -> bool {
    let ids = |field: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().map(|id| id.parse().ok()).collect()
    };
    let (users, groups) = (ids("Uid:"), ids("Gid:"));
    users.is_some_and(|users| users.len() == 4 && users.iter().all(|user| *user == expected))
        && groups.is_some_and(|groups| groups.len() == 4 && groups.iter().all(|group| *group == groups[0]))
}

/// Returns whether a socket listens at a path, by the lines of `/proc/net/unix`: its flag is __SO_ACCEPTCON (Linux,
/// `net/unix/af_unix.c`, `unix_seq_show`).
fn is_listening(path: &[u8], sockets: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path).into_owned();
    String::from_utf8_lossy(sockets).lines().any(|line| {
        let has_path = line.strip_suffix(&path).is_some_and(|line| line.ends_with(' '));
        has_path && line.split_ascii_whitespace().nth(3) == Some("00010000")
    })
}

/// Returns whether the peer of a socket serves another client, by the lines of `/proc/net/unix`. An accepted connection
/// has the address of the listener (Linux, `net/unix/af_unix.c`, `unix_stream_connect`) and the state SS_CONNECTED; one
/// that waits to be accepted has SS_CONNECTING (same file, `unix_seq_show`).
fn is_peer_busy(socket: BorrowedFd<'_>, sockets: &[u8]) -> bool {
    // SS_CONNECTED in `linux/net.h`, printed as two hexadecimal digits.
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

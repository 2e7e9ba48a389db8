//! Implementation for any Unix, with what POSIX has: `fork(2)`, `waitid(2)`, `poll(2)`, pipes and sockets.
//!
//! POSIX reports neither which process is at the other end of a socket, nor its parent, its start time and its arguments, nor
//! which sockets listen. So these are unknown here, and what depends on them fails with an error of the kind `Unsupported`,
//! or is left out, as the documentation of `qemu_machine_host` lists.

mod descriptors;
mod fork;
mod guard;
mod poller;
mod process;
mod spawn;
#[cfg(test)]
mod tests;
mod waiter;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, bind, connect};
use rustix::process::geteuid;

pub(crate) use guard::Guard;
pub use poller::Poller;
pub(crate) use process::{Other, Process};

use super::{Connector, Earlier, Head, ProcessSpec, ProcessState, System, WatchFiles, Written};

/// Any Unix.
#[derive(Debug)]
pub(crate) enum Unix {}

impl System for Unix {
    type Process = Process;
    type Other = Other;
    type Guard = Guard;
    type FileWatch = FileWatch;

    const SEND: SendFlags = descriptors::SEND;
    const KILLS_ORPHANS: bool = false;

    /// Other kernels than that of Linux return ECONNREFUSED (XNU, `bsd/kern/uipc_usrreq.c`, `unp_connect`; FreeBSD,
    /// `sys/kern/uipc_usrreq.c`, `unp_connectat`).
    const REFUSES_WHEN_FULL: bool = !cfg!(any(target_os = "linux", target_os = "android"));

    fn start(spec: ProcessSpec) -> io::Result<Process> {
        process::start(spec)
    }

    fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
        descriptors::stream_socket(family)
    }

    fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
        descriptors::socket_pair()
    }

    fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        descriptors::pipe()
    }

    fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        match descriptors::accept_client(listener) {
            // No client, a signal, or a client that has closed its connection already (POSIX, `accept(2)`).
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO)
                ) =>
            {
                Ok(None)
            }
            accepted => accepted.map(Some),
        }
    }

    fn set_up_given(socket: BorrowedFd<'_>) {
        // A socket that was given may be connected no longer, or be no socket: then its use fails.
        let _ = descriptors::set_up_given(socket);
    }

    /// No client can connect before the caller listens (POSIX, `connect(2)`, ECONNREFUSED). The permissions are narrowed
    /// before.
    fn bind_with_mode(socket: BorrowedFd<'_>, address: &SocketAddrUnix, mode: u32) -> rustix::io::Result<()> {
        bind(socket, address)?;
        let Some(path) = address.path() else { return Ok(()) };
        let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
        let errno = |error| Errno::from_io_error(&error).unwrap_or(Errno::PERM);
        // Otherwise another file has taken the path, and stays.
        let found = own_socket(path).map_err(errno)?;
        set_mode(path, found & mode).map_err(|error| {
            let _ = fs::remove_file(path);
            errno(error)
        })
    }

    fn widen_mode(path: &Path, mode: u32) -> io::Result<()> {
        if own_socket(path)? == mode { Ok(()) } else { set_mode(path, mode) }
    }

    fn abstract_address(_: &[u8]) -> io::Result<SocketAddrUnix> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this host has no abstract sockets: use a path"))
    }

    fn connect_unix(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<Option<bool>> {
        connect(socket, address)?;
        Ok(None)
    }

    fn has_listener(path: &[u8]) -> Option<bool> {
        // Without a socket, none listens there.
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket { None } else { Some(false) }
    }

    fn random(buffer: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(buffer)
    }

    fn process_id() -> u32 {
        std::process::id()
    }

    fn find(_: u32, _: u64) -> io::Result<Earlier<Process>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn other(_: u32) -> io::Result<Other> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn ends_with_parent(_: u32, _: Option<u32>) -> bool {
        false
    }

    fn open_unnamed(_: OpenOptions, _: &Path) -> io::Result<File> {
        Err(Errno::OPNOTSUPP.into())
    }

    fn remove_head(_: BorrowedFd<'_>, _: u64) -> io::Result<Head> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn can_remove_head(_: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn arguments(_: u32) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn name_senders(_: BorrowedFd<'_>, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn sender(_: BorrowedFd<'_>) -> io::Result<Option<u32>> {
        Ok(None)
    }

    fn connector(_: BorrowedFd<'_>, _: u32, _: Option<u32>) -> io::Result<Connector> {
        Ok(Connector::Unknown)
    }

    fn belongs(_: u32, _: u32, _: Option<u64>) -> bool {
        false
    }

    fn holders(_: u64) -> Vec<Other> {
        Vec::new()
    }

    fn boot_id() -> Option<String> {
        None
    }

    fn pid_namespace() -> Option<u64> {
        None
    }

    fn process_state(_: u32) -> Option<ProcessState> {
        None
    }
}

/// Returns the permissions of a socket of this user. An error means that a file of another kind, or of another user, has
/// taken its place.
fn own_socket(path: &Path) -> io::Result<u32> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("another file is at the path"));
    }
    Ok(found.mode() & 0o777)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// A watch of files. There is none: it is for files whose head is removed, and POSIX has no call that removes it.
#[derive(Debug)]
pub(crate) enum FileWatch {}

impl WatchFiles for FileWatch {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn add(&self, _: BorrowedFd<'_>) -> io::Result<i32> {
        match *self {}
    }

    fn remove(&self, _: i32) {
        match *self {}
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    fn written(&self) -> Written {
        match *self {}
    }
}

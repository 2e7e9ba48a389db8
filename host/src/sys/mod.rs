//! Operating system below the host side: one small trait, and its implementation for this system.
//!
//! Whatever POSIX lacks, or offers only with a race, is behind [`System`], [`ChildProcess`] and [`Poll`]. The rest of the
//! crate is portable Unix. A query whose answer an operating system does not know returns `None`.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "qemu-machine-host needs Linux 5.4 or later: it watches processes with pidfd, and descriptors with epoll"
);

mod linux;

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::{ExitStatus, Signal};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix};

pub(crate) use linux::{Linux as Os, Process};

pub use linux::Poller;

/// What the host side asks of an operating system.
pub(crate) trait System {
    /// A child process of ours.
    type Process: ChildProcess;

    /// Flags to send with: the call does not block, and a closed connection raises no SIGPIPE.
    const SEND: SendFlags;

    /// Starts a process. It is called on the supervisor's thread, which lives as long as the program: on Linux the
    /// parent-death signal is sent when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG).
    fn start(spec: ProcessSpec) -> io::Result<Self::Process>;

    /// Creates a stream socket that does not block and is closed at exec.
    fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd>;

    /// Creates two connected stream sockets that are closed at exec.
    fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)>;

    /// Accepts a connection: a socket that does not block and is closed at exec.
    fn accept(listener: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd>;

    /// Binds a socket to a path that only its owner may connect to, also while the call is in progress.
    fn bind_private(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<()>;

    /// Connects a socket without blocking, and returns whether its peer served another client before. `None` means that
    /// the operating system does not know.
    fn connect_unix(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<Option<bool>>;

    /// Fills a buffer, of 256 bytes at most, with unpredictable bytes.
    fn random(buffer: &mut [u8]) -> io::Result<()>;

    /// Returns what identifies the present boot of the system, within which the start times of processes count.
    fn boot_id() -> Option<String>;

    /// Returns whether a process runs, and since when.
    fn process_state(pid: u32) -> Option<ProcessState>;
}

/// How to start a process.
#[derive(Debug)]
pub(crate) struct ProcessSpec {
    /// The program and its arguments.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// The descriptors that it inherits, under the numbers that they have here. It inherits no others.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The file to which its standard output and error are connected.
    pub(crate) log: Option<File>,
    /// Whether it stays in our process group instead of leading its own.
    pub(crate) share_terminal: bool,
    /// Whether it keeps running when we end.
    pub(crate) outlives: bool,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It runs since this time, in a unit of the operating system that is constant during one boot.
    Running { since: u64 },
    /// No process has this id, or only one that has ended and was not reaped.
    Gone,
}

/// A child process, from its start until it is reaped. Dropping it leaves the process as it is.
pub(crate) trait ChildProcess: Send + Sync + 'static {
    /// Returns the id of the process.
    fn pid(&self) -> u32;

    /// Returns the descriptor that is readable once the process has ended.
    fn descriptor(&self) -> &Arc<OwnedFd>;

    /// Sends a signal to the process group, or to the process alone if it leads none. It never reaches another process that
    /// got the same id.
    fn signal(&self, signal: Signal) -> io::Result<()>;

    /// Reaps the process if it has ended, and kills what is left of its group. `None` means that it runs.
    fn reap(&self) -> Option<ExitStatus>;

    /// Returns the same process as one that leads no group, so that what is left of its group is not killed.
    fn without_group(&self) -> Self;
}

/// Waits for several sources at once. It may be shared by threads; a change applies to a wait in progress.
pub trait Poll: Sized {
    /// Creates a poller that watches nothing.
    ///
    /// # Errors
    ///
    /// When the limit of descriptors is reached.
    fn new() -> io::Result<Self>;

    /// Begins to watch a source. `token` identifies it in [`Ready`].
    ///
    /// # Errors
    ///
    /// When the source cannot be watched.
    fn add(&self, source: Source<'_>, token: u64, interest: Interest) -> io::Result<()>;

    /// Changes what a source is watched for. A source that is not watched is ignored.
    fn modify(&self, source: Source<'_>, token: u64, interest: Interest);

    /// Stops watching a source. A source that is not watched is ignored.
    fn remove(&self, source: Source<'_>);

    /// Waits until a source is ready, until [`wake`](Self::wake) is called, or until the timeout. `None` means no timeout.
    /// A signal may end the wait early, with nothing ready.
    fn wait(&self, timeout: Option<Duration>) -> Ready;

    /// Ends the wait in progress, or the next one.
    fn wake(&self);
}

/// Something that a poller can watch.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a poller handles each")]
pub enum Source<'a> {
    /// A descriptor, which does not block.
    Descriptor(BorrowedFd<'a>),
    /// Another poller. It is ready while one of its own sources is.
    Poller(&'a Poller),
}

/// What a source is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a poller handles each")]
pub enum Interest {
    /// Nothing. Errors may be reported once all the same.
    None,
    /// Bytes to read, or the end.
    Read,
    /// Bytes to read, or room to write.
    ReadWrite,
    /// As `Read`, until it is reported once.
    ReadOnce,
}

/// The sources that are ready after a wait, at most 16. Those beyond are reported by the next wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    tokens: [u64; Self::MOST],
    count: usize,
    woken: bool,
}

impl Ready {
    const MOST: usize = 16;

    /// Returns the tokens of the sources that are ready.
    #[must_use]
    pub fn tokens(&self) -> &[u64] {
        self.tokens.get(..self.count).unwrap_or_default()
    }

    /// Returns whether [`Poll::wake`] was called.
    #[must_use]
    pub fn woken(&self) -> bool {
        self.woken
    }

    fn push(&mut self, token: u64) {
        if let Some(free) = self.tokens.get_mut(self.count) {
            *free = token;
            self.count += 1;
        }
    }
}

//! Operating system below the host side: private traits, and their implementations for Linux and for any Unix.
//!
//! [`System`], [`ChildProcess`], [`WatchFiles`] and [`Poll`] cover everything that POSIX lacks, or offers only with a
//! race. The rest of the crate is portable Unix. A query returns `None` where an operating system does not know the
//! result.
//!
//! The implementation for any Unix also runs on Linux, with `--cfg qemu_machine_portable`, for tests.

#![cfg_attr(
    any(not(target_os = "linux"), qemu_machine_portable),
    allow(dead_code, reason = "the variants of results that only Linux reports")
)]

mod attributes;
#[cfg(test)]
mod poll_tests;
mod step;
mod wait_status;

#[cfg(all(target_os = "linux", not(qemu_machine_portable)))]
mod linux;
#[cfg(any(not(target_os = "linux"), qemu_machine_portable))]
mod unix;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::{ExitStatus, FileId, ProcessAttributes, Signal};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix};

#[cfg(all(target_os = "linux", not(qemu_machine_portable)))]
pub(crate) use linux::{Linux as Os, Process};
#[cfg(any(not(target_os = "linux"), qemu_machine_portable))]
pub(crate) use unix::{Process, Unix as Os};

#[cfg(all(target_os = "linux", not(qemu_machine_portable)))]
pub use linux::Poller;
#[cfg(any(not(target_os = "linux"), qemu_machine_portable))]
pub use unix::Poller;

/// Operations that the host side needs of an operating system.
pub(crate) trait System {
    /// A child process of this program.
    type Process: ChildProcess;

    /// A process that is no child of this program.
    type Other: OtherProcess;

    /// A guard.
    type Guard: GuardProcess;

    /// A watch of files.
    type FileWatch: WatchFiles;

    /// Flags to send with: the call does not block, and a closed connection raises no SIGPIPE, which would end the
    /// program (`send(2)`, MSG_DONTWAIT and MSG_NOSIGNAL).
    const SEND: SendFlags;

    /// Whether the operating system kills a child when this program ends. Otherwise a guard must.
    const KILLS_ORPHANS: bool;

    /// Whether a Unix socket whose backlog is full refuses a connection as one without a listener does: ECONNREFUSED, where
    /// Linux has EAGAIN (`connect(2)`).
    const REFUSES_WHEN_FULL: bool;

    /// Starts a process, and returns before its program is executed, which may take long. Call it on the supervisor's
    /// thread, which lives as long as the program: on Linux the parent-death signal is sent when the *thread* that
    /// created the process ends (`prctl(2)`, PR_SET_PDEATHSIG). An error of the kind `Unsupported` names an attribute that
    /// the operating system does not have.
    fn start(spec: ProcessSpec) -> io::Result<Self::Process>;

    /// Creates a stream socket that does not block and is closed at exec.
    fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd>;

    /// Creates two connected stream sockets that are closed at exec.
    fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)>;

    /// Creates a pipe whose ends are closed at exec: the end to read, and the end to write.
    fn pipe() -> io::Result<(OwnedFd, OwnedFd)>;

    /// Accepts a connection. The new socket does not block and is closed at exec. `None` means that no connection is
    /// pending, or that one has failed: another client may connect later.
    fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>>;

    /// Makes a socket that the caller gave raise no SIGPIPE and not block, where the flags of [`SEND`](Self::SEND) do not
    /// do that.
    fn set_up_given(socket: BorrowedFd<'_>);

    /// Binds a socket to a path with these permissions, less the umask of this program. The caller calls `listen(2)`
    /// afterwards, and there is no moment at which a user whom they exclude could connect.
    fn bind_with_mode(socket: BorrowedFd<'_>, address: &SocketAddrUnix, mode: u32) -> rustix::io::Result<()>;

    /// Adds the permissions of a socket at a path that the umask has removed.
    fn widen_mode(path: &Path, mode: u32) -> io::Result<()>;

    /// Returns the address of an abstract Unix socket with this name (`unix(7)`, abstract). An error of the kind
    /// `Unsupported` means that the operating system has none.
    fn abstract_address(name: &[u8]) -> io::Result<SocketAddrUnix>;

    /// Connects a socket without blocking, and returns whether its peer served another client before. `None` means that
    /// the operating system does not know.
    fn connect_unix(socket: BorrowedFd<'_>, address: &SocketAddrUnix) -> rustix::io::Result<Option<bool>>;

    /// Returns whether a process listens on the Unix socket that was bound to exactly this path: not to a relative one, or
    /// through a link. `None` means that it is not known.
    fn has_listener(path: &[u8]) -> Option<bool>;

    /// Fills a buffer, of 256 bytes at most, with unpredictable bytes.
    fn random(buffer: &mut [u8]) -> io::Result<()>;

    /// Returns the id of this process, without a system call where that is possible.
    fn process_id() -> u32;

    /// Finds the process that an earlier program started: that with this id, which runs since then, in the unit of
    /// [`ProcessState`]. An error means that the operating system does not report that.
    fn find(pid: u32, since: u64) -> io::Result<Earlier<Self::Process>>;

    /// Returns a process that runs, by its id. Call it while it is known that the id is not reused.
    fn other(pid: u32) -> io::Result<Self::Other>;

    /// Returns whether a process with this user id still gets a signal when this program ends. `false` if that is not
    /// known.
    fn ends_with_parent(pid: u32, uid: Option<u32>) -> bool;

    /// Creates a file without a path in a directory, and opens it. EOPNOTSUPP or EISDIR mean that the operating system or
    /// the file system cannot.
    fn open_unnamed(options: OpenOptions, directory: &Path) -> io::Result<File>;

    /// Removes at most `length` bytes from the head of a file, which must be longer. Other processes may append to it
    /// meanwhile, and lose nothing. It may block as long as the file system does.
    fn remove_head(file: BorrowedFd<'_>, length: u64) -> io::Result<Head>;

    /// Returns whether the file system of an empty file can remove the head of a file.
    fn can_remove_head(file: BorrowedFd<'_>) -> io::Result<()>;

    /// Returns the program of a process and its arguments, or none when they cannot be read.
    fn arguments(pid: u32) -> Vec<Vec<u8>>;

    /// Asks the operating system to name the sender of what a Unix socket receives, or no longer. A listening socket
    /// passes that on to the sockets that it accepts.
    fn name_senders(socket: BorrowedFd<'_>, wanted: bool) -> io::Result<()>;

    /// Returns the process that sent what a Unix socket receives next, and leaves it unread. `None` means that it is not
    /// known.
    fn sender(socket: BorrowedFd<'_>) -> io::Result<Option<u32>>;

    /// Returns the process that connected an accepted socket, if it descends from `ancestor`. `uid` is the user id of that,
    /// if it is not the one of this program.
    fn connector(socket: BorrowedFd<'_>, ancestor: u32, uid: Option<u32>) -> io::Result<Connector>;

    /// Returns whether a process descends from `ancestor`, or has the socket with this inode open.
    fn belongs(pid: u32, ancestor: u32, inode: Option<u64>) -> bool;

    /// Returns the processes that have the socket with this inode open, without this one and its copies: a child of
    /// `fork(2)` that executed no program shares its descriptors. It may miss some.
    fn holders(inode: u64) -> Vec<Self::Other>;

    /// Returns what identifies the present boot of the system. Start times of processes are comparable only within one
    /// boot.
    fn boot_id() -> Option<String>;

    /// Returns what identifies the namespace of process ids. `None` means that the operating system has no such namespaces.
    fn pid_namespace() -> Option<u64>;

    /// Returns whether a process runs, and since when. `None` means that the operating system does not know.
    fn process_state(pid: u32) -> Option<ProcessState>;
}

/// Specification of a process to start.
#[derive(Debug)]
pub(crate) struct ProcessSpec {
    /// The program and its arguments.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// The descriptors that it inherits under the numbers 3, 4, and so on. It inherits no others.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The network namespace that it enters.
    pub(crate) namespace: Option<OwnedFd>,
    /// The file to which its standard output and error are written, unless its attributes say otherwise. `None` means
    /// those of this program.
    pub(crate) log: Option<File>,
    /// Whether it stays in the process group of this program instead of leading its own.
    pub(crate) share_terminal: bool,
    /// Whether it keeps running when this program ends.
    pub(crate) outlives: bool,
    /// Its other attributes. Their namespace is `namespace`.
    pub(crate) attributes: ProcessAttributes,
}

/// Process that an earlier program started.
#[derive(Debug)]
pub(crate) enum Earlier<P> {
    /// It runs. Its end is reported like that of a child; its parent, which is another process, reaps it.
    Running(P),
    /// It has ended.
    Ended(ExitStatus),
}

/// Progress of the start of a process.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The program is not executed yet.
    Pending,
    /// The program is executed, or the process ended before.
    Executed,
    /// The process could not execute its program, and ends. The text names the step, to be followed by the program.
    Failed(String, io::Error),
}

/// The process that connected a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connector {
    /// This process, which was expected.
    Process(u32),
    /// A process that was not expected.
    Stranger,
    /// The operating system does not know.
    Unknown,
}

/// A process that is no child of this program. Dropping it has no effect on the process.
pub(crate) trait OtherProcess: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the descriptor that refers to it.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Returns its process group. `None` means that it has ended.
    fn group(&self) -> Option<u32>;

    /// Sends a signal, which never reaches another process that got the same id.
    fn signal(&self, signal: Signal) -> io::Result<()>;
}

/// A process that outlives this program, however it ends, and then kills what it guards. Dropping it ends it, and it
/// kills nothing.
pub(crate) trait GuardProcess: std::fmt::Debug + Send + Sync + 'static {
    /// Moves to a process group of its own, so that it survives a signal for the one that it guards.
    fn outlive_group(&self);

    /// Adds a process to kill, by the descriptor that refers to it.
    fn add(&self, process: BorrowedFd<'_>) -> io::Result<()>;
}

/// Head of a file that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The file is shorter by so many bytes, which were its head.
    Cut(u64),
    /// The file has the length that it had, and zeros up to this offset, which take no space.
    Zeroed(u64),
}

/// Files that are watched for writes, of all processes.
pub(crate) trait WatchFiles: Sized + std::fmt::Debug + Send + Sync + 'static {
    /// Creates a watch of no files.
    fn new() -> io::Result<Self>;

    /// Begins to watch an open file, which needs no path, and returns its key: that of an earlier call, if it is watched
    /// already.
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<i32>;

    /// Stops watching a file.
    fn remove(&self, key: i32);

    /// Returns the descriptor that is readable once a file was written to.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Returns the files that were written to since the last call. Some of many may be left to the next call, and the
    /// descriptor stays readable then.
    fn written(&self) -> Written;
}

/// The files that were written to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The files with these keys.
    Some(BTreeSet<i32>),
    /// Any, since there were too many writes to keep.
    Any,
}

/// The files that a guard removes.
#[derive(Debug, Default)]
pub(crate) struct GuardSpec {
    pub(crate) files: Vec<Guarded>,
    /// Paths in the directory at which companions have their sockets, or the files beside them, whichever of them created
    /// which.
    pub(crate) sockets: Vec<PathBuf>,
    /// A directory that holds no other files.
    pub(crate) directory: Option<PathBuf>,
}

/// A file that a guard removes, unless another one has taken its path.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
}

/// State of a process by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It runs since this time, in a unit of the operating system that is constant within one boot.
    Running { since: u64 },
    /// No process has this id, or only one that has ended and was not reaped.
    Gone,
}

/// A child process, from its start until it is reaped, or one that an earlier program started. Dropping it has no effect on
/// the process.
pub(crate) trait ChildProcess: Send + Sync + 'static {
    /// Returns the id of the process.
    fn pid(&self) -> u32;

    /// Returns the descriptor that is readable once the process has ended.
    fn descriptor(&self) -> &Arc<OwnedFd>;

    /// Returns the descriptor that is readable once there is [`progress`](Self::progress). `None` means that the start is
    /// over.
    fn start_descriptor(&self) -> Option<Arc<OwnedFd>>;

    /// Returns the progress of the start. A failure is returned once.
    fn progress(&self) -> Progress;

    /// Starts a guard of this process and its group.
    fn guard(&self, spec: &GuardSpec) -> io::Result<<Os as System>::Guard>;

    /// Sends a signal to the process group, if the process leads one, and to the process itself if it is not in it. The
    /// signal never reaches another process that got the same id.
    fn signal(&self, signal: Signal) -> io::Result<()>;

    /// Reaps the process if it has ended, kills what is left of its group, and returns how it ended. `None` means that
    /// it runs. If an earlier program started it, its parent reaps it, and what is left of its group stays: the id of the
    /// group may belong to another by then.
    fn reap(&self) -> Option<ExitStatus>;

    /// Returns the same process as one that leads no group, so that reaping it does not kill what is left of its group.
    fn without_group(&self) -> Self;
}

/// Poller, which waits for several sources at once. Threads may share it: a change applies to a wait in progress as
/// well.
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

    /// Changes the interest in a source. A source that is not watched is ignored.
    fn modify(&self, source: Source<'_>, token: u64, interest: Interest);

    /// Stops watching a source. A source that is not watched is ignored.
    fn remove(&self, source: Source<'_>);

    /// Waits until a source is ready, until [`wake`](Self::wake) is called, or until the timeout. `None` means without
    /// a timeout. A signal may end the wait early, with no source ready.
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
    /// Another poller, which is ready while one of its own sources is.
    Poller(&'a Poller),
}

/// Interest in a source: the conditions for which it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a poller handles each")]
pub enum Interest {
    /// None. An error or a hang-up may still be reported, once.
    None,
    /// Bytes to read, or the end.
    Read,
    /// Room to write.
    Write,
    /// Bytes to read, or room to write.
    ReadWrite,
    /// As `Read`, but reported once: then the source is not watched until [`Poll::modify`].
    ReadOnce,
}

/// The sources that are ready after a wait, at most 16. The next wait reports the others.
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

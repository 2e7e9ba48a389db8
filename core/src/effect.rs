//! Effects: operations on the host that the core requests from a driver.

use alloc::string::String;
use alloc::vec::Vec;

use crate::channel::Channel;
use crate::companion::CompanionSocket;
use crate::config::{MonitorSocket, ProcessAttributes, Service};
use crate::descriptor::Descriptor;
use crate::signal::Signal;
use crate::transport::Transport;

/// An operation on the host that the driver carries out. The core issues each effect once, the driver starts it without
/// blocking, and reports its completion once, as an [`Input`](crate::Input). Without the completion of `Close` the run
/// does not end. Any other one has a deadline in the core, or is not awaited: the [crate
/// documentation](crate#completions-and-deadlines) lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Effect {
    /// Create what the process needs on the host. `Prepared` or `PrepareFailed` completes it. If `Remove` comes before, the
    /// run has ended: what was created is removed, and `PrepareFailed` completes it.
    Prepare(Preparation),
    /// Start the process. `Spawned` completes it when the program is executed, or `SpawnFailed`; `Exited` follows when the
    /// process ends. The driver must not wait for it: the file system of the program may not answer. While it is
    /// outstanding, `Signal` is for the process that executes no program yet.
    Spawn(Spawn),
    /// Open a channel: dial, or accept a connection, unless it is connected. `Opened` or `OpenFailed` completes it;
    /// `Closed` follows when the channel reaches its end.
    Open(Channel),
    /// Close a channel. `Closed` completes it.
    Close(Channel),
    /// Send a signal to the process group, and to the process if it is in another group. QEMU gets the signal as well
    /// if it is another process, behind a wrapper, that the host knows. `Signalled` completes it.
    Signal(Signal),
    /// Read the end of what the process printed. `LogRead` completes it.
    ReadLog {
        /// The most bytes to read.
        limit: usize,
    },
    /// Leave the process, if it is a child, and everything that `Prepare` created in place: a later program resumes the
    /// machine. The end of the process is not reported any more. `Detached` completes it.
    Detach,
    /// Remove what `Prepare` created. `Removed` completes it.
    Remove,
    /// Apply this to the companion with this index.
    Companion(usize, CompanionEffect),
}

/// Operation on a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver carries out each")]
pub enum CompanionEffect {
    /// Start its process. `Started` completes it when the program is executed, or `StartFailed`; `Exited` follows when the
    /// process ends, and then `LogRead`. As for [`Effect::Spawn`], the driver must not wait for it.
    Start(CompanionSpawn),
    /// Probe whether its socket listens. `Probed` completes it, or `ProbeFailed`.
    Probe,
    /// Send a signal to its process group, and to the process if it is in another group. `NotSignalled` reports a failure;
    /// nothing reports a success.
    Signal(Signal),
}

/// Start of a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a driver applies each")]
pub struct CompanionSpawn {
    /// The program and its arguments. A program without a slash is searched on the `PATH`. The process inherits its socket,
    /// if it is to, as descriptor 3, and no others. It leads a process group, and is killed when this program dies.
    pub arguments: Vec<Vec<u8>>,
    /// The attributes of the process.
    pub attributes: ProcessAttributes,
    /// The most bytes of its log to report when it has ended.
    pub log_limit: usize,
}

/// Preparation of a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a driver prepares each")]
pub struct CompanionPreparation {
    /// The name, for its socket in the private directory and its log: a letter, then letters, digits and `-._`.
    pub name: String,
    /// The socket to create, or the path to reserve. `None` means that it has no socket.
    pub socket: Option<CompanionSocket>,
}

/// Preparation of a run: everything to create before the process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// The first part of the name of everything that is created; the host appends an unpredictable part.
    pub name: Vec<u8>,
    /// The directory in which to create a log without a path, and a private directory (mode 0700) if something needs
    /// one. `None` means the host's directory for temporary files.
    pub base: Option<Vec<u8>>,
    /// The directory of the log (mode 0600), which then stays after the end. `None` means that the log does not.
    pub log_directory: Option<Vec<u8>>,
    /// The limit of the log and of each file of `files`, in bytes: the head of a larger one is removed, while this program
    /// runs and until the machine ends. `None` means that they are not bounded.
    pub log_limit: Option<u64>,
    /// Whether the log has a path in the private directory, with which it is removed. If not, and without
    /// `log_directory`, it is a file without a path.
    pub has_log_path: bool,
    /// Whether a process is to be started: then there is a log, unless a channel is its [`Transport::Output`], and
    /// descriptors that it inherits.
    pub process: bool,
    /// The channels, and how each is connected.
    pub channels: Vec<(Channel, Transport)>,
    /// Whether any process may connect to a channel that listens. If not, only the process that is started, its
    /// descendants, and the processes of its process group may; the host closes the connection of another process and
    /// listens on. Of no meaning without a process: then any process may connect.
    pub trusts_peer: bool,
    /// The sockets on which the process will serve other programs, and which it inherits. The paths must not exist; the
    /// sockets are removed at the end.
    pub monitor_sockets: Vec<MonitorSocket>,
    /// The services, each a pair of connected sockets: one end for the process, one that the host lends to callers.
    pub services: Vec<Service>,
    /// Descriptors of the caller that the process inherits under the numbers 3, 4, and so on.
    pub passed: Vec<Descriptor>,
    /// Descriptors of the caller that the process inherits under any numbers.
    pub added: Vec<Descriptor>,
    /// Files (mode 0600) to create, or to truncate if they exist, for QEMU to append to. They stay after the end.
    pub files: Vec<Vec<u8>>,
    /// The companions, each with a log like that of the process.
    pub companions: Vec<CompanionPreparation>,
}

/// Start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The program and its arguments. A program without a slash is searched on the `PATH`.
    ///
    /// The process inherits the descriptors of [`Prepared::descriptors`](crate::Prepared::descriptors), under the
    /// numbers given there, and no others.
    pub arguments: Vec<Vec<u8>>,
    /// Whether it stays in the caller's process group instead of leading its own.
    pub share_terminal: bool,
    /// Whether the process outlives its parent. If `false`, it is killed when this program dies.
    pub outlives: bool,
    /// Whether the process may lose the signal that kills it with this program, or start QEMU as another process: the host
    /// needs another way to kill it. The host may find out more of that by itself.
    pub guarded: bool,
    /// The attributes of the process.
    pub attributes: ProcessAttributes,
}

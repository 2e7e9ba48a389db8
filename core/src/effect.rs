//! Decides in what words the core gives its orders to the world.

use alloc::vec::Vec;

use crate::config::Service;
use crate::descriptor::Descriptor;
use crate::input::Channel;
use crate::transport::Transport;

/// An order: given once, started once, answered once by an [`Input`](crate::Input).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Make what the process needs on the host. Answered by `Prepared` or `PrepareFailed`.
    Prepare(Preparation),
    /// Start the process. Answered by `Spawned` or `SpawnFailed`, and much later by `Exited`.
    Spawn(Spawn),
    /// Begin to carry bytes: dial, or wait for somebody who does, where it is not connected yet. Answered by `Opened`
    /// or `OpenFailed`, and much later by `Closed`.
    Open(Channel),
    /// Stop carrying bytes. Answered by `Closed`.
    Close(Channel),
    /// Send a signal to the whole process group, if it has one of its own. Answered by `Signalled`.
    Signal(Signal),
    /// Read the end of what the process printed. Answered by `LogRead`.
    ReadLog {
        /// How many bytes at most.
        limit: usize,
    },
    /// Leave the process, if it is ours, and all that `Prepare` made to whoever comes next: none of it is ended or removed
    /// by us any more, and the end of the process is nobody's news. Answered by `Released`.
    Detach,
    /// Remove what `Prepare` made. Answered by `Removed`.
    Remove,
}

/// What to make before the process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preparation {
    /// The first part of the name of everything that is made; the host adds what nobody can predict.
    pub name: Vec<u8>,
    /// Where a private directory (mode 0700) is to be made; none: the host's directory for temporary files.
    pub base: Option<Vec<u8>>,
    /// Where the log (mode 0600) is kept after the end; none: it lies in the private directory and goes with it.
    pub log_directory: Option<Vec<u8>>,
    /// Whether a process is to be started: then there is a log, and what it inherits.
    pub process: bool,
    /// The channels, and how each comes to be.
    pub channels: Vec<(Channel, Transport)>,
    /// The ports, each a pair of connected sockets: one end for the process, one that is kept for whoever asks for it.
    pub ports: Vec<Service>,
    /// The descriptors that the process inherits as they are.
    pub added: Vec<Descriptor>,
    /// Files (mode 0600) to make, or to empty if they are there, for QEMU to add to. They stay after the end.
    pub files: Vec<Vec<u8>>,
}

/// How to start the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spawn {
    /// The program and its arguments. The program is searched on the `PATH` when it has no slash.
    ///
    /// The process inherits what was made for it, under the numbers that
    /// [`Prepared::descriptors`](crate::Prepared::descriptors) gave, and no other descriptor.
    pub arguments: Vec<Vec<u8>>,
    /// Whether it stays in our process group, instead of leading one of its own.
    pub share_terminal: bool,
    /// Whether it lives on when we die.
    pub outlives: bool,
}

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a driver sends each")]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order.
    Terminate,
    /// SIGKILL: the kernel ends it.
    Kill,
}

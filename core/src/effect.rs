//! Decides in what words the core gives its orders to the world.

use alloc::vec::Vec;

use crate::input::Channel;

/// An order: given once, started once, answered once by an [`Input`](crate::Input).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Make what the process needs on the host. Answered by `Prepared` or `PrepareFailed`.
    Prepare(Preparation),
    /// Start the process. Answered by `Spawned` or `SpawnFailed`, and much later by `Exited`.
    Spawn(Spawn),
    /// Begin to carry bytes. Answered by `Opened` or `OpenFailed`, and much later by `Closed`.
    Open(Channel),
    /// Stop carrying bytes. Answered by `Closed`.
    Close(Channel),
    /// Send a signal to the whole process group. Answered by `Signalled`.
    Signal(Signal),
    /// Read the end of what the process printed. Answered by `LogRead`.
    ReadLog {
        /// How many bytes at most.
        limit: usize,
    },
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
    /// The channels, each a pair of connected sockets: one end for us, one for the process.
    pub channels: Vec<Channel>,
}

/// How to start the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spawn {
    /// The program and its arguments. The program is searched on the `PATH` when it has no slash.
    ///
    /// The process inherits the ends of the channels that were made for it, under the numbers that
    /// [`Prepared::descriptors`](crate::Prepared::descriptors) gave, and no other descriptor.
    pub arguments: Vec<Vec<u8>>,
}

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order.
    Terminate,
    /// SIGKILL: the kernel ends it.
    Kill,
}

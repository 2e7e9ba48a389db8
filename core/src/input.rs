//! Inputs: what a driver reports to the core.

use alloc::vec::Vec;
use core::fmt;

use crate::channel::Channel;
use crate::config::Service;
use crate::fault::HostFault;
use crate::signal::{Signal, SignalName};
use crate::transport::Address;

/// An input: something that happened on the host. Each [`Effect`](crate::Effect) is completed by one of these; the others
/// come unasked.
///
/// Reporting an input never fails: what is wrong comes out as a reply, a notice or the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Input<'a> {
    /// Completes [`Effect::Prepare`](crate::Effect::Prepare): what was asked for exists.
    Prepared(Prepared),
    /// Completes [`Effect::Prepare`](crate::Effect::Prepare): it could not be made, and what was made is removed.
    PrepareFailed(HostFault),
    /// Completes [`Effect::Spawn`](crate::Effect::Spawn): the program is running.
    Spawned {
        /// The process id, which is also the id of its process group.
        pid: u32,
    },
    /// Completes [`Effect::Spawn`](crate::Effect::Spawn): the program could not be started.
    SpawnFailed(HostFault),
    /// The process ended and was reaped.
    Exited(ExitStatus),
    /// Completes [`Effect::Open`](crate::Effect::Open): bytes can flow.
    Opened(Channel),
    /// Completes [`Effect::Open`](crate::Effect::Open): the channel could not be opened.
    OpenFailed(Channel, HostFault),
    /// Somebody else was connected to the address when we dialled: told before `Opened`, where it can be known.
    PeerBusy(Channel),
    /// Bytes came, in the order in which they were written. Any split is as good as any other.
    Received(Channel, &'a [u8]),
    /// The channel is at its end (end of file, reset, or [`Effect::Close`](crate::Effect::Close)) and was dropped.
    Closed(Channel),
    /// Completes [`Effect::Signal`](crate::Effect::Signal).
    Signalled(Signal, Result<(), HostFault>),
    /// Completes [`Effect::ReadLog`](crate::Effect::ReadLog): the last bytes of what the process printed, as many as
    /// were asked for or all there are. Empty when it cannot be read.
    LogRead(&'a [u8]),
    /// Completes [`Effect::Detach`](crate::Effect::Detach).
    Detached,
    /// Completes [`Effect::Remove`](crate::Effect::Remove): what was prepared is gone, or what stays and why.
    Removed(Result<(), HostFault>),
    /// Nothing but time passed. Always safe, often useless.
    TimePassed,
}

/// What [`Effect::Prepare`](crate::Effect::Prepare) made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The private directory, when one was asked for.
    pub directory: Option<Vec<u8>>,
    /// The file that takes what the process prints.
    pub log: Option<Vec<u8>>,
    /// The number under which the process will find each thing that it inherits.
    pub descriptors: Vec<(Inherited, i32)>,
    /// An unpredictable number, new for each run.
    pub nonce: u64,
    /// The address on which the host listens for the monitor, with the real TCP port. `None` means that it does not listen.
    pub monitor: Option<Address>,
}

/// Something that the process inherits as a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Inherited {
    /// Its end of this channel.
    Channel(Channel),
    /// Its end of this service.
    Service(Service),
    /// The descriptor with this index among those of [`Config::add_fd`](crate::Config::add_fd).
    Added(usize),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a process has no other ends")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The number of the signal, for display only: the numbers of two systems differ.
        number: i32,
        /// The name of the signal.
        name: SignalName,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
    /// It ended, and somebody else was told how: another part of the program waits for all children, or the signal
    /// SIGCHLD is ignored.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Unknown => f.write_str("ended, and somebody else was told how"),
            Self::Signal { number, name, core_dumped } => {
                write!(f, "signal {number}")?;
                if let Some(name) = name.as_str() {
                    write!(f, " ({name})")?;
                }
                if *core_dumped { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

//! Inputs: what a driver reports to the core.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::channel::Channel;
use crate::config::Service;
use crate::fault::HostFault;
use crate::identity::FileId;
use crate::signal::{Signal, SignalName};
use crate::transport::Address;

/// An input: something that happened on the host. Each [`Effect`](crate::Effect) is completed by one of these; the
/// others come unasked.
///
/// Reporting an input never fails: what is wrong comes out as a reply, a notice or the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Input<'a> {
    /// Completes [`Effect::Prepare`](crate::Effect::Prepare): everything is created.
    Prepared(Prepared),
    /// Completes [`Effect::Prepare`](crate::Effect::Prepare): the preparation failed, and everything is removed again.
    PrepareFailed(HostFault),
    /// Completes [`Effect::Spawn`](crate::Effect::Spawn): the program is running.
    Spawned {
        /// The process id, which is also the id of its process group, unless it shares the caller's group.
        pid: u32,
    },
    /// Completes [`Effect::Spawn`](crate::Effect::Spawn): the program could not be started.
    SpawnFailed(HostFault),
    /// The process ended, and was reaped if it was started here. If QEMU is another process, behind a wrapper, the host
    /// has killed it.
    Exited(ExitStatus),
    /// Completes [`Effect::Open`](crate::Effect::Open): the channel is connected.
    Opened(Channel),
    /// Completes [`Effect::Open`](crate::Effect::Open): the channel could not be opened.
    OpenFailed(Channel, HostFault),
    /// The process at the other end of the monitor, if the host knows it. Reported before the first `Received` of a process
    /// that this program started.
    PeerProcess {
        /// The id of the process: that of QEMU, also behind a wrapper.
        pid: u32,
        /// Its program and arguments. Empty if the host cannot read them, or if they are those of the
        /// [`Spawn`](crate::Spawn) without its wrapper.
        arguments: Vec<Vec<u8>>,
    },
    /// Another client is connected to the address that was dialled. Reported before `Opened`, if the host can find out.
    /// A launch that then times out fails with [`LaunchFailure::Busy`](crate::LaunchFailure::Busy).
    PeerBusy(Channel),
    /// Bytes were received, in the order in which the peer wrote them. They may be split anywhere.
    Received(Channel, &'a [u8]),
    /// The channel has reached its end (end of file, a reset, or [`Effect::Close`](crate::Effect::Close)) and was
    /// dropped. All bytes that were received before must be reported first, or the last replies and events are lost.
    Closed(Channel),
    /// Completes [`Effect::Signal`](crate::Effect::Signal).
    Signalled(Signal, Result<(), HostFault>),
    /// Completes [`Effect::ReadLog`](crate::Effect::ReadLog): the end of the log, up to the limit. Empty when the log
    /// cannot be read.
    LogRead(&'a [u8]),
    /// Completes [`Effect::Detach`](crate::Effect::Detach).
    Detached,
    /// Completes [`Effect::Remove`](crate::Effect::Remove). The fault names what could not be removed.
    Removed(Result<(), HostFault>),
    /// An event of the companion with this index.
    Companion(usize, CompanionInput),
    /// Time has passed without another input. Always safe to report.
    TimePassed,
}

/// An event of a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver reports each")]
pub enum CompanionInput {
    /// Completes [`CompanionEffect::Start`](crate::CompanionEffect::Start): the program is running.
    Started {
        /// The process id, which is also the id of its process group.
        pid: u32,
    },
    /// Completes [`CompanionEffect::Start`](crate::CompanionEffect::Start): the program could not be started.
    StartFailed(HostFault),
    /// Completes [`CompanionEffect::Probe`](crate::CompanionEffect::Probe): whether the socket listens.
    Probed {
        /// Whether a process listens there.
        is_open: bool,
    },
    /// Completes [`CompanionEffect::Probe`](crate::CompanionEffect::Probe): the host cannot find out whether the socket
    /// listens. The launch fails.
    ProbeFailed(HostFault),
    /// The process ended, and was reaped; what was left of its group was killed. Reported at once, before its log is read.
    Exited(ExitStatus),
    /// Follows `Exited`: the end of its log, up to [`CompanionSpawn::log_limit`](crate::CompanionSpawn::log_limit). Empty
    /// when the log cannot be read.
    LogRead(Vec<u8>),
    /// A signal of [`CompanionEffect::Signal`](crate::CompanionEffect::Signal) could not be sent.
    NotSignalled(HostFault),
}

/// Result of [`Effect::Prepare`](crate::Effect::Prepare).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Prepared {
    /// Path of the private directory. `None` means that nothing needed one.
    pub directory: Option<Vec<u8>>,
    /// Path of the log, to which stdout and stderr of the process go. `None` means that the log has no path, or that no
    /// process is started.
    pub log: Option<Vec<u8>>,
    /// Each thing that the process inherits, with its descriptor number in the process.
    pub descriptors: Vec<(Inherited, i32)>,
    /// Id of the process that sends the signals, as QEMU logs it (`sigaction(2)`, `si_pid`). `None` means unknown: then a
    /// SIGTERM of the shutdown is not told from another one.
    pub signaller: Option<u32>,
    /// An unpredictable number, new for each run. It identifies the session to a guest agent, so that replies to other
    /// clients are recognised (QEMU, `qga/qapi-schema.json`, `guest-sync-delimited`).
    pub nonce: u64,
    /// The address on which the host listens for the monitor, with the real TCP port. `None` means that it does not
    /// listen.
    pub monitor: Option<Address>,
    /// The process of a machine that is [resumed](crate::Transport::Detached). If it has ended, [`Input::Exited`] follows
    /// at once. `None` means that none was looked for; a resumed machine then gets no signals, and ends with its monitor.
    pub process: Option<Box<RunningProcess>>,
    /// The path of the socket of each companion that has one, by the index of the companion.
    pub companions: Vec<(usize, Vec<u8>)>,
    /// The socket of each [`MonitorSocket`](crate::MonitorSocket), in that order. Empty for a machine that is resumed, whose
    /// identity has them.
    pub monitor_sockets: Vec<FileId>,
}

impl Prepared {
    /// Returns the number of a descriptor in the process, or -1 if it inherits none for this.
    pub(crate) fn descriptor(&self, what: Inherited) -> i32 {
        self.descriptors.iter().find(|(other, _)| *other == what).map_or(-1, |(_, number)| *number)
    }

    /// Returns the path of the socket of a companion. Empty if it has none.
    pub(crate) fn companion_socket(&self, index: usize) -> &[u8] {
        self.companions.iter().find(|(other, _)| *other == index).map_or(&[], |(_, path)| path)
    }
}

/// A process that an earlier program started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct RunningProcess {
    /// The id of the process, which is also the id of its process group unless it is in another one.
    pub pid: u32,
    /// Its program and arguments. Empty if the host cannot read them.
    pub arguments: Vec<Vec<u8>>,
}

/// Something that the process inherits as a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum Inherited {
    /// The descriptor with this index among those of [`Config::inherit_fd`](crate::Config::inherit_fd). Its number is 3
    /// more than the index, since the caller has written that number into the arguments.
    Passed(usize),
    /// Its end of this channel.
    Channel(Channel),
    /// Its end of this service.
    Service(Service),
    /// The socket with this index among [`Preparation::monitor_sockets`](crate::Preparation::monitor_sockets).
    MonitorSocket(usize),
    /// The descriptor with this index among those of [`Config::add_fd`](crate::Config::add_fd).
    Added(usize),
    /// Its end of the connection to the companion with this index.
    Companion(usize),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a process has no other ends")]
pub enum ExitStatus {
    /// The process exited with this code.
    Code(i32),
    /// A signal ended the process.
    Signal {
        /// The number of the signal, for display only: the numbers of two systems differ.
        number: i32,
        /// The name of the signal.
        name: SignalName,
        /// Whether the process left a core dump.
        core_dumped: bool,
    },
    /// The process ended, but its status is lost: other code of this program reaped it, or SIGCHLD is ignored, so that
    /// the kernel reaped it (`wait(2)`, NOTES). From Linux 6.15 on the host reports the status nevertheless: the kernel
    /// keeps it for the descriptor of the process (`include/uapi/linux/pidfd.h`, PIDFD_INFO_EXIT).
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Unknown => f.write_str("exit status unknown (reaped elsewhere, or SIGCHLD is ignored)"),
            Self::Signal { number, name, core_dumped } => {
                write!(f, "signal {number}")?;
                if *name != SignalName::Other {
                    write!(f, " ({name})")?;
                }
                if *core_dumped { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

//! Input and output types of the companions of a run.

use crate::input::ExitStatus;
use crate::signal::Signal;
use crate::time::Moment;

/// An input of the companions: an event of one of them, with its index, or of their machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// A run begins: none is started yet.
    Launch,
    /// The host has prepared the run: start them, one after the other.
    Start {
        /// When all of them must be ready. `None` means that the launch has no deadline.
        until: Option<Moment>,
    },
    /// The program of the companion with this index is executed.
    Started(usize),
    /// The program of the companion with this index could not be executed.
    StartFailed(usize),
    /// The host has probed the socket of a companion.
    Probed {
        /// The index of the companion.
        index: usize,
        /// Whether its socket listens.
        is_open: bool,
    },
    /// The companion with this index has ended.
    Exited(usize, ExitStatus),
    /// QEMU has ended.
    QemuEnded {
        /// Whether the machine was ready, so that companions may notice the end of QEMU and end by themselves.
        was_ready: bool,
    },
    /// The files of the run are to be removed, as soon as all companions are gone.
    Await,
    /// The caller kills the machine.
    Kill,
    /// The caller no longer waits.
    Abandon,
    /// Time passed.
    TimePassed,
}

/// An output of the companions: an effect to issue, or a transition that the machine acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the machine carries out each")]
pub enum Output {
    /// Start the companion with this index.
    Start(usize),
    /// Probe the socket of the companion with this index.
    Probe(usize),
    /// Send a signal to the process group of the companion with this index.
    Signal(usize, Signal),
    /// All are ready.
    Ready,
    /// A companion could not be started, or has ended, before all were ready. The launch fails.
    Failed(usize),
    /// A companion was not ready in time. The launch fails.
    Late(usize),
    /// A companion has ended after all were ready, and QEMU had not ended by then.
    Lost(usize),
    /// QEMU has not ended within a second after a companion.
    Missed(usize),
    /// A companion survived SIGKILL, and is no longer waited for.
    Left(usize),
    /// All are gone, and the files of the run can be removed.
    Gone,
}

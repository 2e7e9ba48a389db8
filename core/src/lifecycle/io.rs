//! Input and output types of a lifecycle.

use super::{Cleaning, LaunchFailure, LinkEvent, ProcessEvent, Retry, Rung, Shutdown, Wiring};
use crate::signal::Signal;
use crate::time::Moment;

/// An input of a lifecycle: a request of the caller, or an event of the process, the monitor or the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// The caller begins a run.
    Launch {
        /// When the machine must be ready. `None` means that the launch has no deadline.
        until: Option<Moment>,
        /// How the monitor and the process are connected.
        wiring: Wiring,
        /// Which failures of the monitor are retried.
        retry: Retry,
        /// The number of channels, the monitor included.
        channels: usize,
    },
    /// The caller ends the run by this policy.
    Shutdown(Shutdown),
    /// The caller ends the run with SIGKILL, or disconnects from a machine that it did not launch.
    Kill,
    /// The caller detaches from the machine, which runs on.
    Detach,
    /// The caller no longer waits for a process that survived SIGKILL.
    Abandon,
    /// An event of the process.
    Process(ProcessEvent),
    /// An event of the monitor.
    Link(LinkEvent),
    /// A channel, possibly the monitor, reached its end.
    ChannelClosed,
    /// QEMU accepted a `quit` of a caller or of the shutdown ladder.
    QuitAccepted,
    /// QEMU refused the command of the current rung of the shutdown ladder.
    RungRefused,
    /// The guest stopped, or was never started: it does not react to the power button.
    GuestStopped,
    /// The guest runs again.
    GuestResumed,
    /// The host could not send this signal.
    SignalRefused(Signal),
    /// The host read the end of the log.
    LogRead,
    /// The files are removed when the companions are gone, which have deadlines of their own.
    RemovedLater,
    /// The companions are gone, and the host was asked to remove the files.
    CompanionsGone,
    /// A companion failed the launch.
    CompanionFailed(LaunchFailure),
    /// A companion ended during the launch with status 0, perhaps since QEMU is ending. The launch fails with this when it
    /// would be complete, or when its deadline passes.
    CompanionEnded(LaunchFailure),
    /// The host removed the files that it prepared.
    Removed,
    /// Time passed.
    TimePassed,
}

/// An output of a lifecycle: an effect to issue, an input of the session, or a transition that the machine announces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the machine carries out each")]
pub enum Output {
    /// Prepare the files and sockets of the run.
    Prepare,
    /// Start the process.
    Spawn,
    /// Open all channels.
    Open,
    /// Open the monitor again.
    Reopen,
    /// The machine is ready.
    Ready,
    /// The machine was launched by an earlier program: events may have been missed.
    Gap,
    /// Send the command or the signal of this rung of the shutdown ladder.
    Climb(Rung),
    /// Leave out this rung of the shutdown ladder: it can have no effect, since the guest is stopped.
    Skip(Rung),
    /// Press the power button again, unless QEMU has not answered the previous press yet.
    PressAgain,
    /// Close the monitor: the process that was to connect to it is dead, or its peer is not QEMU.
    HangUp,
    /// No event can arrive any more.
    EventsClosed,
    /// Close the channels that are open.
    Close,
    /// Leave the process and its files in place.
    Detach,
    /// Read the end of the log.
    ReadLog,
    /// Remove the files that were prepared.
    Remove,
    /// The host has not completed this step of the clean-up in time, and the run goes on without it.
    Unclean(Cleaning),
    /// The run is over.
    Finish,
}

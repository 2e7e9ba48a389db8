//! Intent of a lifecycle: the goal of a run, which changes in one direction.

use super::{Ladder, Phase, Rung};
use crate::signal::Signal;
use crate::time::Moment;

/// The goal of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// The machine was not launched yet.
    #[default]
    Idle,
    /// The machine is to become ready.
    Launch {
        /// When the machine must be ready. `None` means that the launch has no deadline.
        until: Option<Moment>,
    },
    /// The monitor closed before the machine was ready: wait for the process to end, which explains why.
    HangUp {
        /// When the process must have ended.
        until: Moment,
        /// The phase in which the monitor closed.
        phase: Phase,
    },
    /// The process ended before the machine was ready: read the rest of the monitor, which may explain why.
    LastWords {
        /// When the rest must have been read.
        until: Moment,
    },
    /// The machine is to run.
    Run,
    /// The machine is to end, by the shutdown ladder.
    Stop(Ladder),
    /// The machine is to be killed, as soon as there is a process.
    Kill,
    /// The killed process is to be reaped.
    Killed {
        /// When the process must have been reaped.
        until: Moment,
    },
    /// The channels of the dead process are to be read to their end.
    Drain {
        /// When the channels must have been read. `None` means that the host was asked to close them.
        until: Option<Moment>,
    },
    /// The log is to be read, and then the files that were prepared for the run are to be removed.
    Clean {
        /// How far the clean-up is.
        step: Cleaning,
        /// When the step must be over. `None` means that the companions must be gone before, which have deadlines of their
        /// own.
        until: Option<Moment>,
    },
    /// The run is over.
    Done,
}

/// How far the clean-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleaning {
    /// The host reads the end of the log.
    Log,
    /// The host removes what it prepared.
    Remove,
}

impl Intent {
    /// Returns whether a run is in progress.
    pub(super) fn is_run(self) -> bool {
        !matches!(self, Self::Idle | Self::Done)
    }

    /// Returns whether the launch is in progress.
    pub(super) fn is_launch(self) -> bool {
        matches!(self, Self::Launch { .. } | Self::HangUp { .. } | Self::LastWords { .. })
    }

    /// Returns whether the machine may still become ready.
    pub(super) fn is_launching(self) -> bool {
        matches!(self, Self::Launch { .. })
    }

    /// Returns whether a shutdown can begin.
    pub(super) fn can_stop(self) -> bool {
        match self {
            Self::Launch { .. } | Self::HangUp { .. } | Self::Run => true,
            Self::Idle
            | Self::LastWords { .. }
            | Self::Stop(_)
            | Self::Kill
            | Self::Killed { .. }
            | Self::Drain { .. }
            | Self::Clean { .. }
            | Self::Done => false,
        }
    }

    /// Returns whether a kill can begin; during a shutdown it can.
    pub(super) fn can_be_killed(self) -> bool {
        self.can_stop() || matches!(self, Self::Stop(_))
    }

    /// Returns the intent after the current rung was refused: the next rung is due at once.
    pub(super) fn refused(self, now: Moment) -> Self {
        match self {
            Self::Stop(ladder) => Self::Stop(ladder.refused(now)),
            Self::Idle
            | Self::Launch { .. }
            | Self::HangUp { .. }
            | Self::LastWords { .. }
            | Self::Run
            | Self::Kill
            | Self::Killed { .. }
            | Self::Drain { .. }
            | Self::Clean { .. }
            | Self::Done => self,
        }
    }

    /// Returns the intent after the guest stopped: the rung that depends on the guest is over.
    pub(super) fn without_guest(self, now: Moment) -> Self {
        match self {
            Self::Stop(ladder) if ladder.rung() == Some(Rung::PowerDown) => self.refused(now),
            Self::Idle
            | Self::Launch { .. }
            | Self::HangUp { .. }
            | Self::LastWords { .. }
            | Self::Run
            | Self::Stop(_)
            | Self::Kill
            | Self::Killed { .. }
            | Self::Drain { .. }
            | Self::Clean { .. }
            | Self::Done => self,
        }
    }

    /// Returns the intent after a signal could not be sent. A signal of an earlier rung changes nothing.
    pub(super) fn signal_refused(self, signal: Signal, now: Moment) -> Self {
        match (signal, self) {
            (Signal::Terminate, Self::Stop(ladder)) if ladder.rung() == Some(Rung::Terminate) => self.refused(now),
            (Signal::Kill, Self::Killed { .. }) => Self::Killed { until: now },
            (Signal::Terminate | Signal::Kill, _) => self,
        }
    }

    /// Returns the intent when the caller no longer waits for the end of a killed process, or for the steps after it:
    /// the present step is overdue.
    pub(super) fn abandoned(self, now: Moment) -> Self {
        match self {
            Self::Killed { .. } => Self::Killed { until: now },
            Self::Drain { until: Some(_) } => Self::Drain { until: Some(now) },
            Self::Clean { step, until: Some(_) } => Self::Clean { step, until: Some(now) },
            Self::Idle
            | Self::Launch { .. }
            | Self::HangUp { .. }
            | Self::LastWords { .. }
            | Self::Run
            | Self::Stop(_)
            | Self::Kill
            | Self::Drain { until: None }
            | Self::Clean { until: None, .. }
            | Self::Done => self,
        }
    }
}

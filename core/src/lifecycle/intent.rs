//! Intent of a lifecycle: what is wanted of the machine.

use super::{Ladder, Phase, Rung};
use crate::signal::Signal;
use crate::time::Moment;

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Nothing yet.
    #[default]
    Idle,
    /// The machine is to become ready.
    Launch {
        /// When it must be ready. `None` means that the launch has no deadline.
        until: Option<Moment>,
    },
    /// The monitor closed before the machine was ready: the process is to end, and so to explain why.
    HangUp {
        /// When it must have ended.
        until: Moment,
        /// What was due when the monitor closed.
        phase: Phase,
    },
    /// The process ended before the machine was ready: what the monitor still holds is to be read, since it may explain
    /// why.
    LastWords {
        /// When it must have been read.
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
        /// When it must have been reaped.
        until: Moment,
    },
    /// The channels of the dead process are to be read to their end.
    Drain {
        /// When they must have been read. `None` means that the host was told to close them.
        until: Option<Moment>,
    },
    /// What was prepared is to be removed.
    Clean(Cleaning),
    /// Nothing more: the run is over.
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
    /// Whether a run is under way.
    pub(super) fn is_run(self) -> bool {
        !matches!(self, Self::Idle | Self::Done)
    }

    /// Whether the machine is to become ready.
    pub(super) fn is_launch(self) -> bool {
        matches!(self, Self::Launch { .. } | Self::HangUp { .. } | Self::LastWords { .. })
    }

    pub(super) fn can_stop(self) -> bool {
        match self {
            Self::Launch { .. } | Self::HangUp { .. } | Self::Run => true,
            Self::Idle
            | Self::LastWords { .. }
            | Self::Stop(_)
            | Self::Kill
            | Self::Killed { .. }
            | Self::Drain { .. }
            | Self::Clean(_)
            | Self::Done => false,
        }
    }

    pub(super) fn can_be_killed(self) -> bool {
        self.can_stop() || matches!(self, Self::Stop(_))
    }

    /// The intent after the current rung was refused: the next rung is due at once.
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
            | Self::Clean(_)
            | Self::Done => self,
        }
    }

    /// The intent after a signal could not be sent. One of an earlier rung no longer matters.
    pub(super) fn signal_refused(self, signal: Signal, now: Moment) -> Self {
        match (signal, self) {
            (Signal::Terminate, Self::Stop(ladder)) if ladder.rung() == Some(Rung::Terminate) => self.refused(now),
            (Signal::Kill, _) => self.abandoned(now),
            (Signal::Terminate, _) => self,
        }
    }

    /// The intent when the caller no longer waits for a killed process: its reaping is overdue.
    pub(super) fn abandoned(self, now: Moment) -> Self {
        if let Self::Killed { .. } = self { Self::Killed { until: now } } else { self }
    }
}

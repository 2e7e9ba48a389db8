//! Decides what is wanted of a machine, and which wishes give way to which.

use super::{Ladder, Phase, Rung, Shutdown, Wiring};
use crate::lifecycle;
use crate::signal::Signal;
use crate::time::Moment;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Nothing yet.
    #[default]
    Idle,
    /// That it becomes ready.
    Launch {
        /// By then; none: whenever.
        until: Option<Moment>,
    },
    /// Its monitor closed before it was ready: that it ends, and so explains why.
    HangUp {
        /// By then.
        until: Moment,
        /// What was due when the monitor closed.
        phase: Phase,
    },
    /// It ended before it was ready, and its monitor may hold last words: that they are read, and so explain why.
    LastWords {
        /// By then.
        until: Moment,
    },
    /// That it runs.
    Run,
    /// That it ends, gently first.
    Stop(Ladder),
    /// That it is killed, as soon as there is a process to kill.
    Kill,
    /// It was killed: that it is reaped.
    Killed {
        /// By then.
        until: Moment,
    },
    /// It is dead: that its last words are read.
    Drain {
        /// By then; none: the channels were told to close.
        until: Option<Moment>,
    },
    /// That what was made for it is removed.
    Clean(Cleaning),
    /// Nothing more: this run is over.
    Done,
}

/// How far the clean-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleaning {
    /// The end of the log is being read.
    Log,
    /// What was prepared is being removed.
    Remove,
}

/// What somebody asks of a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Begin a run.
    Launch {
        /// When it must be ready; none: whenever.
        until: Option<Moment>,
        /// How it comes by its monitor.
        wiring: Wiring,
        /// How many channels it has, the monitor among them.
        channels: usize,
    },
    /// End it by this policy.
    Shutdown(Shutdown),
    /// End it at once.
    Kill,
    /// Leave it to others, as it is.
    Detach,
    /// Wait no longer for a process that was killed.
    GiveUp,
}

impl Intent {
    /// Whether a run is going on.
    pub(super) fn is_run(self) -> bool {
        !matches!(self, Self::Idle | Self::Done)
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

    /// The present rung was refused: the next one is due at once.
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

    /// This signal could not be sent. An earlier one than that which is waited for matters no more.
    pub(super) fn signal_refused(self, signal: Signal, now: Moment) -> Self {
        match (signal, self) {
            (Signal::Terminate, Self::Stop(ladder)) if ladder.rung() == Some(Rung::Terminate) => self.refused(now),
            (Signal::Kill, _) => self.given_up(now),
            (Signal::Terminate, _) => self,
        }
    }

    /// A process that was killed is not waited for any longer.
    pub(super) fn given_up(self, now: Moment) -> Self {
        if let Self::Killed { .. } = self { Self::Killed { until: now } } else { self }
    }

    pub(super) fn log_read(self, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        if self == Self::Clean(Cleaning::Log) {
            emit(lifecycle::Output::Remove);
            return Self::Clean(Cleaning::Remove);
        }
        self
    }
}

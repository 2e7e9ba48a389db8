//! Decides what is wanted of a machine, and how it is brought to its end.

use core::fmt;
use core::time::Duration;

use super::{Link, Order, Phase, Why, Wiring};
use crate::effect::Signal;
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
    /// Nothing more: this life is over.
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
    /// Begin a life.
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
    /// Wait no longer for a process that was killed.
    GiveUp,
}

/// One way to end a machine, gentle to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// Press the power button (`system_powerdown`); the guest decides.
    PowerDown,
    /// Tell QEMU to exit (`quit`).
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerDown => "power button",
            Self::Quit => "quit",
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
        })
    }
}

/// How to end a machine: `quit`, then SIGTERM, then SIGKILL, each when the one before did not work in its time.
///
/// The default gives the whole of it 30 seconds, as QEMU's Python class does.
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::Shutdown;
///
/// let patient = Shutdown::default().power_down(Duration::from_secs(60));
/// let quick = Shutdown::within(Duration::from_secs(3));
/// assert_eq!(quick.total(), Duration::from_secs(3));
/// assert!(patient.total() > Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    power_down: Option<Duration>,
    quit: Duration,
    terminate: Duration,
}

impl Shutdown {
    /// The ladder inside a total time: two thirds of it for `quit`, which may have to finish what QEMU is writing,
    /// and one third for SIGTERM.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        let terminate = total / 3;
        Self { power_down: None, quit: total.saturating_sub(terminate), terminate }
    }

    /// First presses the power button, and gives the guest so long to power off.
    #[must_use]
    pub const fn power_down(mut self, patience: Duration) -> Self {
        self.power_down = Some(patience);
        self
    }

    /// The time after which SIGKILL is sent.
    #[must_use]
    pub const fn total(&self) -> Duration {
        let gentle = self.quit.saturating_add(self.terminate);
        match self.power_down {
            Some(patience) => gentle.saturating_add(patience),
            None => gentle,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::within(Duration::from_secs(30))
    }
}

/// A shutdown in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    policy: Shutdown,
    /// The rung that is being tried; none before the first.
    rung: Option<Rung>,
    /// When the next one is due.
    until: Moment,
}

impl Ladder {
    pub(super) fn new(policy: Shutdown, now: Moment) -> Self {
        Self { policy, rung: None, until: now }
    }

    pub(super) fn deadline(self) -> Option<(Moment, Why)> {
        self.rung.map(|rung| (self.until, Why::Rung(rung)))
    }

    /// Whether the next rung is to be climbed.
    pub(super) fn is_due(self, now: Moment) -> bool {
        self.rung.is_none() || self.until <= now
    }

    /// The next rung that makes sense, if it is not the last, and whether there is anything to do on it: behind a
    /// `quit` that was accepted already, waiting is all.
    pub(super) fn climb(self, now: Moment, link: Link, quit_issued: bool, ours: bool) -> Option<(Self, bool)> {
        let ready = link == Link::Ready;
        let rungs = [
            (Rung::PowerDown, self.policy.power_down.filter(|_| ready && !quit_issued), true),
            (Rung::Quit, Some(self.policy.quit).filter(|_| ready || quit_issued), !quit_issued),
            (Rung::Terminate, Some(self.policy.terminate).filter(|_| ours), true),
        ];
        rungs.into_iter().filter(|(rung, ..)| Some(*rung) > self.rung).find_map(|(rung, patience, act)| {
            Some((Self { rung: Some(rung), until: now.after(patience?), ..self }, act))
        })
    }

    pub(super) fn rung(self) -> Option<Rung> {
        self.rung
    }
}

impl Intent {
    /// Whether a life is going on.
    pub(super) fn is_life(self) -> bool {
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
            Self::Stop(ladder) => Self::Stop(Ladder { until: now, ..ladder }),
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

    pub(super) fn log_read(self, emit: &mut impl FnMut(Order)) -> Self {
        if self == Self::Clean(Cleaning::Log) {
            emit(Order::Remove);
            return Self::Clean(Cleaning::Remove);
        }
        self
    }
}

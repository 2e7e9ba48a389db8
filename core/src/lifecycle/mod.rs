//! Decides how a machine lives and ends: the product of three small machines and their joint transitions.
//!
//! [`Process`] follows the operating system's process, [`Link`] the monitor, [`Intent`] what is wanted of them. Each
//! steps by itself on its own news; [`settle`](Lifecycle::step) then applies the joint transitions, the only place
//! where one part acts upon another, until none applies.
//!
//! # The ways through a run
//!
//! What is wanted of a machine changes in one direction. A station stands for an [`Intent`], a track for all ways that
//! lead to a station, and a dot on it for where one begins: whoever points at it is shown by what. It is made of the same
//! states as the table below.
//!
#![doc = include_str!("../../docs/states.svg")]
#![doc = "\n"]
#![doc = include_str!("../../docs/states.md")]
#![deny(clippy::wildcard_enum_match_arm, reason = "a new state must be thought about in every transition")]

mod failure;
mod intent;
mod ladder;
mod link;
mod process;
mod settle;

use core::time::Duration;

use crate::signal::Signal;
use crate::time::Moment;

pub use failure::LaunchFailure;
pub use intent::{Cleaning, Intent, Request};
pub use ladder::{Ladder, Rung, Shutdown};
pub use link::{Link, LinkEvent, Phase, Wiring};
pub use process::{Process, ProcessEvent};

/// How long a process may take to end by itself after it closed its monitor during the launch. Under load, the end
/// of the connection is seen some milliseconds before the end of the process, which explains it.
pub(crate) const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// How long a process may take to end after SIGKILL. Only one that the kernel holds (a dead network file system)
/// takes longer.
pub(crate) const REAP: Duration = Duration::from_secs(10);

/// How long the channels of a dead process are read: what it had written is there already, so this is reached only
/// when something else holds the other end.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// The run of a machine, as plain data. [`step`](Self::step) is its only transition.
///
/// ```
/// use qemu_machine_core::lifecycle::{Lifecycle, Input, Output, ProcessEvent, Request, Wiring};
/// use qemu_machine_core::{ExitStatus, Moment};
///
/// let now = Moment::ORIGIN;
/// let mut orders = Vec::new();
/// let mut emit = |order| orders.push(order);
/// let launch = Request::Launch { until: None, wiring: Wiring::Absent, channels: 0 };
/// let run = Lifecycle::default().step(now, Input::Asked(launch), &mut emit);
/// let run = run.step(now, Input::Process(ProcessEvent::Prepared), &mut emit);
/// let run = run.step(now, Input::Process(ProcessEvent::Spawned { pid: 42 }), &mut emit);
/// assert!(run.is_launched());
/// assert_eq!(orders, [Output::Prepare, Output::Spawn, Output::Open, Output::Ready]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    process: Process,
    link: Link,
    wiring: Wiring,
    intent: Intent,
    flags: Flags,
    /// How many channels may still carry bytes.
    open: usize,
}

/// The three flags of QEMU's Python class, with its rules: all three fall at the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    launched: bool,
    quit_issued: bool,
    killed: bool,
}

/// What a lifecycle is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// Somebody wants something.
    Asked(Request),
    /// The process.
    Process(ProcessEvent),
    /// The monitor.
    Link(LinkEvent),
    /// One of the channels, the monitor among them, is at its end.
    ChannelClosed,
    /// A `quit` was answered with success, whoever sent it.
    QuitAccepted,
    /// The command of the present rung of the ladder was refused.
    RungRefused,
    /// This signal could not be sent.
    SignalRefused(Signal),
    /// The log was read.
    LogRead,
    /// What was prepared is removed.
    Removed,
    /// Time passed.
    TimePassed,
}

/// What a lifecycle orders.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Make what the process needs.
    Prepare,
    /// Start it.
    Spawn,
    /// Open all channels.
    Open,
    /// The machine is ready.
    Ready,
    /// The launch failed, for this reason; the end of this run follows.
    Failed(LaunchFailure),
    /// Do what this rung of the ladder does.
    Climb(Rung),
    /// Press the power button once more, unless the last press has no answer yet.
    PressAgain,
    /// Close the monitor, which nobody has dialled and nobody can dial any more.
    HangUp,
    /// Close the channels that are open.
    Close,
    /// What is not ours is left as it is.
    LetGo,
    /// What was ours is left to others.
    Detach,
    /// Read the end of the log.
    ReadLog,
    /// Remove what was prepared.
    Remove,
    /// This run is over.
    Finish,
}

/// Where a machine is in its run, as its users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not launched.
    Idle,
    /// Launched, not ready yet.
    Launching(Phase),
    /// Ready for commands.
    Running,
    /// On its way to the end.
    Ending,
    /// Over, and cleaned up.
    Ended,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The launch must be complete.
    Launch(Phase),
    /// The process, having closed its monitor, must end.
    HangUp,
    /// This rung of the ladder must have worked.
    Rung(Rung),
    /// The power button is to be pressed again.
    PressAgain,
    /// The process, having been killed, must be reaped.
    Reap,
    /// The last words of a dead process must have come.
    Drain,
    /// Half of a command's time is over: QEMU is to be asked for a heartbeat.
    Heartbeat,
    /// A command must have its reply.
    Command,
    /// Somebody's wait must be over.
    Wait,
}

impl Lifecycle {
    /// The transition.
    #[must_use]
    pub fn step(mut self, now: Moment, news: Input, emit: &mut impl FnMut(Output)) -> Self {
        match news {
            Input::Asked(request) => self.asked(now, request, emit),
            Input::Process(news) => {
                let before = self.process;
                self.process = before.step(&news);
                if before != self.process {
                    self.process_failed(news, emit);
                }
            }
            Input::Link(news) => {
                let before = self.link;
                self.link = before.step(&news);
                if before != self.link {
                    self.link_failed(news, emit);
                }
            }
            Input::ChannelClosed => self.open = self.open.saturating_sub(1),
            Input::QuitAccepted => self.flags.quit_issued = self.intent.is_run(),
            Input::RungRefused => self.intent = self.intent.refused(now),
            Input::SignalRefused(signal) => self.intent = self.intent.signal_refused(signal, now),
            Input::LogRead => self.intent = self.intent.log_read(emit),
            Input::Removed => self.removed(emit),
            Input::TimePassed => {}
        }
        self.settle(now, emit)
    }

    fn asked(&mut self, now: Moment, request: Request, emit: &mut impl FnMut(Output)) {
        match request {
            Request::Launch { until, wiring, channels } if !self.intent.is_run() => {
                *self = Self {
                    process: Process::Preparing,
                    link: if wiring == Wiring::Absent { Link::Absent } else { Link::Down },
                    wiring,
                    intent: Intent::Launch { until },
                    flags: Flags::default(),
                    open: channels,
                };
                emit(Output::Prepare);
            }
            Request::Shutdown(shutdown) if self.intent.can_stop() => {
                self.cancel(emit);
                self.intent = Intent::Stop(Ladder::new(shutdown, now));
            }
            Request::Kill if self.intent.can_be_killed() => {
                self.cancel(emit);
                self.flags.killed = true;
                self.intent = Intent::Kill;
            }
            Request::Detach if self.can_be_detached() => {
                emit(Output::Detach);
                (self.process, self.wiring, self.intent) = (Process::Foreign, Wiring::Foreign, Intent::Kill);
            }
            Request::GiveUp => self.intent = self.intent.given_up(now),
            Request::Launch { .. } | Request::Shutdown(_) | Request::Kill | Request::Detach => {}
        }
    }

    /// A launch that its own caller gives up has failed for that reason.
    fn cancel(&mut self, emit: &mut impl FnMut(Output)) {
        let phase = self.phase();
        self.fail(LaunchFailure::Cancelled(phase), emit);
    }

    /// A launch fails once, for the first reason there is.
    fn fail(&mut self, failure: LaunchFailure, emit: &mut impl FnMut(Output)) {
        if let Intent::Launch { .. } | Intent::HangUp { .. } | Intent::LastWords { .. } = self.intent {
            emit(Output::Failed(failure));
            self.intent = Intent::Kill;
        }
    }

    fn process_failed(&mut self, news: ProcessEvent, emit: &mut impl FnMut(Output)) {
        match news {
            ProcessEvent::PrepareFailed(fault) | ProcessEvent::SpawnFailed(fault) => {
                self.fail(LaunchFailure::Host(fault), emit);
            }
            ProcessEvent::Prepared | ProcessEvent::Spawned { .. } | ProcessEvent::Exited(_) => {}
        }
    }

    fn link_failed(&mut self, news: LinkEvent, emit: &mut impl FnMut(Output)) {
        match news {
            LinkEvent::OpenFailed(failure) | LinkEvent::HandshakeFailed(failure) => self.fail(failure, emit),
            LinkEvent::Opened | LinkEvent::Greeted | LinkEvent::Syncing | LinkEvent::Negotiated | LinkEvent::HungUp => {
            }
        }
    }

    fn removed(&mut self, emit: &mut impl FnMut(Output)) {
        if self.intent == Intent::Clean(Cleaning::Remove) {
            self.intent = Intent::Done;
            self.flags = Flags::default();
            emit(Output::Finish);
        }
    }

    /// Whether it runs, and is ours to leave to others.
    pub(crate) fn can_be_detached(&self) -> bool {
        self.intent == Intent::Run && matches!(self.process, Process::Alive { .. })
    }

    /// How far the launch came.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.process {
            Process::Unborn | Process::Preparing | Process::Prepared | Process::Spawning | Process::Failed => {
                Phase::Starting
            }
            Process::Spawned { .. } | Process::Alive { .. } | Process::Dead(_) | Process::Foreign => self.link.phase(),
        }
    }

    /// Where the machine is in its run.
    #[must_use]
    pub fn state(&self) -> State {
        match self.intent {
            Intent::Idle => State::Idle,
            Intent::Launch { .. } | Intent::HangUp { .. } | Intent::LastWords { .. } => State::Launching(self.phase()),
            Intent::Run => State::Running,
            Intent::Stop(_) | Intent::Kill | Intent::Killed { .. } | Intent::Drain { .. } | Intent::Clean(_) => {
                State::Ending
            }
            Intent::Done => State::Ended,
        }
    }

    /// When something must have happened, and what.
    #[must_use]
    pub fn deadline(&self) -> Option<(Moment, Why)> {
        match self.intent {
            Intent::Launch { until } => until.map(|until| (until, Why::Launch(self.phase()))),
            Intent::HangUp { until, .. } => Some((until, Why::HangUp)),
            Intent::Stop(ladder) => ladder.deadline(),
            Intent::LastWords { until } => Some((until, Why::Drain)),
            Intent::Killed { until } => Some((until, Why::Reap)),
            Intent::Drain { until } => until.map(|until| (until, Why::Drain)),
            Intent::Idle | Intent::Run | Intent::Kill | Intent::Clean(_) | Intent::Done => None,
        }
    }

    /// Whether the machine became ready and this run is not over: `_launched` of QEMU's Python class.
    #[must_use]
    pub fn is_launched(&self) -> bool {
        self.flags.launched
    }

    /// Whether a `quit` was accepted in this run: `_quit_issued` of QEMU's Python class.
    #[must_use]
    pub fn is_quit_issued(&self) -> bool {
        self.flags.quit_issued
    }

    /// Whether the caller asked for the hard way in this run: `_user_killed` of QEMU's Python class.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.flags.killed
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// The monitor.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// What is wanted.
    #[must_use]
    pub fn intent(&self) -> Intent {
        self.intent
    }
}

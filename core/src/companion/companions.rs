//! Companions of one run: their states, and the order in which they start and end.
//!
//! # Theory of operation
//!
//! Each companion goes through its [`Stage`]s, and all of them share a goal, which changes in one direction:
//!
//! ```text
//! Idle ─► Start ─► Run ─► End ─► Over
//!            └─► Halt ─────┘
//! ```
//!
//! - *Start*: one after the other, in the order of the configuration, each when the one before is ready: a later one may
//!   use an earlier one. The first that fails, or the deadline of the launch, fails all (`Halt`).
//! - *Run*: a companion that ends is reported at once. Whether it was missed is known a second later: QEMU closes its
//!   connections before it ends, and most companions end then.
//! - *End*: one after the other, in the reverse order. Each gets the time to end by itself, then SIGTERM, then SIGKILL.
//!   [`TERMINATE_WITHIN`] before [`END_WITHIN`], all that run get SIGTERM, and then SIGKILL: a slow companion takes none of
//!   the time that the others have after SIGTERM.
//!
//! States of a companion:
//!
//! | word | meaning |
//! |---|---|
//! | *ended* | its process ended, or was not started |
//! | *lost* | it ended after all were ready, and before QEMU |
//! | *missed* | a second after it was lost, QEMU runs |
//! | *left* | it survived SIGKILL, and the run goes on without it |
//! | *gone* | all of them ended or were left |

use alloc::vec::Vec;
use core::time::Duration;

use super::io::{Input, Output};
use crate::input::ExitStatus;
use crate::signal::Signal;
use crate::time::Moment;

/// How long the host waits before it probes a socket again, at first. The kernel reports a new path
/// (`inotify(7)`), but not that a process listens there, which follows within microseconds, or much later.
const FIRST_PROBE: Duration = Duration::from_millis(1);

/// The longest time between two probes, as between two dials of an attachment (`lifecycle/retry.rs`). Each wait is twice
/// the one before, so that a companion which starts in milliseconds is not delayed, and one that takes seconds costs little.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// How long QEMU may run on after a companion has ended, before the companion counts as missed. QEMU closes its connections
/// last (QEMU, `system/runstate.c`, `qemu_cleanup`), so milliseconds lie between.
const MISSED_AFTER: Duration = Duration::from_secs(1);

/// How long a companion has to end after SIGTERM. Most have nothing to write then.
const TERMINATE_WITHIN: Duration = Duration::from_secs(2);

/// How long after SIGKILL the next companion is to end. The kernel ends most processes within milliseconds; one in
/// uninterruptible sleep (`proc(5)`, state `D`) must not take the time of those before it.
const KILL_WITHIN: Duration = Duration::from_secs(1);

/// How long all companions together have to end, before those that run get SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How long a companion may take to end after SIGKILL, as QEMU may (`lifecycle/settle.rs`).
const REAP_WITHIN: Duration = Duration::from_secs(10);

/// Policy of one companion: when it is ready, and how long it may take to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a test creates it")]
pub struct Policy {
    /// Whether it creates its socket itself, and is ready when that listens.
    pub awaits_socket: bool,
    /// How long it may take to end by itself after QEMU. More than eight seconds count as eight.
    pub grace: Duration,
}

/// Stage of a companion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// It was not started in this run.
    #[default]
    Waiting,
    /// It is being started: its program is not executed yet.
    Starting,
    /// It runs, and its socket does not listen yet.
    Unready {
        /// When the host probes it again. `None` means that it is probing it.
        probe_at: Option<Moment>,
        /// The time between the last two probes.
        interval: Duration,
    },
    /// It is ready.
    Ready,
    /// It has ended.
    Ended {
        /// How it ended. `None` means that its program could not be executed.
        status: Option<ExitStatus>,
        /// When it counts as missed, unless QEMU ends before. `None` means that it is not missed, or that this is reported.
        missed_at: Option<Moment>,
    },
    /// It survived SIGKILL.
    Left,
}

impl Stage {
    fn ended(status: Option<ExitStatus>) -> Self {
        Self::Ended { status, missed_at: None }
    }

    /// Returns whether there is a process.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            Self::Starting | Self::Unready { .. } | Self::Ready => true,
            Self::Waiting | Self::Ended { .. } | Self::Left => false,
        }
    }
}

/// The companions of one run, as plain data. [`step`](Self::step) is their only transition.
///
/// ```
/// use qemu_machine_core::Moment;
/// use qemu_machine_core::companion::{Companions, Input, Output, Policy};
///
/// let now = Moment::ORIGIN;
/// let mut outputs = Vec::new();
/// let mut emit = |output| outputs.push(output);
/// let companions = Companions::new([Policy::default()]);
/// let companions = companions.step(now, Input::Start { until: None }, &mut emit);
/// let companions = companions.step(now, Input::Started(0), &mut emit);
/// assert_eq!(companions.deadline(), None);
/// assert_eq!(outputs, [Output::Start(0), Output::Ready]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Companions {
    members: Vec<Member>,
    goal: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    policy: Policy,
    stage: Stage,
    /// The last signal that it was sent.
    signal: Option<Signal>,
}

/// The goal of the companions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Goal {
    /// The run has not come to them.
    #[default]
    Idle,
    /// They are to become ready.
    Start { until: Option<Moment> },
    /// The launch has failed, and QEMU was not started. They are to end when the machine says so.
    Halt,
    /// They are to run.
    Run,
    /// They are to end.
    End(Ending),
    /// They are gone.
    Over,
}

/// The end of the companions, in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    since: Moment,
    /// Whether they may end by themselves.
    is_patient: bool,
    /// Whether the machine waits for the end of all.
    is_awaited: bool,
    step: Step,
}

/// Step of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next companion is to end.
    Next,
    /// This companion is to end by itself.
    Grace { index: usize, until: Moment },
    /// This companion was sent SIGTERM.
    Terminated { index: usize, until: Moment },
    /// This companion was sent SIGKILL.
    Killed { index: usize, until: Moment },
    /// All of them were sent SIGTERM or SIGKILL.
    AllTerminated { until: Moment },
    /// All of them were sent SIGKILL.
    AllKilled { until: Moment },
}

impl Companions {
    /// Returns companions that are not started yet, in the order in which they start.
    #[must_use]
    pub fn new(policies: impl IntoIterator<Item = Policy>) -> Self {
        let members = policies.into_iter().map(Member::new).collect();
        Self { members, goal: Goal::Idle }
    }

    /// Applies an input, passes the outputs to `emit`, and returns the next state.
    #[must_use]
    pub fn step(mut self, now: Moment, input: Input, emit: &mut impl FnMut(Output)) -> Self {
        self.advance(now, input, emit);
        self
    }

    /// Applies an input in place.
    pub(crate) fn advance(&mut self, now: Moment, input: Input, emit: &mut impl FnMut(Output)) {
        match input {
            Input::Launch => *self = Self::new(self.members.iter().map(|member| member.policy)),
            Input::Start { until } if self.goal == Goal::Idle => self.goal = Goal::Start { until },
            Input::Started(index) => self.started(now, index),
            Input::StartFailed(index) => self.ended(now, index, None, emit),
            Input::Probed { index, is_open } => self.probed(now, index, is_open),
            Input::Exited(index, status) => self.ended(now, index, Some(status), emit),
            Input::QemuEnded { was_ready } => self.end(now, was_ready),
            Input::Await => self.await_end(now),
            Input::Kill => self.kill(now, emit),
            Input::Abandon => self.abandon(now, emit),
            Input::Start { .. } | Input::TimePassed => {}
        }
        while self.go_on(now, emit) {}
    }

    fn started(&mut self, now: Moment, index: usize) {
        let Some(member) = self.members.get_mut(index).filter(|member| member.stage == Stage::Starting) else { return };
        member.stage = match member.policy.awaits_socket {
            true => Stage::Unready { probe_at: Some(now), interval: FIRST_PROBE },
            false => Stage::Ready,
        };
    }

    fn probed(&mut self, now: Moment, index: usize, is_open: bool) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Stage::Unready { probe_at: None, interval } = member.stage else { return };
        member.stage = match is_open {
            true => Stage::Ready,
            false => Stage::Unready {
                probe_at: Some(now.after(interval)),
                interval: interval.saturating_mul(2).min(LAST_LOOK),
            },
        };
    }

    fn ended(&mut self, now: Moment, index: usize, status: Option<ExitStatus>, emit: &mut impl FnMut(Output)) {
        let Some(member) = self.members.get_mut(index) else { return };
        let was_alive = member.stage.is_alive();
        if !was_alive && member.stage != Stage::Left {
            return;
        }
        member.stage = Stage::ended(status);
        match self.goal {
            Goal::Start { .. } if was_alive => {
                self.goal = Goal::Halt;
                emit(Output::Failed(index));
            }
            Goal::Run if was_alive => {
                member.stage = Stage::Ended { status, missed_at: Some(now.after(MISSED_AFTER)) };
                emit(Output::Lost(index));
            }
            Goal::Idle | Goal::Start { .. } | Goal::Halt | Goal::Run | Goal::End(_) | Goal::Over => {}
        }
    }

    /// Begins the end, unless it has begun.
    fn end(&mut self, now: Moment, is_patient: bool) {
        match self.goal {
            Goal::Start { .. } | Goal::Halt | Goal::Run => {
                for member in &mut self.members {
                    if let Stage::Ended { missed_at, .. } = &mut member.stage {
                        *missed_at = None;
                    }
                }
                self.goal = Goal::End(Ending { since: now, is_patient, is_awaited: false, step: Step::Next });
            }
            Goal::Idle | Goal::End(_) | Goal::Over => {}
        }
    }

    fn await_end(&mut self, now: Moment) {
        self.end(now, false);
        self.goal = match self.goal {
            Goal::End(ending) => Goal::End(Ending { is_awaited: true, ..ending }),
            Goal::Idle | Goal::Start { .. } | Goal::Halt | Goal::Run | Goal::Over => {
                Goal::End(Ending { since: now, is_patient: false, is_awaited: true, step: Step::Next })
            }
        };
    }

    fn kill(&mut self, now: Moment, emit: &mut impl FnMut(Output)) {
        self.end(now, false);
        if let Goal::End(ending) = self.goal {
            self.kill_all(now, ending, emit);
        }
    }

    fn kill_all(&mut self, now: Moment, ending: Ending, emit: &mut impl FnMut(Output)) {
        if matches!(ending.step, Step::AllKilled { .. }) {
            return;
        }
        self.signal_all(Signal::Kill, emit);
        self.goal = Goal::End(Ending { step: Step::AllKilled { until: now.after(REAP_WITHIN) }, ..ending });
    }

    /// Sends a signal to all that run, except those that were sent it, or SIGKILL, before.
    fn signal_all(&mut self, signal: Signal, emit: &mut impl FnMut(Output)) {
        for (index, member) in self.members.iter_mut().enumerate().rev().filter(|(_, member)| member.stage.is_alive()) {
            if member.signal != Some(Signal::Kill) && member.signal != Some(signal) {
                member.signal = Some(signal);
                emit(Output::Signal(index, signal));
            }
        }
    }

    fn abandon(&mut self, now: Moment, emit: &mut impl FnMut(Output)) {
        self.kill(now, emit);
        if let Goal::End(ending) = self.goal {
            if ending.is_awaited {
                self.goal = Goal::End(Ending { step: Step::AllKilled { until: now }, ..ending });
            }
        }
    }

    /// Applies the first transition whose condition holds; `false` means that none did.
    fn go_on(&mut self, now: Moment, emit: &mut impl FnMut(Output)) -> bool {
        match self.goal {
            Goal::Start { until } => self.starting(now, until, emit),
            Goal::Run => self.miss(now, emit),
            Goal::End(ending) => self.ending(now, ending, emit),
            Goal::Idle | Goal::Halt | Goal::Over => false,
        }
    }

    fn starting(&mut self, now: Moment, until: Option<Moment>, emit: &mut impl FnMut(Output)) -> bool {
        let next = self.members.iter_mut().enumerate().find(|(_, member)| member.stage != Stage::Ready);
        let Some((index, member)) = next else {
            self.goal = Goal::Run;
            emit(Output::Ready);
            return true;
        };
        if until.is_some_and(|until| until <= now) {
            self.goal = Goal::Halt;
            emit(Output::Late(index));
            return true;
        }
        match &mut member.stage {
            stage @ Stage::Waiting => {
                *stage = Stage::Starting;
                emit(Output::Start(index));
                true
            }
            Stage::Unready { probe_at, .. } if probe_at.is_some_and(|at| at <= now) => {
                *probe_at = None;
                emit(Output::Probe(index));
                true
            }
            Stage::Unready { .. } | Stage::Starting | Stage::Ready | Stage::Ended { .. } | Stage::Left => false,
        }
    }

    fn miss(&mut self, now: Moment, emit: &mut impl FnMut(Output)) -> bool {
        let is_due = |member: &Member| member.stage.missed_at().is_some_and(|at| at <= now);
        let Some(index) = self.members.iter().position(is_due) else { return false };
        if let Stage::Ended { missed_at, .. } = &mut self.members[index].stage {
            *missed_at = None;
        }
        emit(Output::Missed(index));
        true
    }

    fn ending(&mut self, now: Moment, ending: Ending, emit: &mut impl FnMut(Output)) -> bool {
        let Some(last) = self.members.iter().rposition(|member| member.stage.is_alive()) else {
            if ending.is_awaited {
                self.goal = Goal::Over;
                emit(Output::Gone);
            }
            return ending.is_awaited;
        };
        match ending.step {
            Step::AllKilled { until } => return until <= now && self.mark_left(last, emit),
            Step::AllTerminated { until } if until <= now => self.kill_all(now, ending, emit),
            Step::AllTerminated { .. } => return false,
            Step::Next | Step::Grace { .. } | Step::Terminated { .. } | Step::Killed { .. } => {
                let Some(step) = self.next_step(now, ending, emit) else { return false };
                self.goal = Goal::End(Ending { step, ..ending });
            }
        }
        true
    }

    /// Returns the step that is due while the companions end one after the other. `None` means that none is.
    fn next_step(&mut self, now: Moment, ending: Ending, emit: &mut impl FnMut(Output)) -> Option<Step> {
        if ending.all_at() <= now {
            self.signal_all(Signal::Terminate, emit);
            return Some(Step::AllTerminated { until: now.after(TERMINATE_WITHIN) });
        }
        let is_alive = |index: usize| self.members.get(index).is_some_and(|member| member.stage.is_alive());
        match ending.step {
            Step::Grace { index, until } | Step::Terminated { index, until } | Step::Killed { index, until }
                if is_alive(index) && now < until =>
            {
                None
            }
            Step::Grace { index, .. } if is_alive(index) => {
                self.signal(index, Signal::Terminate, emit);
                Some(Step::Terminated { index, until: now.after(TERMINATE_WITHIN) })
            }
            Step::Terminated { index, .. } if is_alive(index) => {
                self.signal(index, Signal::Kill, emit);
                Some(Step::Killed { index, until: now.after(KILL_WITHIN) })
            }
            Step::Next
            | Step::Grace { .. }
            | Step::Terminated { .. }
            | Step::Killed { .. }
            | Step::AllTerminated { .. }
            | Step::AllKilled { .. } => Some(self.next_member(now, ending)),
        }
    }

    /// Returns the first step of the end of the last companion that was not sent SIGKILL.
    fn next_member(&self, now: Moment, ending: Ending) -> Step {
        let is_next = |member: &Member| member.stage.is_alive() && member.signal != Some(Signal::Kill);
        match self.members.iter().rposition(is_next) {
            Some(index) => {
                let grace = if ending.is_patient { self.members[index].policy.grace } else { Duration::ZERO };
                Step::Grace { index, until: ending.since.after(grace) }
            }
            None => Step::AllKilled { until: now.after(REAP_WITHIN) },
        }
    }

    fn signal(&mut self, index: usize, signal: Signal, emit: &mut impl FnMut(Output)) {
        self.members[index].signal = Some(signal);
        emit(Output::Signal(index, signal));
    }

    fn mark_left(&mut self, index: usize, emit: &mut impl FnMut(Output)) -> bool {
        self.members[index].stage = Stage::Left;
        emit(Output::Left(index));
        true
    }

    /// Returns the next deadline. [`Input::TimePassed`] is due then. `None` means that nothing is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let stages = || self.members.iter().map(|member| member.stage);
        match self.goal {
            Goal::Start { until } => stages().filter_map(Stage::probe_at).chain(until).min(),
            Goal::Run => stages().filter_map(Stage::missed_at).min(),
            Goal::End(ending) if stages().any(Stage::is_alive) => Some(ending.due()),
            Goal::Idle | Goal::Halt | Goal::End(_) | Goal::Over => None,
        }
    }

    /// Returns the stage of a companion. `None` means that there is none with this index.
    #[must_use]
    pub fn stage(&self, index: usize) -> Option<Stage> {
        self.members.get(index).map(|member| member.stage)
    }
}

impl Stage {
    fn probe_at(self) -> Option<Moment> {
        if let Self::Unready { probe_at, .. } = self { probe_at } else { None }
    }

    /// Returns when it counts as missed. `None` means that it does not.
    pub(crate) fn missed_at(self) -> Option<Moment> {
        if let Self::Ended { missed_at, .. } = self { missed_at } else { None }
    }
}

impl Member {
    fn new(policy: Policy) -> Self {
        Self { policy, stage: Stage::Waiting, signal: None }
    }
}

impl Ending {
    /// Returns when all that run get SIGTERM, in whichever step they are.
    fn all_at(self) -> Moment {
        self.since.after(END_WITHIN.saturating_sub(TERMINATE_WITHIN))
    }

    fn due(self) -> Moment {
        match self.step {
            Step::Next => self.since,
            Step::Grace { index: _, until }
            | Step::Terminated { index: _, until }
            | Step::Killed { index: _, until } => until.min(self.all_at()),
            Step::AllTerminated { until } | Step::AllKilled { until } => until,
        }
    }
}

//! Decides the joint transitions: what follows for the whole from the states of the three parts.

use super::{Cleaning, DRAIN, HANG_UP_GRACE, Intent, Ladder, Lifecycle, Link, Phase, Process, REAP, Rung, Wiring};
use crate::input::ExitStatus;
use crate::lifecycle;
use crate::lifecycle::LaunchFailure;
use crate::time::Moment;

impl Lifecycle {
    /// Applies the joint transitions until none applies. Each of them moves a part forward, so this ends.
    pub(super) fn settle(mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        loop {
            let next = self.joint(now, emit);
            if next == self {
                return self;
            }
            self = next;
        }
    }

    /// The first joint transition that applies, by what is wanted.
    fn joint(self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        if let Process::Spawned { pid } = self.process {
            return self.open_channels(Process::Alive { pid }, emit);
        }
        if self.dead().is_some() && self.link == Link::Opening && self.wiring == Wiring::Dialled {
            // Nobody is left to dial us.
            emit(lifecycle::Output::HangUp);
            return Self { link: Link::Gone(Phase::Connecting), ..self };
        }
        match self.intent {
            Intent::Launch { until } => self.launching(now, until, emit),
            Intent::HangUp { until, phase } => self.hung_up(now, until, phase, emit),
            Intent::LastWords { until } => self.last_words(now, until, emit),
            Intent::Run => self.unless_over(now, emit),
            Intent::Stop(ladder) => self.stopping(now, ladder, emit),
            Intent::Kill => self.killing(now, emit),
            Intent::Killed { until } => self.reaping(now, until, emit),
            Intent::Drain { until } => self.draining(now, until, emit),
            Intent::Idle | Intent::Clean(_) | Intent::Done => self,
        }
    }

    fn open_channels(self, process: Process, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        emit(lifecycle::Output::Open);
        let link = if self.link == Link::Down { Link::Opening } else { self.link };
        Self { process, link, ..self }
    }

    fn launching(mut self, now: Moment, until: Option<Moment>, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        match (self.process, self.link) {
            (Process::Dead(_), _) => {
                return Self { intent: Intent::LastWords { until: now.after(DRAIN) }, ..self };
            }
            (Process::Alive { .. }, Link::Gone(phase)) => {
                let grace = now.after(HANG_UP_GRACE);
                let until = until.map_or(grace, |until| until.min(grace));
                return Self { intent: Intent::HangUp { until, phase }, ..self };
            }
            (Process::Foreign, Link::Gone(phase)) => {
                self.fail(LaunchFailure::HungUp(phase), emit);
                return self;
            }
            (Process::Alive { .. } | Process::Foreign, Link::Ready | Link::Absent) => {
                emit(lifecycle::Output::Ready);
                self.flags.launched = true;
                return Self { intent: Intent::Run, ..self };
            }
            (
                Process::Unborn
                | Process::Preparing
                | Process::Prepared
                | Process::Spawning
                | Process::Spawned { .. }
                | Process::Alive { .. }
                | Process::Failed
                | Process::Foreign,
                _,
            ) => {}
        }
        if until.is_some_and(|until| until <= now) {
            self.fail(LaunchFailure::TimedOut(self.phase()), emit);
        } else if self.process == Process::Prepared && self.wiring == Wiring::Foreign {
            return self.open_channels(Process::Foreign, emit);
        } else if self.process == Process::Prepared {
            emit(lifecycle::Output::Spawn);
            self.process = Process::Spawning;
        }
        self
    }

    fn hung_up(mut self, now: Moment, until: Moment, phase: Phase, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        if self.dead().is_some() {
            return self.failed_by_death(now, phase, emit);
        }
        if until <= now {
            self.fail(LaunchFailure::Hung(phase), emit);
        }
        self
    }

    /// What it said before it died may be a better reason than its death, and tells how far it came.
    fn last_words(self, now: Moment, until: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        match self.link {
            Link::Opening | Link::Greeting | Link::Negotiating | Link::Syncing | Link::Ready if now < until => self,
            Link::Absent
            | Link::Down
            | Link::Opening
            | Link::Greeting
            | Link::Negotiating
            | Link::Syncing
            | Link::Ready
            | Link::Gone(_) => self.failed_by_death(now, self.phase(), emit),
        }
    }

    fn stopping(mut self, now: Moment, ladder: Ladder, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        match self.process {
            Process::Alive { .. } | Process::Foreign if ladder.is_due(now) && !self.is_over() => {
                let ours = self.wiring != Wiring::Foreign;
                let next = ladder.climb(now, self.link, self.flags.quit_issued, ours);
                self.intent = next.map_or(Intent::Kill, |(ladder, act)| {
                    ladder.rung().filter(|_| act).into_iter().for_each(|rung| emit(lifecycle::Output::Climb(rung)));
                    Intent::Stop(ladder)
                });
                self
            }
            Process::Alive { .. } | Process::Foreign if ladder.is_press_due(now) && !self.is_over() => {
                let may_hear = self.link == Link::Ready && !self.flags.quit_issued;
                let ladder = if may_hear {
                    emit(lifecycle::Output::PressAgain);
                    ladder.rest(now)
                } else {
                    ladder.leave_button()
                };
                Self { intent: Intent::Stop(ladder), ..self }
            }
            Process::Prepared | Process::Failed => self.clean(emit),
            Process::Unborn
            | Process::Preparing
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Dead(_)
            | Process::Foreign => self.unless_over(now, emit),
        }
    }

    /// What is not ours is not killed, but let go.
    fn killing(self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        match self.process {
            Process::Alive { .. } => {
                emit(lifecycle::Output::Climb(Rung::Kill));
                Self { intent: Intent::Killed { until: now.after(REAP) }, ..self }
            }
            Process::Prepared | Process::Failed => self.clean(emit),
            Process::Foreign if !self.is_over() => {
                emit(lifecycle::Output::LetGo);
                self.give_up_channels(emit)
            }
            Process::Unborn
            | Process::Preparing
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Dead(_)
            | Process::Foreign => self.unless_over(now, emit),
        }
    }

    /// A process that survives SIGKILL is held by the kernel. Its channels are given up; it is reaped whenever it ends.
    fn reaping(self, now: Moment, until: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        if self.dead().is_none() && until <= now {
            return self.give_up_channels(emit);
        }
        self.unless_over(now, emit)
    }

    fn draining(self, now: Moment, until: Option<Moment>, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        if self.open == 0 {
            return self.clean(emit);
        }
        if until.is_some_and(|until| until <= now) {
            return self.give_up_channels(emit);
        }
        self
    }

    fn give_up_channels(self, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        emit(lifecycle::Output::Close);
        Self { intent: Intent::Drain { until: None }, ..self }
    }

    fn failed_by_death(mut self, now: Moment, phase: Phase, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        self.fail(LaunchFailure::Exited(phase), emit);
        self.unless_over(now, emit)
    }

    /// Whatever was wanted, a dead process is drained next. What is not ours is over with its monitor.
    fn unless_over(self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        match self.process {
            Process::Dead(_) => Self { intent: Intent::Drain { until: Some(now.after(DRAIN)) }, ..self },
            Process::Foreign if self.is_over() => self.give_up_channels(emit),
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Failed
            | Process::Foreign => self,
        }
    }

    fn is_over(&self) -> bool {
        self.dead().is_some() || self.process == Process::Foreign && matches!(self.link, Link::Gone(_))
    }

    fn clean(self, emit: &mut impl FnMut(lifecycle::Output)) -> Self {
        emit(lifecycle::Output::ReadLog);
        Self { intent: Intent::Clean(Cleaning::Log), ..self }
    }

    pub(crate) fn dead(&self) -> Option<ExitStatus> {
        match self.process {
            Process::Dead(status) => Some(status),
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Failed
            | Process::Foreign => None,
        }
    }
}

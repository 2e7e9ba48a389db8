//! Joint transitions of a lifecycle: the only place where one of its parts acts upon another.
//!
//! # Theory of operation
//!
//! Process, monitor and intent each step on their own inputs, so after an input they may contradict each other: a dead
//! process with the intent to run, a ready monitor in a launch. [`settle`](Lifecycle::settle) resolves that. It applies
//! the first joint transition whose condition holds, and repeats until none does. Every transition moves the intent, or
//! the part that it changes, forward in one direction, so the repetition ends:
//!
//! ```text
//! Launch ─► Run ─► Stop ─► Kill ─► Killed ─► Drain ─► Clean ─► Done
//!    └─► HangUp, LastWords ─┘
//! ```
//!
//! - *Channels* are opened as soon as the process was started.
//! - *A launch* is complete when the monitor is ready, and fails for the first of: the process ended (`LastWords` first
//!   reads the rest of the monitor, which may hold a better reason), the monitor closed (`HangUp` gives the process a
//!   grace to end, since its exit status explains the failure), the deadline.
//! - *A shutdown* climbs the ladder of [`Ladder`], one rung for each deadline or refusal, up to SIGKILL. The power button
//!   is left out, or over, while the guest is stopped.
//! - *A dead process* is drained whatever the intent was: its channels are read to their end, for [`DRAIN`] at most,
//!   then the log is read and the prepared files are removed.
//! - *A process that is not ours* is never signalled. Its run is over when its monitor closes, or when the caller
//!   disconnects. A machine that is resumed is ours once its launch is complete; a launch that fails leaves it running.
//! - *Events* end [`HANG_UP_GRACE`](super::link::HANG_UP_GRACE) after the monitor closed, while the process runs on.

use core::time::Duration;

use super::ladder::Facing;
use super::{Cleaning, Events, Flags, Intent, Ladder, LaunchFailure, Lifecycle, Link, Phase, Process, Rung, Wiring};
use crate::input::ExitStatus;
use crate::lifecycle;
use crate::time::Moment;

/// How long a process may take to end after SIGKILL. Only a process in uninterruptible sleep (`proc(5)`, state `D`),
/// for example on a dead network file system, takes longer.
pub(super) const REAP: Duration = Duration::from_secs(10);

/// How long the host may take to read the log, and then to remove the files. Only a file system that does not answer,
/// such as a network file system whose server is gone, takes longer.
pub(super) const CLEAN: Duration = Duration::from_secs(10);

/// How long the channels of a dead process are read. The bytes that QEMU wrote stay readable after its end (measured
/// with QEMU 7.2.22), so this deadline passes only when another process holds the other end open.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

impl Lifecycle {
    /// Applies joint transitions until none applies.
    pub(super) fn settle(&mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) {
        while self.joint(now, emit) {}
    }

    /// Applies the first joint transition whose condition holds; `false` means that none did.
    fn joint(&mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        if let Process::Spawned { pid } = self.process {
            return self.started(pid, emit);
        }
        if self.dead().is_some() && self.link == Link::Opening && self.wiring == Wiring::Dialled {
            // The process that had to connect is dead, so no connection can come.
            emit(lifecycle::Output::HangUp);
            self.link = Link::Gone(Phase::Connecting);
            return true;
        }
        if self.events.closing_at().is_some_and(|at| at <= now) {
            emit(lifecycle::Output::EventsClosed);
            self.events = Events::Closed;
            return true;
        }
        match self.intent {
            Intent::Launch { until } => self.launching(now, until, emit),
            Intent::HangUp { until, phase } => self.hung_up(now, until, phase),
            Intent::LastWords { until } => self.last_words(now, until),
            Intent::Run => self.drain_if_over(now, emit),
            Intent::Stop(ladder) => self.stopping(now, ladder, emit),
            Intent::Kill => self.killing(now, emit),
            Intent::Killed { until } => self.reaping(now, until, emit),
            Intent::Drain { until } => self.draining(now, until, emit),
            Intent::Clean { step, until } => self.cleaning(now, step, until, emit),
            Intent::Idle | Intent::Done => false,
        }
    }

    /// Opens the channels of a process that was started. One that is started after the run was cleaned up, since its
    /// start took longer than [`REAP`], was sent SIGKILL before: only its end is awaited.
    fn started(&mut self, pid: u32, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        let process = Process::Alive { pid };
        if matches!(self.intent, Intent::Clean { .. } | Intent::Done) {
            self.process = process;
            return true;
        }
        self.open_channels(process, emit)
    }

    fn open_channels(&mut self, process: Process, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        emit(lifecycle::Output::Open);
        self.process = process;
        if self.link == Link::Down {
            self.link = Link::Opening;
        }
        true
    }

    fn launching(&mut self, now: Moment, until: Option<Moment>, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        match (self.process, self.link) {
            (Process::Dead(_), _) => return self.becomes(Intent::LastWords { until: now.after(DRAIN) }),
            (Process::Alive { .. }, Link::Gone(phase)) => {
                let grace = now.after(super::HANG_UP_GRACE);
                let until = until.map_or(grace, |until| until.min(grace));
                return self.becomes(Intent::HangUp { until, phase });
            }
            (Process::Foreign, Link::Gone(phase)) => return self.fails(LaunchFailure::HungUp(phase)),
            (Process::Alive { .. } | Process::Foreign, Link::Ready | Link::Absent) => {
                return match self.companion_end.take() {
                    Some(failure) => self.fails(*failure),
                    None => self.is_ready(emit),
                };
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
            return self.fails(LaunchFailure::TimedOut(self.phase()));
        }
        if self.link.reopens_at().is_some_and(|at| at <= now) {
            self.reopen(emit);
            return true;
        }
        match self.process {
            Process::Prepared if self.wiring.is_foreign() => self.open_channels(Process::Foreign, emit),
            Process::Prepared => {
                emit(lifecycle::Output::Spawn);
                self.process = Process::Spawning;
                true
            }
            Process::Unborn
            | Process::Preparing
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Dead(_)
            | Process::Failed
            | Process::Foreign => false,
        }
    }

    /// Ends the launch successfully.
    fn is_ready(&mut self, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        emit(lifecycle::Output::Ready);
        if self.wiring == Wiring::Resumed {
            emit(lifecycle::Output::Gap);
        }
        self.flags.launched = true;
        self.becomes(Intent::Run)
    }

    /// Waits for the process after the monitor closed during the launch: its exit status explains the failure.
    fn hung_up(&mut self, now: Moment, until: Moment, phase: Phase) -> bool {
        if self.dead().is_some() {
            return self.fails(LaunchFailure::Exited(phase));
        }
        until <= now && self.fails(LaunchFailure::Hung(phase))
    }

    /// Reads the rest of the monitor of a dead process: it shows how far the launch came, and may hold a better reason
    /// than the exit.
    fn last_words(&mut self, now: Moment, until: Moment) -> bool {
        match self.link {
            Link::Opening
            | Link::Refusing
            | Link::Greeting
            | Link::Negotiating
            | Link::Querying
            | Link::Syncing
            | Link::Ready
                if now < until =>
            {
                false
            }
            Link::Absent
            | Link::Down
            | Link::Opening
            | Link::Retrying { .. }
            | Link::Refusing
            | Link::Greeting
            | Link::Negotiating
            | Link::Querying
            | Link::Syncing
            | Link::Ready
            | Link::Gone(_) => self.fails(LaunchFailure::Exited(self.phase())),
        }
    }

    fn stopping(&mut self, now: Moment, ladder: Ladder, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        match self.process {
            Process::Alive { .. } | Process::Foreign if ladder.is_due(now) && !self.is_over() => {
                let facing = self.facing();
                if ladder.skips_button(now, facing) {
                    emit(lifecycle::Output::Skip(Rung::PowerDown));
                }
                let Some((ladder, acts)) = ladder.climb(now, facing) else {
                    return self.becomes(Intent::Kill);
                };
                ladder.rung().filter(|_| acts).into_iter().for_each(|rung| emit(lifecycle::Output::Climb(rung)));
                self.becomes(Intent::Stop(ladder))
            }
            Process::Alive { .. } | Process::Foreign if ladder.is_press_due(now) && !self.is_over() => {
                let is_answering = self.link == Link::Ready && !self.flags.quit_accepted;
                if is_answering {
                    emit(lifecycle::Output::PressAgain);
                }
                self.becomes(Intent::Stop(if is_answering { ladder.rest(now) } else { ladder.stop_pressing() }))
            }
            Process::Preparing | Process::Prepared | Process::Failed => self.clean(now, emit),
            // No program is executed yet, so there is nothing to ask for its end.
            Process::Spawning => self.becomes(Intent::Kill),
            Process::Unborn | Process::Spawned { .. } | Process::Alive { .. } | Process::Dead(_) | Process::Foreign => {
                self.drain_if_over(now, emit)
            }
        }
    }

    fn facing(&self) -> Facing {
        let Flags { quit_accepted: quit_issued, guest_stopped: is_guest_stopped, .. } = self.flags;
        Facing { link: self.link, quit_issued, is_ours: self.process != Process::Foreign, is_guest_stopped }
    }

    /// Kills a process of ours, and disconnects from any other.
    fn killing(&mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        match self.process {
            Process::Spawning | Process::Alive { .. } => {
                emit(lifecycle::Output::Climb(Rung::Kill));
                self.becomes(Intent::Killed { until: now.after(REAP) })
            }
            // A preparation that is in progress is undone by the host when it is complete.
            Process::Preparing | Process::Prepared | Process::Failed => self.clean(now, emit),
            Process::Foreign if !self.is_over() => {
                self.flags.disconnected = true;
                if self.wiring == Wiring::Resumed {
                    emit(lifecycle::Output::Detach);
                }
                self.close_channels(emit)
            }
            Process::Unborn | Process::Spawned { .. } | Process::Dead(_) | Process::Foreign => {
                self.drain_if_over(now, emit)
            }
        }
    }

    /// Waits for a killed process. If it survives its deadline (`proc(5)`, state `D`), its channels are closed; the
    /// host reaps it when it ends.
    fn reaping(&mut self, now: Moment, until: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        match self.process {
            Process::Failed => self.clean(now, emit),
            // The start of the process is blocked, and no channel was opened.
            Process::Spawning => until <= now && self.clean(now, emit),
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Foreign
                if until <= now =>
            {
                self.close_channels(emit)
            }
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Dead(_)
            | Process::Foreign => self.drain_if_over(now, emit),
        }
    }

    fn draining(&mut self, now: Moment, until: Option<Moment>, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        if self.open == 0 {
            return self.clean(now, emit);
        }
        until.is_some_and(|until| until <= now) && self.close_channels(emit)
    }

    fn close_channels(&mut self, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        emit(lifecycle::Output::Close);
        self.becomes(Intent::Drain { until: None })
    }

    /// Drains a dead process, whatever the intent was. The run of a process that is not ours is over when its monitor
    /// closes.
    fn drain_if_over(&mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        match self.process {
            Process::Dead(_) => self.becomes(Intent::Drain { until: Some(now.after(DRAIN)) }),
            Process::Foreign if self.is_over() => self.close_channels(emit),
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawning
            | Process::Spawned { .. }
            | Process::Alive { .. }
            | Process::Failed
            | Process::Foreign => false,
        }
    }

    fn clean(&mut self, now: Moment, emit: &mut impl FnMut(lifecycle::Output)) -> bool {
        emit(lifecycle::Output::ReadLog);
        self.becomes(Intent::Clean { step: Cleaning::Log, until: Some(now.after(CLEAN)) })
    }

    /// Goes on without the host when a step of the clean-up takes too long: the run must end.
    fn cleaning(
        &mut self,
        now: Moment,
        step: Cleaning,
        until: Option<Moment>,
        emit: &mut impl FnMut(lifecycle::Output),
    ) -> bool {
        if until.is_none_or(|until| now < until) {
            return false;
        }
        emit(lifecycle::Output::Unclean(step));
        match step {
            Cleaning::Log => self.log_read(now, emit),
            Cleaning::Remove => self.removed(emit),
        }
        true
    }

    fn becomes(&mut self, intent: Intent) -> bool {
        let is_new = self.intent != intent;
        self.intent = intent;
        is_new
    }

    fn fails(&mut self, failure: LaunchFailure) -> bool {
        self.fail(failure);
        true
    }

    fn is_over(&self) -> bool {
        self.dead().is_some() || self.process == Process::Foreign && matches!(self.link, Link::Gone(_))
    }

    /// Returns the exit status of the process. `None` means that it did not end, or is not ours.
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

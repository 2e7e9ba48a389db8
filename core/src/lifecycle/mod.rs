//! Lifetime of a machine: the product of three small state machines and their joint transitions.
//!
//! [`Process`] follows the process of the operating system, [`Link`] the monitor, and [`Intent`] the goal of the run.
//! Each steps on its own inputs; then [`step`](Lifecycle::step) applies the joint transitions of `settle.rs`, the only
//! place where one part acts upon another, until none applies. [`Events`] records whether events can still arrive. The
//! lifecycle keeps every fact that a transition depends on. The machine keeps the climbed rungs and the last events,
//! which only the outcome reports.
//!
//! # The paths through a run
//!
//! The intent of a machine changes in one direction. In the drawing a station stands for an [`Intent`], a track for all
//! transitions that lead to a station, and a dot on it for where one begins; pointing at a dot shows the inputs that
//! cause the transition. A test generates the drawing and the table below it from the same explored states.
//!
#![doc = include_str!("../../docs/states.svg")]
#![doc = "\n"]
#![doc = include_str!("../../docs/states.md")]
#![deny(clippy::wildcard_enum_match_arm, reason = "a new state must be considered in every transition")]

mod failure;
mod intent;
mod io;
mod ladder;
mod link;
mod phase;
mod process;
mod retry;
mod rung;
mod settle;
mod state;

use alloc::boxed::Box;

use crate::time::Moment;

pub use failure::LaunchFailure;
pub use intent::{Cleaning, Intent};
pub use io::{Input, Output};
pub use ladder::{Ladder, Shutdown};
pub(crate) use link::HANG_UP_GRACE;
pub use link::{Events, Link, LinkEvent, Wiring};
pub use phase::Phase;
pub use process::{Process, ProcessEvent};
pub use retry::Retry;
pub use rung::Rung;
pub use state::{State, Why};

/// The lifetime of a machine, as plain data. [`step`](Self::step) is its only transition.
///
/// ```
/// use qemu_machine_core::Moment;
/// use qemu_machine_core::lifecycle::{self, Lifecycle, Output, ProcessEvent, Retry, Wiring};
///
/// let now = Moment::ORIGIN;
/// let mut outputs = Vec::new();
/// let mut emit = |output| outputs.push(output);
/// let launch = lifecycle::Input::Launch { until: None, wiring: Wiring::Absent, retry: Retry::Never, channels: 0 };
/// let run = Lifecycle::default().step(now, launch, &mut emit);
/// let run = run.step(now, lifecycle::Input::Process(ProcessEvent::Prepared), &mut emit);
/// let run = run.step(now, lifecycle::Input::Process(ProcessEvent::Spawned { pid: 42 }), &mut emit);
/// assert!(run.is_launched());
/// assert_eq!(outputs, [Output::Prepare, Output::Spawn, Output::Open, Output::Ready]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    process: Process,
    link: Link,
    wiring: Wiring,
    retry: Retry,
    intent: Intent,
    events: Events,
    flags: Flags,
    /// Why the launch failed. `None` means that it did not. Boxed, since most launches succeed.
    failure: Option<Box<LaunchFailure>>,
    /// The end of a companion that ended during the launch with status 0. `None` means that there was none.
    companion_end: Option<Box<LaunchFailure>>,
    /// The latest failure of the monitor that was retried. `None` means that there was none.
    retried: Option<Box<LaunchFailure>>,
    /// The number of channels that may still carry bytes.
    open: usize,
}

/// Facts about the present run, false at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    /// The machine became ready. QEMU's Python class sets its `_launched` earlier, when the process starts (QEMU,
    /// `python/qemu/machine/machine.py`, `_launch`).
    launched: bool,
    /// QEMU accepted a `quit`, as `_quit_issued` (QEMU, `python/qemu/machine/machine.py`, `qmp`).
    quit_accepted: bool,
    /// The caller killed the machine, as `_user_killed` (QEMU, `python/qemu/machine/machine.py`, `shutdown`).
    killed: bool,
    /// The caller disconnected or detached, and the machine runs on.
    disconnected: bool,
    /// Another client was connected to the monitor when the host connected to it.
    peer_busy: bool,
    /// The guest is stopped: it does not react to the power button.
    guest_stopped: bool,
}

impl Lifecycle {
    /// Applies an input, passes the outputs to `emit`, and returns the next state.
    #[must_use]
    pub fn step(mut self, now: Moment, input: Input, emit: &mut impl FnMut(Output)) -> Self {
        self.advance(now, input, emit);
        self
    }

    /// Applies an input in place.
    pub(crate) fn advance(&mut self, now: Moment, input: Input, emit: &mut impl FnMut(Output)) {
        match input {
            Input::Launch { until, wiring, retry, channels } => self.launch(until, wiring, retry, channels, emit),
            Input::Shutdown(policy) => self.shutdown(now, policy),
            Input::Kill => self.kill(),
            Input::Detach => self.detach(emit),
            Input::Abandon => self.intent = self.intent.abandoned(now),
            Input::Process(event) => self.process_event(event),
            Input::Link(event) => self.link_event(now, event, emit),
            Input::ChannelClosed => self.open = self.open.saturating_sub(1),
            Input::QuitAccepted => self.flags.quit_accepted |= self.intent.is_run(),
            Input::RungRefused => self.intent = self.intent.refused(now),
            Input::GuestStopped => self.guest_stopped(now),
            Input::GuestResumed => self.flags.guest_stopped = false,
            Input::SignalRefused(signal) => self.intent = self.intent.signal_refused(signal, now),
            Input::LogRead if self.is_cleaning(Cleaning::Log) => self.log_read(now, emit),
            Input::Removed if self.is_cleaning(Cleaning::Remove) => self.removed(emit),
            Input::RemovedLater if self.is_cleaning(Cleaning::Remove) => {
                self.intent = Intent::Clean { step: Cleaning::Remove, until: None };
            }
            Input::CompanionsGone if self.awaits_companions() => {
                self.intent = Intent::Clean { step: Cleaning::Remove, until: Some(now.after(settle::CLEAN)) };
            }
            Input::CompanionFailed(failure) => self.fail(failure),
            Input::CompanionEnded(failure) if self.intent.is_launch() => {
                self.companion_end.get_or_insert(failure.into());
            }
            Input::CompanionEnded(_) | Input::CompanionsGone | Input::RemovedLater => {}
            Input::LogRead | Input::Removed | Input::TimePassed => {}
        }
        self.settle(now, emit);
    }

    fn launch(
        &mut self,
        until: Option<Moment>,
        wiring: Wiring,
        retry: Retry,
        channels: usize,
        emit: &mut impl FnMut(Output),
    ) {
        if self.intent.is_run() {
            return;
        }
        let is_absent = wiring == Wiring::Absent;
        *self = Self {
            process: Process::Preparing,
            link: if is_absent { Link::Absent } else { Link::Down },
            wiring,
            retry,
            intent: Intent::Launch { until },
            events: if is_absent { Events::Closed } else { Events::Open },
            flags: Flags::default(),
            failure: None,
            companion_end: None,
            retried: None,
            open: channels,
        };
        emit(Output::Prepare);
    }

    fn shutdown(&mut self, now: Moment, policy: Shutdown) {
        if self.intent.can_stop() {
            self.fail(LaunchFailure::Cancelled(self.phase()));
            self.intent = Intent::Stop(Ladder::new(policy, now));
        }
    }

    /// Notes that the guest does not run. A button that was pressed has no effect any more, so the next rung is due.
    fn guest_stopped(&mut self, now: Moment) {
        self.flags.guest_stopped |= self.intent.is_run();
        self.intent = self.intent.without_guest(now);
    }

    fn kill(&mut self) {
        if self.intent.can_be_killed() {
            self.fail(LaunchFailure::Cancelled(self.phase()));
            self.flags.killed = true;
            self.intent = Intent::Kill;
        }
    }

    /// Detaches from a process of ours.
    fn detach(&mut self, emit: &mut impl FnMut(Output)) {
        if self.can_be_detached() {
            emit(Output::Detach);
            self.flags.disconnected = true;
            self.disown_process();
            (self.wiring, self.intent) = (Wiring::Foreign, Intent::Kill);
        }
    }

    /// Fails the launch. The first reason counts; later calls change nothing. A machine that could not be resumed runs on.
    fn fail(&mut self, failure: LaunchFailure) {
        if self.intent.is_launch() {
            self.failure = Some(self.explained(failure).into());
            self.intent = Intent::Kill;
            if self.wiring == Wiring::Resumed {
                self.disown_process();
            }
        }
    }

    /// Leaves a process that runs to other programs: the lifecycle disconnects from a foreign process instead of killing
    /// it.
    fn disown_process(&mut self) {
        if matches!(self.process, Process::Spawned { .. } | Process::Alive { .. }) {
            self.process = Process::Foreign;
        }
    }

    /// Returns why a deadline passed, if that is known.
    fn explained(&mut self, failure: LaunchFailure) -> LaunchFailure {
        let LaunchFailure::TimedOut(phase) = failure else { return failure };
        if let Some(failure) = self.companion_end.take() {
            return *failure;
        }
        match phase {
            // QEMU accepts no second client while one is connected (QEMU, `chardev/char-socket.c`,
            // `tcp_chr_new_client`), so the silence means busy, not slow.
            Phase::Greeting | Phase::Syncing if self.flags.peer_busy => LaunchFailure::Busy,
            Phase::Connecting => match self.retried.take() {
                Some(retried) => *retried,
                None if self.flags.peer_busy => LaunchFailure::Busy,
                None => failure,
            },
            Phase::Starting
            | Phase::Greeting
            | Phase::Negotiating
            | Phase::Querying
            | Phase::Syncing
            | Phase::Running => failure,
        }
    }

    fn process_event(&mut self, event: ProcessEvent) {
        let before = self.process;
        self.process = before.step(&event);
        if before == self.process {
            return;
        }
        match event {
            ProcessEvent::PrepareFailed(fault) | ProcessEvent::SpawnFailed(fault) => {
                self.fail(LaunchFailure::Host(fault));
            }
            ProcessEvent::Prepared
            | ProcessEvent::Spawned { .. }
            | ProcessEvent::Found { .. }
            | ProcessEvent::Exited(_) => {}
        }
    }

    fn link_event(&mut self, now: Moment, event: LinkEvent, emit: &mut impl FnMut(Output)) {
        let Some(event) = self.begin_retry(now, event, emit) else { return };
        let before = self.link;
        self.link = before.step(&event);
        match event {
            LinkEvent::PeerBusy => self.flags.peer_busy = true,
            LinkEvent::HungUp if self.intent.is_run() => self.events = self.events.hung_up(now),
            // The end of the process explains that its monitor cannot be opened.
            LinkEvent::OpenFailed(_) if self.dead().is_some() => {}
            LinkEvent::OpenFailed(failure) | LinkEvent::HandshakeFailed(failure) => {
                if before != self.link {
                    self.fail(failure);
                }
            }
            LinkEvent::Opened
            | LinkEvent::Greeted
            | LinkEvent::Querying
            | LinkEvent::Syncing
            | LinkEvent::Negotiated
            | LinkEvent::HungUp => {}
        }
    }

    /// Begins to open the monitor again, if this event is a failure that is [retried](Retry). Returns any other event.
    fn begin_retry(&mut self, now: Moment, event: LinkEvent, emit: &mut impl FnMut(Output)) -> Option<LinkEvent> {
        if !self.intent.is_launching() {
            return Some(event);
        }
        let awaits_next_peer = self.awaits_next_peer();
        match (self.link, event) {
            (Link::Opening, LinkEvent::OpenFailed(failure)) if self.retry.dials_after(&failure) => {
                self.flags.peer_busy |= failure == LaunchFailure::Busy;
                self.retried = Some(failure.into());
                self.link = Link::Retrying { at: now.after(retry::REDIAL) };
            }
            (Link::Greeting, LinkEvent::HandshakeFailed(failure)) if awaits_next_peer => {
                self.retried = Some(failure.into());
                self.link = Link::Refusing;
                emit(Output::HangUp);
            }
            (Link::Greeting, LinkEvent::HungUp) if awaits_next_peer => {
                self.retried = Some(LaunchFailure::HungUp(Phase::Greeting).into());
                self.reopen(emit);
            }
            (Link::Refusing, LinkEvent::HungUp) => self.reopen(emit),
            (_, event) => return Some(event),
        }
        None
    }

    /// Returns whether the host listens for the next connection when the present one ends.
    pub(crate) fn awaits_next_peer(&self) -> bool {
        let may_be_stranger = self.link == Link::Greeting && self.retry == Retry::Stranger;
        self.intent.is_launching() && (may_be_stranger || self.link == Link::Refusing)
    }

    /// Returns whether the host dials again later.
    pub(crate) fn dials_again(&self) -> bool {
        self.link.reopens_at().is_some()
    }

    fn reopen(&mut self, emit: &mut impl FnMut(Output)) {
        (self.link, self.open) = (Link::Opening, self.open + 1);
        emit(Output::Reopen);
    }

    fn is_cleaning(&self, step: Cleaning) -> bool {
        matches!(self.intent, Intent::Clean { step: present, .. } if present == step)
    }

    fn log_read(&mut self, now: Moment, emit: &mut impl FnMut(Output)) {
        // A resumed machine that is not ours may run on when its connection ends or fails. Its files are removed only after
        // a `quit`: a machine that runs on without its socket cannot be resumed again.
        let may_run_on = self.wiring == Wiring::Resumed && self.process == Process::Foreign;
        if may_run_on && !self.flags.quit_accepted && !self.flags.disconnected {
            emit(Output::Detach);
        }
        emit(Output::Remove);
        self.intent = Intent::Clean { step: Cleaning::Remove, until: Some(now.after(settle::CLEAN)) };
    }

    fn removed(&mut self, emit: &mut impl FnMut(Output)) {
        (self.intent, self.events) = (Intent::Done, Events::Closed);
        emit(Output::Finish);
    }

    /// Returns whether the files are removed when the companions are gone.
    pub(crate) fn awaits_companions(&self) -> bool {
        matches!(self.intent, Intent::Clean { step: Cleaning::Remove, until: None })
    }

    /// Returns whether a process of ours runs, or is being started.
    pub(crate) fn may_have_process(&self) -> bool {
        self.pid().is_some() || self.process == Process::Spawning
    }

    /// Returns whether QEMU has accepted a `quit`, or has just closed its monitor, and so is about to end.
    pub(crate) fn is_qemu_ending(&self) -> bool {
        self.flags.quit_accepted || matches!(self.link, Link::Gone(_)) && self.events != Events::Closed
    }

    /// Returns whether the launch waits for the host to prepare the run.
    pub(crate) fn is_preparing(&self) -> bool {
        self.process == Process::Preparing && self.intent.is_launching()
    }

    /// Returns when the machine must be ready. `None` means that no launch is in progress, or that it has no deadline.
    pub(crate) fn launch_deadline(&self) -> Option<Moment> {
        if let Intent::Launch { until } = self.intent { until } else { None }
    }

    /// Returns whether the machine runs and its process is ours, so that it can be detached.
    pub(crate) fn can_be_detached(&self) -> bool {
        self.intent == Intent::Run && matches!(self.process, Process::Alive { .. })
    }

    /// Returns how far the launch came.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.process {
            Process::Unborn | Process::Preparing | Process::Prepared | Process::Spawning | Process::Failed => {
                Phase::Starting
            }
            Process::Spawned { .. } | Process::Alive { .. } | Process::Dead(_) | Process::Foreign => self.link.phase(),
        }
    }

    /// Returns where the machine is between its launch and its end.
    #[must_use]
    pub fn state(&self) -> State {
        match self.intent {
            Intent::Idle => State::Idle,
            Intent::Launch { .. } | Intent::HangUp { .. } | Intent::LastWords { .. } => State::Launching(self.phase()),
            Intent::Run => State::Running,
            Intent::Stop(_) | Intent::Kill | Intent::Killed { .. } | Intent::Drain { .. } | Intent::Clean { .. } => {
                State::Ending
            }
            Intent::Done => State::Ended,
        }
    }

    /// Returns the next deadline and its purpose. [`Input::TimePassed`] is due then. `None` means that nothing is due.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> Option<(Moment, Why)> {
        let Some(events) = self.events.closing_at() else { return self.intent_deadline() };
        self.intent_deadline().into_iter().chain([(events, Why::HangUp)]).min_by_key(|(until, _)| *until)
    }

    #[inline]
    fn intent_deadline(&self) -> Option<(Moment, Why)> {
        match self.intent {
            Intent::Launch { until } => {
                let launch = until.map(|until| (until, Why::Launch(self.phase())));
                let redial = self.link.reopens_at().map(|at| (at, Why::Redial));
                launch.into_iter().chain(redial).min_by_key(|(until, _)| *until)
            }
            Intent::HangUp { until, .. } => Some((until, Why::HangUp)),
            Intent::Stop(ladder) => ladder.deadline(),
            Intent::LastWords { until } => Some((until, Why::Drain)),
            Intent::Killed { until } => Some((until, Why::Reap)),
            Intent::Drain { until } => until.map(|until| (until, Why::Drain)),
            Intent::Clean { until, .. } => until.map(|until| (until, Why::Clean)),
            Intent::Idle | Intent::Run | Intent::Kill | Intent::Done => None,
        }
    }

    /// Returns whether the machine became ready and the run is not over.
    #[must_use]
    pub fn is_launched(&self) -> bool {
        self.flags.launched && self.intent.is_run()
    }

    /// Returns whether QEMU accepted a `quit` and the run is not over: `_quit_issued` of QEMU's Python class (QEMU,
    /// `python/qemu/machine/machine.py`, `qmp`).
    #[must_use]
    pub fn is_quit_issued(&self) -> bool {
        self.flags.quit_accepted && self.intent.is_run()
    }

    /// Returns whether the caller killed the machine and the run is not over: `_user_killed` of QEMU's Python class
    /// (QEMU, `python/qemu/machine/machine.py`, `shutdown`).
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.flags.killed && self.intent.is_run()
    }

    /// Returns whether QEMU accepted a `quit` in the present or previous run.
    pub(crate) fn was_quit_accepted(&self) -> bool {
        self.flags.quit_accepted
    }

    /// Returns whether the caller disconnected or detached in the present or previous run.
    pub(crate) fn was_disconnected(&self) -> bool {
        self.flags.disconnected
    }

    /// Returns why the launch of the present or previous run failed. `None` means that it succeeded, or is not over.
    #[must_use]
    pub fn failure(&self) -> Option<&LaunchFailure> {
        self.failure.as_deref()
    }

    /// Returns the id of the process. `None` means that no process of ours is alive.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.process {
            Process::Spawned { pid } | Process::Alive { pid } => Some(pid),
            Process::Unborn
            | Process::Preparing
            | Process::Prepared
            | Process::Spawning
            | Process::Dead(_)
            | Process::Failed
            | Process::Foreign => None,
        }
    }

    /// Returns the state of the process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// Returns the state of the monitor.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// Returns the goal of the run.
    #[must_use]
    pub fn intent(&self) -> Intent {
        self.intent
    }

    /// Returns whether events can still arrive.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events
    }
}

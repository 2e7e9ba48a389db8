//! Decides by when what must have happened in a run, and how far it came.

use std::time::Duration;

use qemu_machine_core::{Channel, Machine, Moment, Phase, State};

use super::plan::{millis, secs};
use super::scene::{LocalEnd, Scene};

/// How long a QEMU that hung up may take to end by itself, before that is told.
pub(super) const HANG_UP: Duration = secs(5);

/// How long a process may take to end after SIGKILL, and how long its last words may take.
const REAP: Duration = secs(10);
const DRAIN: Duration = secs(2);

/// All effects of one run together, as slow as they come.
const HOST: Duration = millis(1500);

/// How long what goes out of band takes at most, however busy the main loop is.
pub(super) const OUT_OF_BAND: Duration = secs(5);

/// The run at hand, as the world knows it.
#[derive(Debug)]
pub(super) struct Bounds {
    launch_until: Option<Moment>,
    end_by: Option<Moment>,
    /// How far the monitor came, and whether it stays there.
    phase: Phase,
    is_frozen: bool,
    /// What the machine said of its launch the last time it said anything of it.
    pub(super) launching: Option<Phase>,
    /// When it was first seen to have failed.
    pub(super) failed_at: Option<Moment>,
    pub(super) ready_at: Option<Moment>,
    /// The caller asked for the end.
    pub(super) asked: bool,
    pub(super) out_of_band: Option<bool>,
    pub(super) declined: bool,
    /// The monitor is closed, and was so since.
    pub(super) closed_at: Option<Moment>,
    pub(super) killed_at: Option<Moment>,
    /// The host would not let it be killed.
    pub(super) kill_refused: bool,
    exited_at: Moment,
    pub(super) ended: bool,
}

impl Bounds {
    /// Of a machine that is not launched.
    pub(super) fn none() -> Self {
        Self {
            launch_until: None,
            end_by: None,
            phase: Phase::Starting,
            is_frozen: false,
            launching: None,
            failed_at: None,
            ready_at: None,
            asked: false,
            out_of_band: None,
            declined: false,
            closed_at: None,
            killed_at: None,
            kill_refused: false,
            exited_at: Moment::ORIGIN,
            ended: false,
        }
    }

    pub(super) fn launched(scene: &Scene) -> Self {
        let until = scene.style.launch_within.map(|within| scene.now.after(within));
        Self { launch_until: until, ..Self::none() }
    }

    pub(super) fn launch_until(&self) -> Option<Moment> {
        self.launch_until
    }

    fn reached(&mut self, phase: Phase) {
        if !self.is_frozen {
            self.phase = phase;
        }
    }

    pub(super) fn spawned(&mut self, has_monitor: bool) {
        self.reached(if has_monitor { Phase::Connecting } else { Phase::Running });
    }

    pub(super) fn opened(&mut self, channel: Channel) {
        if channel == Channel::Monitor {
            self.reached(Phase::Greeting);
        }
    }

    pub(super) fn greeted(&mut self) {
        self.reached(Phase::Negotiating);
    }

    pub(super) fn accepted(&mut self, out_of_band: bool) {
        self.out_of_band = Some(out_of_band);
        self.reached(Phase::Running);
    }

    pub(super) fn declined(&mut self) {
        (self.declined, self.is_frozen) = (true, true);
    }

    pub(super) fn closed(&mut self, channel: Channel, now: Moment) {
        if channel == Channel::Monitor {
            self.is_frozen = true;
            self.closed_at = self.closed_at.or(Some(now));
        }
    }

    /// From a death on, only its last words are waited for; in a launch first those of the monitor.
    pub(super) fn exited(&mut self, now: Moment) {
        self.exited_at = now;
        let drains = if self.ready_at.is_none() { 2 } else { 1 };
        self.must_end_by(now.after(drains * DRAIN + HOST));
    }

    /// The caller asked for an end that may take so long before SIGKILL.
    pub(super) fn asked(&mut self, now: Moment, patience: Duration) {
        self.asked = true;
        self.must_end_by(now.after(patience).after(REAP + DRAIN + HOST));
    }

    fn must_end_by(&mut self, by: Moment) {
        self.end_by = Some(self.end_by.map_or(by, |other| other.min(by)));
    }

    /// Whether commands that have no reply may be told that the monitor is gone.
    pub(super) fn is_disconnected(&self, state: State) -> bool {
        let is_over = matches!(state, State::Ending | State::Ended);
        let never_opened = matches!(self.phase, Phase::Starting | Phase::Connecting);
        self.closed_at.is_some() || self.declined || (never_opened && is_over)
    }

    /// When it is told that no event can come any more: the end of the process, which says more, has its time first.
    pub(super) fn events_close_at(&self, has_monitor: bool) -> Option<Moment> {
        if has_monitor { self.closed_at.map(|since| since.after(HANG_UP)) } else { Some(Moment::ORIGIN) }
    }

    /// A process that was sent SIGKILL so long ago cannot be killed.
    pub(super) fn is_unkillable(&self, now: Moment) -> bool {
        self.kill_refused || self.killed_at.is_some_and(|since| now.since(since) >= REAP)
    }

    /// What must be true whenever the driver is about to wait.
    pub(super) fn check(&mut self, machine: &Machine, scene: &mut Scene, pid: Option<u32>) {
        let now = scene.now;
        let state = machine.state();
        match state {
            State::Launching(phase) => {
                let late = self.launch_until.is_some_and(|until| now > until.max(self.exited_at.after(DRAIN)));
                scene.demand(!late, || "the launch takes longer than it may".into());
                scene.demand(phase == self.phase, || {
                    format!("the launch is said to be {phase:?}, it is {:?}", self.phase)
                });
                self.launching = Some(phase);
            }
            State::Ending if self.ready_at.is_none() && self.failed_at.is_none() => {
                self.failed_at = Some(now);
                self.must_end_by(now.after(REAP + DRAIN + HOST).max(self.end_by.unwrap_or(now)));
            }
            _ => {}
        }
        let late = state != State::Ended && self.end_by.is_some_and(|by| now > by);
        scene.demand(!late, || format!("no end by {:?}, the machine is {state:?}", self.end_by));
        scene.demand(machine.pid() == pid, || format!("the process is said to be {:?}, it is {pid:?}", machine.pid()));
        let open = |wire: &super::scene::Wire| matches!(wire.local, LocalEnd::Opening | LocalEnd::Open);
        let channels: Vec<Channel> =
            scene.wires.iter().filter(|(_, wire)| open(wire)).map(|(channel, _)| *channel).collect();
        let said = machine.channels();
        scene.demand(channels == said, || format!("the channels are said to be {said:?}, they are {channels:?}"));
    }
}

//! Time limits of a run, and its phase, as the world expects them.

use std::time::Duration;

use qemu_machine_core::{Channel, Machine, Moment, Phase, State};

use super::plan::{millis, secs};
use super::scene::{LocalEnd, Scene};

/// The grace for the process to exit after its monitor closed, before the machine reports the loss.
pub(super) const HANG_UP: Duration = secs(5);

/// The limit for a process to exit after SIGKILL, and the limit for reading its last output after the exit.
const REAP: Duration = secs(10);
const DRAIN: Duration = secs(2);

/// The limit for all effects of one run together.
const HOST: Duration = millis(1500);

/// The limit for an out-of-band command, however busy QEMU's main loop is.
pub(super) const OUT_OF_BAND: Duration = secs(5);

/// The limits and the progress of the current run.
#[derive(Debug)]
pub(super) struct Bounds {
    launch_until: Option<Moment>,
    end_by: Option<Moment>,
    /// The phase of the monitor, and whether it is final.
    phase: Phase,
    is_frozen: bool,
    /// The phase of the launch that the machine reported last.
    pub(super) launching: Option<Phase>,
    /// The time at which the launch was first seen to have failed.
    pub(super) failed_at: Option<Moment>,
    pub(super) ready_at: Option<Moment>,
    /// Whether the caller has asked for the end.
    pub(super) asked: bool,
    pub(super) out_of_band: Option<bool>,
    pub(super) declined: bool,
    /// The time at which the monitor was closed; `None` means that it was not.
    pub(super) closed_at: Option<Moment>,
    pub(super) killed_at: Option<Moment>,
    /// Whether the host has refused a SIGKILL.
    pub(super) kill_refused: bool,
    exited_at: Moment,
    pub(super) ended: bool,
}

impl Bounds {
    /// Returns the limits of a machine that is not launched.
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

    /// After the exit, only the last output delays the end; in a launch, the last output of the monitor comes first.
    pub(super) fn exited(&mut self, now: Moment) {
        self.exited_at = now;
        let drains = if self.ready_at.is_none() { 2 } else { 1 };
        self.must_end_by(now.after(drains * DRAIN + HOST));
    }

    /// Records that the caller asked for the end, with SIGKILL after `patience`.
    pub(super) fn asked(&mut self, now: Moment, patience: Duration) {
        self.asked = true;
        self.must_end_by(now.after(patience).after(REAP + DRAIN + HOST));
    }

    fn must_end_by(&mut self, by: Moment) {
        self.end_by = Some(self.end_by.map_or(by, |other| other.min(by)));
    }

    /// Returns whether a command without a reply may fail with a lost connection.
    pub(super) fn is_disconnected(&self, state: State) -> bool {
        let is_over = matches!(state, State::Ending | State::Ended);
        let never_opened = matches!(self.phase, Phase::Starting | Phase::Connecting);
        self.closed_at.is_some() || self.declined || (never_opened && is_over)
    }

    /// Returns the time at which the machine reports that no event can follow. The exit of the process, which gives
    /// more information, has a grace before that.
    pub(super) fn events_close_at(&self, has_monitor: bool) -> Option<Moment> {
        if has_monitor { self.closed_at.map(|since| since.after(HANG_UP)) } else { Some(Moment::ORIGIN) }
    }

    /// Returns whether the process counts as unkillable: it outlived SIGKILL by [`REAP`], or the host refused the
    /// signal.
    pub(super) fn is_unkillable(&self, now: Moment) -> bool {
        self.kill_refused || self.killed_at.is_some_and(|since| now.since(since) >= REAP)
    }

    /// Checks what must be true whenever the driver is about to wait.
    pub(super) fn check(&mut self, machine: &Machine, scene: &mut Scene, pid: Option<u32>) {
        let now = scene.now;
        let state = machine.state();
        match state {
            State::Launching(phase) => {
                let late = self.launch_until.is_some_and(|until| now > until.max(self.exited_at.after(DRAIN)));
                scene.demand(!late, || "the launch outlives its deadline".into());
                scene.demand(phase == self.phase, || {
                    format!("the machine reports the launch phase {phase:?}, it is {:?}", self.phase)
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
        scene.demand(!late, || format!("no end until {:?}, the machine is {state:?}", self.end_by));
        let alive = machine.lifecycle().pid();
        scene.demand(alive == pid, || format!("the lifecycle has the process {alive:?}, it is {pid:?}"));
        let (reported, followed) = (machine.pid(), pid.filter(|_| state != State::Ended));
        scene.demand(reported == followed, || {
            format!("the machine reports the process {reported:?}, it is {followed:?}")
        });
        let open = |wire: &super::scene::Wire| matches!(wire.local, LocalEnd::Opening | LocalEnd::Open);
        let channels: Vec<Channel> =
            scene.wires.iter().filter(|(_, wire)| open(wire)).map(|(channel, _)| *channel).collect();
        let said = machine.channels();
        scene.demand(channels == said, || format!("the machine reports the channels {said:?}, they are {channels:?}"));
    }
}

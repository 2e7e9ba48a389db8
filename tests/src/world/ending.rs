//! Ends of the simulated QEMU: by its monitor, by signals, by its guest, or by a crash.

use qemu_machine_core::{Channel, ExitStatus, Signal, SignalName};

use super::plan::{Kill, Turn, millis, secs};
use super::qemu::Qemu;
use super::request::ParsedRequest;
use super::scene::Scene;
use super::timeline::{Tick, What};

/// The cause of QEMU's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Quit,
    PowerOff,
    Reset,
    Panic,
    DebugExit(u32),
    /// SIGTERM, from the machine's driver or from another process.
    Terminated {
        by_us: bool,
    },
    Killed {
        by_us: bool,
    },
    /// A crash or an exit of its own.
    Died,
}

const SIGKILL: ExitStatus = ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false };
const SIGTERM: ExitStatus = ExitStatus::Signal { number: 15, name: SignalName::Term, core_dumped: false };

impl Qemu {
    pub(super) fn ending_tick(&mut self, tick: Tick, scene: &mut Scene) {
        match tick {
            Tick::Turn => self.take_turn(scene),
            Tick::PowerOff if !self.stuck => self.shut_down(End::PowerOff, scene),
            Tick::Killed => self.die(End::Killed { by_us: true }, SIGKILL, true, scene),
            Tick::Exit => self.exit(scene),
            _ => {}
        }
    }

    fn take_turn(&mut self, scene: &mut Scene) {
        let Some((_, turn)) = self.fate.turn.filter(|_| !self.stopped && self.end.is_none()) else { return };
        scene.tell(format!("turn: {turn:?}"));
        match turn {
            Turn::PowerOff => self.shut_down(End::PowerOff, scene),
            Turn::Reset => self.shut_down(End::Reset, scene),
            Turn::Panic => {
                self.event("GUEST_PANICKED", Some(r#"{"action": "poweroff"}"#.into()), scene);
                self.shut_down(End::Panic, scene);
            }
            Turn::DebugExit(value) => {
                self.die(End::DebugExit(value), ExitStatus::Code((value << 1 | 1) as i32), false, scene);
            }
            Turn::Crash => self.die(
                End::Died,
                ExitStatus::Signal { number: 11, name: SignalName::Segv, core_dumped: true },
                true,
                scene,
            ),
            Turn::Terminated => self.shut_down(End::Terminated { by_us: false }, scene),
            Turn::Killed => self.die(End::Killed { by_us: false }, SIGKILL, true, scene),
            Turn::HangUp => {
                scene.seen.note("monitor closed under a process that lives on");
                scene.close(Channel::Monitor);
            }
            Turn::Stuck(patience) => {
                scene.seen.note("main loop stuck");
                self.stuck = true;
                if let Some(patience) = patience {
                    scene.tick(patience, Tick::Unstick);
                }
            }
            Turn::Stopped => {
                scene.seen.note("process stopped");
                self.stopped = true;
            }
        }
    }

    /// Presses the power button. The guest notices it once it has booted, and may obey.
    pub(super) fn press(&mut self, request: &ParsedRequest, scene: &mut Scene) {
        self.event("POWERDOWN", None, scene);
        if request.nonce.is_none() {
            self.presses += 1;
        }
        if self.presses > 1 {
            scene.seen.note("power button pressed again");
        }
        if self.fate.unheard > 0 {
            self.fate.unheard -= 1;
        } else if self.fate.heeds_button {
            let delay = scene.random.within(secs(10));
            scene.tick(delay, Tick::PowerOff);
        }
    }

    /// Sends SHUTDOWN, perhaps more events, and the reply; then ends. Events after SHUTDOWN do occur (measured with
    /// QEMU 7.2.22).
    pub(super) fn quit(&mut self, request: &ParsedRequest, scene: &mut Scene) {
        if !self.fate.is_daemon {
            self.event("SHUTDOWN", Some(r#"{"guest": false, "reason": "host-qmp-quit"}"#.into()), scene);
        }
        for _ in 0..scene.random.below(3) {
            self.event("JOB_STATUS_CHANGE", Some(r#"{"status": "aborting", "id": "job"}"#.into()), scene);
        }
        // QEMU may have died in the middle of these events.
        if self.end.is_none() {
            self.return_to(request, true, scene);
        }
        if self.end.is_none() {
            scene.seen.note("quit");
            self.begin_to_end(End::Quit, scene);
        }
    }

    /// Ends in an orderly way, with the reason in an event if the monitor is negotiated (QEMU, `qapi/run-state.json`,
    /// `ShutdownCause`).
    fn shut_down(&mut self, end: End, scene: &mut Scene) {
        if self.end.is_some() || self.stopped {
            return;
        }
        let reason = match end {
            End::PowerOff => "guest-shutdown",
            End::Reset => "guest-reset",
            End::Panic => "guest-panic",
            _ => "host-signal",
        };
        let by_guest = reason.starts_with("guest");
        if self.is_negotiated() {
            self.event("SHUTDOWN", Some(format!(r#"{{"guest": {by_guest}, "reason": "{reason}"}}"#)), scene);
        }
        // QEMU may have died in the middle of the event.
        if self.end.is_none() {
            self.begin_to_end(end, scene);
        }
    }

    fn begin_to_end(&mut self, end: End, scene: &mut Scene) {
        scene.tell(format!("QEMU ends: {end:?}"));
        self.end = Some(end);
        self.status = Some(ExitStatus::Code(0));
        self.queue.clear();
        self.executing = None;
        let channels: Vec<Channel> = scene.wires.keys().copied().collect();
        for channel in channels {
            if scene.random.chance(50) {
                scene.within(self.fate.exits_after, What::Qemu(Tick::Close(channel)));
            }
        }
        scene.tick(self.fate.exits_after, Tick::Exit);
    }

    /// Ends immediately. Output that QEMU has not written to its sockets may be lost.
    pub(super) fn die(&mut self, end: End, status: ExitStatus, loses: bool, scene: &mut Scene) {
        scene.tell(format!("QEMU dies: {end:?}, {status}"));
        self.end = Some(end);
        self.status = Some(status);
        self.queue.clear();
        self.executing = None;
        (self.stopped, self.is_dead) = (false, true);
        let channels: Vec<Channel> = scene.wires.keys().copied().collect();
        for channel in channels {
            if loses && scene.random.chance(40) {
                let length = scene.truncate(channel);
                if channel == Channel::Monitor {
                    self.truncate_speech(length);
                }
            }
        }
        scene.within(millis(1), What::Qemu(Tick::Exit));
    }

    fn exit(&mut self, scene: &mut Scene) {
        self.is_alive = false;
        let channels: Vec<Channel> = scene.wires.keys().copied().collect();
        for channel in channels {
            match self.fate.held {
                Some(None) => {}
                Some(Some(held)) => scene.tick(held, Tick::Close(channel)),
                None => scene.within(millis(2), What::Qemu(Tick::Close(channel))),
            }
        }
        scene.within(millis(2), What::Exited);
    }

    pub(super) fn signal(&mut self, signal: Signal, scene: &mut Scene) {
        if !self.is_alive {
            return;
        }
        match signal {
            Signal::Kill => match self.fate.kill {
                Kill::Works => self.die(End::Killed { by_us: true }, SIGKILL, true, scene),
                Kill::WorksAfter(delay) => {
                    self.stopped = true;
                    scene.tick(delay, Tick::Killed);
                }
                Kill::Never => self.stopped = true,
            },
            Signal::Terminate if self.end.is_some() || self.stopped => {}
            Signal::Terminate if !self.greeted => {
                self.die(End::Terminated { by_us: true }, SIGTERM, false, scene);
            }
            Signal::Terminate if !self.fate.heeds_term => scene.seen.note("SIGTERM ignored"),
            Signal::Terminate if self.stuck => self.term_waits = true,
            Signal::Terminate => self.terminated(scene),
        }
    }

    pub(super) fn terminated(&mut self, scene: &mut Scene) {
        self.shut_down(End::Terminated { by_us: true }, scene);
    }
}

//! Joint runs of QEMU and its companions: random actions of a caller, a host, the processes and the clock.

use std::time::Duration;

use crate::rig::{COMPANION_PID, GREETING, PID, Rig, config, fault, is_thorough, secs};
use qemu_machine_core::{
    Channel, Companion, CompanionEffect, CompanionInput, Effect, ExitStatus, Input, Machine, Moment, Notice, Shutdown,
    Signal, State,
};

const NAMES: [&str; 2] = ["fs", "bus"];

/// The random walks, by how much `QEMU_MACHINE_STATES=all` multiplies them, and the most actions of each.
const WALKS: u64 = 1_500;
const THOROUGH: u64 = 20;
const ACTIONS: usize = 40;

/// A machine with the processes around it.
struct World {
    rig: Rig,
    /// The effects that are not completed.
    pending: Vec<Effect>,
    /// The companions that run, those that are being started included.
    alive: Vec<bool>,
    terminated: Vec<bool>,
    is_qemu_alive: bool,
    /// When QEMU was sent SIGKILL.
    killed_at: Option<Moment>,
    /// The caller has killed the machine, or no longer waits for its end.
    is_killed: bool,
    is_removed: bool,
    is_ready: bool,
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let fs = Companion::new("fs", "virtiofsd").listener("--fd=").chardev("fs");
        let bus = Companion::new("bus", "dbus-daemon").path("--address=");
        let fs = if seed % 2 == 0 { fs.required() } else { fs };
        let config = config().companion(fs);
        let (config, count) = if seed % 3 == 0 { (config, 1) } else { (config.companion(bus), 2) };
        let mut rig = Rig::new(config);
        rig.held = |_| true;
        let mut world = Self {
            rig,
            pending: Vec::new(),
            alive: vec![false; count],
            terminated: vec![false; count],
            is_qemu_alive: false,
            killed_at: None,
            is_killed: false,
            is_removed: false,
            is_ready: false,
            // Xorshift needs a number other than 0.
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        };
        world.rig.launch();
        world.check();
        world
    }

    /// Everything succeeds until the machine is ready.
    fn bring_up(&mut self) {
        while !self.pending.is_empty() {
            let effect = self.pending.remove(0);
            self.complete(effect, false);
        }
        self.negotiate();
        assert!(self.is_ready);
    }

    /// Returns a random number below the bound.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % bound
    }

    fn vm(&self) -> &Machine {
        &self.rig.vm
    }

    /// Returns whether the machine no longer waits for a companion that survived SIGKILL.
    fn is_left(&self, index: usize) -> bool {
        self.vm().companion_end(NAMES[index]).is_ok_and(|end| end.is_some())
    }

    fn is_qemu_possible(&self) -> bool {
        self.is_qemu_alive || self.pending.iter().any(|effect| matches!(effect, Effect::Spawn(_)))
    }

    /// Checks the effects and notices since the last call.
    fn check(&mut self) {
        for effect in std::mem::take(&mut self.rig.effects) {
            match &effect {
                Effect::Companion(index, CompanionEffect::Start(_)) => self.alive[*index] = true,
                Effect::Companion(index, CompanionEffect::Signal(Signal::Terminate)) => {
                    assert!(self.alive[*index] && !self.is_left(*index));
                    // A QEMU that survives SIGKILL is left after ten seconds, or when the caller no longer waits.
                    let is_over = self.is_killed || self.killed_at.is_some_and(|at| at.after(secs(10)) <= self.rig.now);
                    assert!(!self.is_qemu_possible() || is_over, "SIGTERM before QEMU has ended");
                    self.terminated[*index] = true;
                }
                Effect::Companion(index, CompanionEffect::Signal(Signal::Kill)) => {
                    assert!(self.alive[*index] && (self.terminated[*index] || self.is_killed), "SIGKILL unasked");
                }
                Effect::Signal(Signal::Kill) => {
                    self.killed_at.get_or_insert(self.rig.now);
                }
                Effect::Remove => {
                    let is_gone = |index: usize| !self.alive[index] || self.is_left(index);
                    assert!((0..self.alive.len()).all(is_gone), "the files of a companion that runs are removed");
                    self.is_removed = true;
                }
                _ => {}
            }
            self.pending.push(effect);
        }
        for notice in std::mem::take(&mut self.rig.notices) {
            match notice {
                Notice::Ready => {
                    assert!(self.alive.iter().all(|alive| *alive), "ready without a companion");
                    self.is_ready = true;
                }
                Notice::Ended => assert!(self.is_removed, "ended before the removal"),
                Notice::CompanionEnded(index) => {
                    assert!(self.vm().companion_end(NAMES[index]).is_ok_and(|end| end.is_some()));
                }
                _ => {}
            }
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.rig.handle(input);
        self.check();
    }

    /// The host completes an effect, with a failure if `fails`.
    fn complete(&mut self, effect: Effect, fails: bool) {
        match effect {
            Effect::Companion(index, order) => self.complete_companion(index, order, fails),
            Effect::Spawn(_) if fails => self.handle(Input::SpawnFailed(fault("start"))),
            Effect::Spawn(_) => {
                self.is_qemu_alive = true;
                self.handle(Input::Spawned { pid: PID });
            }
            Effect::Signal(signal) => {
                self.handle(Input::Signalled(signal, Ok(())));
                if signal == Signal::Kill && !fails {
                    self.qemu_exits(crate::rig::SIGKILL);
                }
            }
            effect => {
                self.rig.answer(&effect);
                self.rig.serve();
                self.check();
            }
        }
    }

    fn complete_companion(&mut self, index: usize, order: CompanionEffect, fails: bool) {
        match order {
            CompanionEffect::Start(_) if fails => {
                self.alive[index] = false;
                self.handle(Input::Companion(index, CompanionInput::StartFailed(fault("start"))));
            }
            CompanionEffect::Start(_) => {
                let pid = COMPANION_PID + index as u32;
                self.handle(Input::Companion(index, CompanionInput::Started { pid }));
            }
            CompanionEffect::Probe => self.handle(Input::Companion(index, CompanionInput::Probed { is_open: !fails })),
            CompanionEffect::Signal(_) if fails => {
                self.handle(Input::Companion(index, CompanionInput::NotSignalled(fault("signal"))));
            }
            CompanionEffect::Signal(_) => self.companion_exits(index, crate::rig::SIGTERM),
        }
    }

    fn companion_exits(&mut self, index: usize, status: ExitStatus) {
        let is_starting =
            |effect: &Effect| matches!(effect, Effect::Companion(other, CompanionEffect::Start(_)) if *other == index);
        if self.alive[index] && !self.pending.iter().any(is_starting) {
            self.alive[index] = false;
            self.handle(Input::Companion(index, CompanionInput::Exited(status)));
        }
    }

    fn qemu_exits(&mut self, status: ExitStatus) {
        if std::mem::take(&mut self.is_qemu_alive) {
            self.handle(Input::Exited(status));
            for channel in self.vm().channels().to_vec() {
                self.handle(Input::Closed(channel));
            }
        }
    }

    fn negotiate(&mut self) {
        let is_open = !self.pending.iter().any(|effect| matches!(effect, Effect::Open(Channel::Monitor)));
        if self.is_qemu_alive && is_open && matches!(self.vm().state(), State::Launching(_)) {
            self.rig.negotiate(GREETING);
            self.check();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.rig.pass(time);
        self.check();
        let deadline = self.vm().deadline();
        assert!(deadline.is_none_or(|(until, _)| until > self.rig.now), "a deadline is past");
    }

    fn pass_to_deadline(&mut self) {
        if let Some((until, _)) = self.vm().deadline() {
            self.pass(until.since(self.rig.now));
        }
    }

    /// Does something that can happen.
    fn act(&mut self) {
        let index = self.below(self.alive.len());
        let status = ExitStatus::Code(self.below(2) as i32);
        match self.below(24) {
            0 => self.companion_exits(index, status),
            1 => self.qemu_exits(status),
            2 => {
                let _ = self.rig.vm.shutdown(self.rig.now, Shutdown::default());
                self.rig.serve();
                self.check();
            }
            3 => {
                self.is_killed = true;
                let _ = self.rig.vm.kill(self.rig.now);
                self.rig.serve();
                self.check();
            }
            4 => {
                self.is_killed = true;
                self.rig.vm.abandon(self.rig.now);
                self.rig.serve();
                self.check();
            }
            5 => self.pass(secs(1000)),
            6 if self.is_ready && self.is_qemu_alive => {
                self.rig.shuts_down("guest-shutdown");
                self.check();
            }
            7..=9 => self.pass_to_deadline(),
            10..=12 => self.negotiate(),
            _ if self.pending.is_empty() => {}
            choice => {
                let place = self.below(self.pending.len());
                let effect = self.pending.remove(place);
                self.complete(effect, choice == 13);
            }
        }
    }

    /// Nothing new happens from here on: the run ends, by the deadlines and the completions.
    fn finish(&mut self) {
        let _ = self.rig.vm.kill(self.rig.now);
        self.is_killed = true;
        self.rig.serve();
        self.check();
        // Each channel is closed, each process is ended, and each file is removed: a few steps for each.
        for _ in 0..60 {
            while !self.pending.is_empty() {
                let effect = self.pending.remove(0);
                self.complete(effect, false);
            }
            self.pass_to_deadline();
        }
        assert_eq!(self.vm().state(), State::Ended);
    }
}

#[test]
fn qemu_and_its_companions_end_in_order() {
    let (mut ready, mut removed) = (0, 0);
    let walks = if is_thorough() { WALKS * THOROUGH } else { WALKS };
    for seed in 0..walks {
        let walk = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            if seed % 5 > 1 {
                world.bring_up();
            }
            for _ in 0..ACTIONS {
                world.act();
            }
            world.finish();
            (world.is_ready, world.is_removed)
        });
        let (is_ready, is_removed) = std::panic::catch_unwind(walk).unwrap_or_else(|_| panic!("seed {seed}"));
        (ready, removed) = (ready + u64::from(is_ready), removed + u64::from(is_removed));
    }
    assert!(ready >= walks / 5 * 3 && removed == walks, "{ready} {removed}");
}

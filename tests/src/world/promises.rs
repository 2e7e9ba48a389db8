//! Checks of a world: whenever its driver is about to wait, and at its end.

use qemu_machine_core::{Channel, Moment};

use super::World;
use super::bounds::OUT_OF_BAND;
use super::scene::Wire;

impl World {
    /// Returns the time from which on no event can follow.
    pub(super) fn events_close_at(&self) -> Option<Moment> {
        self.bounds.events_close_at(self.scene.style.monitor)
    }

    /// Checks what must be true whenever the driver is about to wait.
    pub(super) fn check(&mut self) {
        let is_alive = self.host.spawned == Some(true) && self.host.exited.is_none();
        let pid = is_alive.then_some(100 + self.scene.run);
        self.bounds.check(&self.machine, &mut self.scene, pid);
        let (now, ended) = (self.scene.now, self.bounds.ended);
        if self.bounds.ready_at.is_some() && self.bounds.out_of_band == Some(true) {
            self.ledger.bound_out_of_band(now.after(OUT_OF_BAND));
        }
        let result = self.ledger.check(now, self.qemu.responds(), ended);
        self.scene.check(result);
        let events_close_at = self.events_close_at();
        for wait in &self.witness.waits {
            let result = wait.check(now, events_close_at, ended);
            self.scene.check(result);
        }
        self.check_idle();
    }

    /// Checks that no command waits while no bytes are in transit and QEMU would answer.
    fn check_idle(&mut self) {
        let is_quiet = |channel| self.scene.wires.get(&channel).is_some_and(Wire::is_quiet);
        let open = self.ledger.open();
        if self.qemu.is_idle() && is_quiet(Channel::Monitor) && self.bounds.ready_at.is_some() && !open.is_empty() {
            let what = format!("QEMU is idle, but the commands {open:?} wait");
            return self.scene.fail(what);
        }
        for (index, received) in self.scene.typed.iter().enumerate() {
            let typed = &self.caller.typed[index];
            let is_done = received.len() == typed.len() || !is_quiet(Channel::Console(index)) || !self.qemu.responds();
            if !typed.starts_with(received) || !is_done {
                let what =
                    format!("console {index} received {} of {} bytes, or wrong ones", received.len(), typed.len());
                return self.scene.fail(what);
            }
        }
    }

    /// Checks what must be true at the end of the world.
    pub(super) fn check_rest(&mut self) {
        if self.scene.broken.is_some() {
            return;
        }
        for nonce in self.ledger.answered() {
            self.claim(nonce);
        }
        let reached = std::mem::take(&mut self.scene.reached);
        let result = self.ledger.check_unsent(|nonce| reached.contains(&nonce));
        self.scene.check(result);
        let is_rest = self.machine.deadline().is_some() || self.machine.session().commands() > 0;
        self.scene.demand(!is_rest, || "a deadline or a command of the previous run is left".into());
    }
}

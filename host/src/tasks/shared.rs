//! Implementation of [`Shared`] on top of the driver, for the handles of a machine.

use std::sync::Arc;

use qemu_machine_core::{Machine, Moment};

use super::driver::SharedMachine;
use super::events::Events;
use super::reactor::Reactor;
use crate::handle::Shared;
use crate::host::Host;

impl<R: Reactor> Shared for SharedMachine<R> {
    type Events = Events<R>;

    fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let answer = ask(&mut turn.machine, now);
        turn.serve(now);
        turn.nudge_driver();
        turn.unlock();
        answer
    }

    fn with_machine<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.lock().machine)
    }

    fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.try_lock().map(|turn| look(&turn.machine))
    }

    fn with_host<T>(&self, act: impl FnOnce(&mut Host) -> T) -> T {
        act(&mut self.lock().host)
    }

    fn end(self: &Arc<Self>) {
        self.end_run(None);
    }
}

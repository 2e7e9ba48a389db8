//! Implementation of [`qemu_machine_host::Shared`] on top of the driver, for the handles of a machine.

use std::sync::Arc;

use qemu_machine_core::{Machine, Moment};
use qemu_machine_host::{Host, Shared, WaitOnThread};

use crate::driver::SharedMachine;
use crate::events::Events;
use crate::followers::Concern;

impl Shared for SharedMachine {
    type Events = Events;

    fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let answer = ask(&mut turn.machine, now);
        self.serve(&mut turn, now);
        let panic = turn.host.take_panic();
        self.hand_over(turn);
        if let Some(panic) = panic {
            panic.resume();
        }
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
        self.end_now();
    }
}

impl WaitOnThread for SharedMachine {
    fn wait_on_thread<T>(self: &Arc<Self>, mut claim: impl FnMut(&mut Host, &Machine) -> Option<T>) -> Option<T> {
        self.wait_for(Concern::Any, |host, machine, early| match early {
            None => claim(host, machine).map(Some),
            Some(_) => Some(None),
        })
    }
}

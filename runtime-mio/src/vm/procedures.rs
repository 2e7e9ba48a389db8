//! Decides what a procedure looks like to a loop.

use qemu_machine_core::procedure::{Procedure, Run};

use super::Vm;

impl Vm {
    /// Goes on with something that takes several commands and events, as far as it can: see [`procedure`](crate::procedure). To
    /// be called at first, and again when the turn tells what it [awaits](Run::awaits). What it is done with is given
    /// once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use qemu_machine_mio::{Config, EventLoop, Vm};
    /// use qemu_machine_mio::procedure::{Run, Unplug};
    ///
    /// # let mut event_loop = EventLoop::new()?;
    /// # let (registry, tokens) = event_loop.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
    /// let mut unplug = Run::new(Unplug::device("net1"), Duration::from_secs(30).into());
    /// let mut done = vm.advance(&mut unplug);
    /// // And in the loop:
    /// while let Some(notice) = vm.turn(registry) {
    ///     if unplug.awaits() == Some(notice) {
    ///         done = vm.advance(&mut unplug);
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn advance<E: Procedure>(&mut self, run: &mut Run<E>) -> Option<E::Return> {
        self.ask(|machine, now| run.advance(machine, now))
    }

    /// Gives up what a procedure waits for. What its commands began goes on.
    pub fn give_up<E: Procedure>(&mut self, run: &mut Run<E>) {
        self.ask(|machine, _| run.disown(machine));
    }
}

//! Procedures, in the mio loop of the caller.

use qemu_machine_core::procedure::{Procedure, Run};

use super::Vm;

impl Vm {
    /// Advances a [procedure](crate::procedure), which consists of several commands and events, as far as possible.
    /// Call it once to begin, and again for the notice that the procedure [awaits](Run::awaits). Returns the result
    /// once. `None` means that the procedure is not over, or that its result was returned before.
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
    pub fn advance<P: Procedure>(&mut self, run: &mut Run<P>) -> Option<P::Return> {
        self.ask(|machine, now| run.advance(machine, now))
    }

    /// Ends a procedure without a result: the command or the wait that it awaits is disowned, and what the procedure names
    /// as its [`undo`](Procedure::undo) is executed. Other work that its commands began in QEMU continues. A run that is
    /// dropped without this call leaves in QEMU what it has created, such as a job.
    pub fn disown_procedure<P: Procedure>(&mut self, run: &mut Run<P>) {
        self.ask(|machine, now| run.disown(machine, now));
    }
}

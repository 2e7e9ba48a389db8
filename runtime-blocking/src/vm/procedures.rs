//! Decides what a procedure looks like to a caller that may block.

use qemu_machine_core::Deadline;
use qemu_machine_core::procedure::{Procedure, Run};

use super::Vm;

impl Vm {
    /// Runs something that takes several commands and events, to its end: see [`procedure`](crate::procedure). One deadline
    /// bounds all of it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// use qemu_machine_blocking::procedure::Unplug;
    ///
    /// vm.run(Unplug::device("net1"), Duration::from_secs(30))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<E: Procedure>(&self, procedure: E, deadline: impl Into<Deadline>) -> E::Return {
        let mut run = Run::new(procedure, deadline.into());
        loop {
            self.driver().wait_for(|machine| run.take_result(machine).then_some(()));
            // Here speaks the caller's own code, so without the lock.
            if let Some(output) = run.next_step() {
                return output;
            }
            self.ask(|machine, now| run.carry_out(machine, now));
        }
    }
}

//! Decides what a procedure looks like to a task.

use qemu_machine_core::Deadline;
use qemu_machine_core::procedure::{Procedure, Run};

use super::Vm;
use crate::driver::Shared;

impl Vm {
    /// Runs something that takes several commands and events, to its end: see [`procedure`](crate::procedure). One deadline
    /// bounds all of it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # smol::block_on(async {
    /// # let vm = qemu_machine_smol::Vm::launch(qemu_machine_smol::Config::new("qemu-system-x86_64")).await?;
    /// use qemu_machine_smol::procedure::Unplug;
    ///
    /// vm.run(Unplug::device("net1"), Duration::from_secs(30)).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Dropped, it gives up what it waits for; what its commands began goes on.
    pub async fn run<E: Procedure>(&self, procedure: E, deadline: impl Into<Deadline>) -> E::Return {
        let mut underway = Underway(&self.0.0, Run::new(procedure, deadline.into()));
        loop {
            let Underway(shared, run) = &mut underway;
            let awaited = run.awaits();
            shared.until(awaited.as_slice(), |machine| run.take_result(machine).then_some(())).await;
            // Here speaks the caller's own code, so without the lock.
            if let Some(output) = run.next_step() {
                return output;
            }
            shared.ask(|machine, now| run.carry_out(machine, now));
        }
    }
}

/// Gives up what a procedure waits for when its future is gone.
struct Underway<'a, E: Procedure>(&'a Shared, Run<E>);

impl<E: Procedure> Drop for Underway<'_, E> {
    fn drop(&mut self) {
        let awaited = self.1.awaits();
        self.0.ask(|machine, _| self.1.disown(machine));
        if let Some(awaited) = awaited {
            self.0.stop_waiting(awaited);
        }
    }
}

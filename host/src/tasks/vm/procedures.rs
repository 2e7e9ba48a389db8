//! Procedures, for tasks of any executor.

use qemu_machine_core::Deadline;
use qemu_machine_core::procedure::{Procedure, Run};

use super::Vm;
use crate::disown_on_drop::DisownOnDrop;
use crate::handle::Shared;
use crate::tasks::driver::SharedMachine;
use crate::tasks::reactor::Reactor;

impl<R: Reactor> Vm<R> {
    /// Runs a [procedure](crate::procedure), which consists of several commands and events, to its end, and returns its
    /// result. One deadline bounds all of it; after it, a procedure that must clean up has
    /// [10 seconds](crate::procedure::CLEAN_UP_WITHIN). When the future is dropped, the procedure takes no further step,
    /// and the driver executes what it names as its [`undo`](Procedure::undo). Other work that its commands began in QEMU
    /// continues, then and after the deadline.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// use qemu_machine_tokio::procedure::Unplug;
    ///
    /// vm.run(Unplug::device("net1"), Duration::from_secs(30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<P: Procedure>(&self, procedure: P, deadline: impl Into<Deadline>) -> P::Return {
        let mut pending = Pending(DisownOnDrop::new(&**self.shared(), Run::new(procedure, deadline.into())));
        loop {
            let DisownOnDrop { shared, run } = &mut pending.0;
            let awaited = run.awaits();
            shared.wait_for(awaited.as_slice(), |machine| run.take_result(machine).then_some(())).await;
            // This calls code of the user, which may call the machine, so it runs without the lock.
            if let Some(output) = run.next_step() {
                return output;
            }
            shared.ask(|machine, now| run.carry_out(machine, now));
        }
    }
}

/// A procedure whose future is pending. Dropping it disowns the procedure, and the command or wait that it awaits.
struct Pending<'a, R: Reactor, P: Procedure>(DisownOnDrop<'a, SharedMachine<R>, P>);

impl<R: Reactor, P: Procedure> Drop for Pending<'_, R, P> {
    fn drop(&mut self) {
        if let Some(awaited) = self.0.run.awaits() {
            self.0.shared.stop_waiting(awaited);
        }
    }
}

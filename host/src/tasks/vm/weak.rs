//! Weak handle of a machine, for tasks of any executor.

use std::fmt;

use qemu_machine_core::{Deadline, Outcome, WaitError};

use super::Vm;
use crate::handle::WeakHandle;
use crate::tasks::driver::SharedMachine;
use crate::tasks::reactor::Reactor;
use crate::tasks::waiting::wait_for_end;

/// Handle of a machine that does not keep it alive: for a task that watches the end of a machine which others own.
///
/// The machine ends when its last [`Vm`] or [`Events`](crate::tasks::Events) is dropped, whatever weak handles exist. A
/// weak handle keeps only what is in memory of the machine, with its outcome.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// use qemu_machine_tokio::FOREVER;
///
/// let watch = vm.downgrade();
/// tokio::spawn(async move {
///     if let Ok(outcome) = watch.wait(FOREVER).await {
///         println!("{outcome}");
///     }
/// });
/// vm.execute("query-status").await?;
/// drop(vm); // QEMU is killed, and the task prints that.
/// # Ok(())
/// # }
/// ```
pub struct WeakVm<R: Reactor>(WeakHandle<SharedMachine<R>>);

impl<R: Reactor> Vm<R> {
    /// Returns a handle that does not keep the machine alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakVm<R> {
        WeakVm(self.0.downgrade())
    }
}

impl<R: Reactor> WeakVm<R> {
    /// Returns a handle that keeps the machine alive. `None` means that the last one was dropped, so that the machine has
    /// ended or is ending.
    #[must_use]
    pub fn upgrade(&self) -> Option<Vm<R>> {
        self.0.upgrade().map(Vm)
    }

    /// Waits until the machine has ended, within a deadline, and returns how it ended: QEMU ended, a handle ended it, or
    /// the last handle was dropped. The wait does not keep the machine alive. A machine that has ended already has its
    /// outcome at once, also after the last handle was dropped. Dropping the future ends the wait alone.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the machine has not ended within the deadline.
    pub async fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        wait_for_end(self.0.shared(), deadline.into()).await
    }
}

impl<R: Reactor> Clone for WeakVm<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Prints no part of the machine.
impl<R: Reactor> fmt::Debug for WeakVm<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakVm").field(&self.0).finish()
    }
}

//! Weak handle of a machine, for threads that may block.

use qemu_machine_core::{Deadline, Outcome, WaitError};
use qemu_machine_host::WeakHandle;

use super::{Vm, wait_for_end};
use crate::driver::SharedMachine;

/// Handle of a machine that does not keep it alive: for a thread that watches the end of a machine which others own.
///
/// The machine ends when its last [`Vm`] or [`Events`](crate::Events) is dropped, whatever weak handles exist. A weak
/// handle keeps only what is in memory of the machine, with its outcome, and the descriptor of a poller.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, FOREVER, Vm};
/// let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
/// let watch = vm.downgrade();
/// let watching = std::thread::spawn(move || watch.wait(FOREVER));
/// vm.execute("query-status")?;
/// drop(vm); // QEMU is killed, and the thread returns.
/// println!("{}", watching.join().expect("no panic")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeakVm(WeakHandle<SharedMachine>);

impl Vm {
    /// Returns a handle that does not keep the machine alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakVm {
        WeakVm(self.0.downgrade())
    }
}

impl WeakVm {
    /// Returns a handle that keeps the machine alive. `None` means that the last one was dropped, so that the machine has
    /// ended or is ending.
    #[must_use]
    pub fn upgrade(&self) -> Option<Vm> {
        self.0.upgrade().map(Vm)
    }

    /// Waits until the machine has ended, within a deadline, and returns how it ended: QEMU ended, a handle ended it, or
    /// the last handle was dropped. The wait does not keep the machine alive. A machine that has ended already has its
    /// outcome at once, also after the last handle was dropped.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the machine has not ended within the deadline.
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        wait_for_end(self.0.shared(), deadline.into())
    }
}

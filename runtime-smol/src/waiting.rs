//! Commands and waits of pending futures, which are disowned when the future is dropped.

use std::sync::Arc;

use qemu_machine_core::{CommandId, Machine, Notice, WaitError, WaitId};
use qemu_machine_host::Shared;

use crate::driver::SharedMachine;

/// Waits until a wait of the machine is over, and claims its result.
pub(crate) async fn wait_for<T>(
    shared: &Arc<SharedMachine>,
    wait: WaitId,
    claim: impl Fn(&mut Machine, WaitId) -> Option<Result<T, WaitError>>,
) -> Result<T, WaitError> {
    let _waiting = Waiting::new(shared, wait);
    shared.wait_for(&[Notice::Waited(wait)], |machine| claim(machine, wait)).await
}

/// A command whose future is pending. Dropping it disowns the command, whether it was answered or not: otherwise the
/// machine would keep a reply that no caller claims.
pub(crate) struct Executing<'a>(pub(crate) &'a SharedMachine, pub(crate) CommandId);

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.disown(self.1));
        self.0.stop_waiting(Notice::Answered(self.1));
    }
}

/// A wait whose future is pending. Dropping it disowns the wait.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<SharedMachine>, WaitId);

impl Waiting {
    pub(crate) fn new(shared: &Arc<SharedMachine>, wait: WaitId) -> Self {
        Self(Arc::clone(shared), wait)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.disown_wait(self.1));
        self.0.stop_waiting(Notice::Waited(self.1));
    }
}

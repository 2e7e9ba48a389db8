//! Commands and waits of pending futures, which are disowned when the future is dropped.

use std::sync::Arc;

use qemu_machine_core::{CommandId, Machine, Notice, WaitError, WaitId};

use super::driver::SharedMachine;
use super::reactor::Reactor;
use crate::handle::Shared;

/// Waits until a wait of the machine is over, and claims its result.
pub(super) async fn wait_for<R: Reactor, T>(
    shared: &Arc<SharedMachine<R>>,
    wait: WaitId,
    claim: impl Fn(&mut Machine, WaitId) -> Option<Result<T, WaitError>>,
) -> Result<T, WaitError> {
    let _waiting = Waiting::new(shared, wait);
    shared.wait_for(&[Notice::Waited(wait)], |machine| claim(machine, wait)).await
}

/// A command whose future is pending. Dropping it disowns the command, whether it was answered or not: otherwise the
/// machine would keep a reply that no caller claims.
pub(super) struct Executing<'a, R: Reactor>(pub(super) &'a SharedMachine<R>, pub(super) CommandId);

impl<R: Reactor> Drop for Executing<'_, R> {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.disown(self.1));
        self.0.stop_waiting(Notice::Answered(self.1));
    }
}

/// A wait whose future is pending. Dropping it disowns the wait.
pub(super) struct Waiting<R: Reactor>(Arc<SharedMachine<R>>, WaitId);

impl<R: Reactor> Waiting<R> {
    pub(super) fn new(shared: &Arc<SharedMachine<R>>, wait: WaitId) -> Self {
        Self(Arc::clone(shared), wait)
    }
}

impl<R: Reactor> Drop for Waiting<R> {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.disown_wait(self.1));
        self.0.stop_waiting(Notice::Waited(self.1));
    }
}

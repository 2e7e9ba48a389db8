//! Commands and waits of pending futures, which are disowned when the future is dropped.

use std::sync::Arc;

use qemu_machine_core::{Batch, CommandId, Deadline, Hit, Machine, Misuse, Moment, Notice, Outcome, WaitError, WaitId};

use super::driver::SharedMachine;
use super::reactor::Reactor;
use crate::handle::Shared;
use crate::panic::{caught, resume};

/// Waits until a wait of the machine is over, and claims its result.
pub(super) async fn wait_for<R: Reactor, T>(
    (waiting, wait): (Waiting<R>, WaitId),
    claim: impl Fn(&mut Machine, WaitId) -> Option<Result<T, WaitError>>,
) -> Result<T, WaitError> {
    let result = waiting.shared.wait_for(&[Notice::Waited(wait)], |machine| claim(machine, wait)).await;
    waiting.claimed();
    result
}

/// Waits until the machine has ended.
pub(super) async fn wait_for_end<R: Reactor>(
    shared: &Arc<SharedMachine<R>>,
    deadline: Deadline,
) -> Result<Outcome, WaitError> {
    let begun = Waiting::begin(shared, |machine, now| machine.wait_for_end(now, deadline))?;
    wait_for(begun, Machine::claim_wait).await.and_then(Hit::into_end)
}

/// A command whose future is pending. Dropping it disowns the command, whether it was answered or not: otherwise the
/// machine would keep a reply that no caller claims.
pub(super) struct Executing<'a, R: Reactor> {
    shared: &'a SharedMachine<R>,
    /// `None` means that the reply was claimed: there is nothing to disown, and the notice of the reply removes the waker.
    command: Option<CommandId>,
}

impl<'a, R: Reactor> Executing<'a, R> {
    /// Sends a command. If the call panics after that, as a waker may, the command is disowned as well.
    pub(super) fn send(
        shared: &'a SharedMachine<R>,
        send: impl FnOnce(&mut Machine, Moment) -> Result<CommandId, Misuse>,
    ) -> Result<(Self, CommandId), Misuse> {
        let mut executing = Self { shared, command: None };
        let command = shared.ask(|machine, now| send(machine, now).inspect(|id| executing.command = Some(*id)))?;
        Ok((executing, command))
    }

    pub(super) fn claimed(mut self) {
        self.command = None;
    }
}

impl<R: Reactor> Drop for Executing<'_, R> {
    fn drop(&mut self) {
        let Some(command) = self.command else { return };
        disown(self.shared, Notice::Answered(command), |machine| machine.disown(command));
    }
}

/// Sends the commands of a batch, and waits until each has its answer.
pub(super) async fn execute_all<R: Reactor, C>(
    shared: &Arc<SharedMachine<R>>,
    batch: Batch<C>,
    deadline: Deadline,
) -> Batch<C> {
    let mut executing = ExecutingAll { shared, batch };
    shared.ask(|machine, now| executing.batch.send(machine, now, deadline));
    while let Some(notice) = executing.batch.awaits() {
        let batch = &mut executing.batch;
        shared
            .wait_for(&[notice], |machine| {
                let is_answered = batch.take_answers(machine) || batch.awaits() != Some(notice);
                is_answered.then_some(())
            })
            .await;
    }
    std::mem::take(&mut executing.batch)
}

/// A batch whose future is pending. Dropping it disowns the commands that have no answer, as for [`Executing`].
struct ExecutingAll<'a, R: Reactor, C> {
    shared: &'a SharedMachine<R>,
    batch: Batch<C>,
}

impl<R: Reactor, C> Drop for ExecutingAll<'_, R, C> {
    fn drop(&mut self) {
        let Some(notice) = self.batch.awaits() else { return };
        disown(self.shared, notice, |machine| self.batch.disown(machine));
    }
}

/// A wait whose future is pending. Dropping it disowns the wait.
pub(super) struct Waiting<R: Reactor> {
    shared: Arc<SharedMachine<R>>,
    /// `None` means that the result was claimed, as for [`Executing`].
    wait: Option<WaitId>,
}

impl<R: Reactor> Waiting<R> {
    /// Begins a wait. If the call panics after that, as a waker may, the wait is disowned as well.
    pub(super) fn begin(
        shared: &Arc<SharedMachine<R>>,
        begin: impl FnOnce(&mut Machine, Moment) -> Result<WaitId, Misuse>,
    ) -> Result<(Self, WaitId), Misuse> {
        let mut waiting = Self { shared: Arc::clone(shared), wait: None };
        let wait = shared.ask(|machine, now| begin(machine, now).inspect(|id| waiting.wait = Some(*id)))?;
        Ok((waiting, wait))
    }

    pub(super) fn claimed(mut self) {
        self.wait = None;
    }
}

impl<R: Reactor> Drop for Waiting<R> {
    fn drop(&mut self) {
        let Some(wait) = self.wait else { return };
        disown(&self.shared, Notice::Waited(wait), |machine| machine.disown_wait(wait));
    }
}

/// Disowns what a future has waited for, and removes its waker, also when code of the caller panics meanwhile.
fn disown<R: Reactor>(shared: &SharedMachine<R>, notice: Notice, disown: impl FnOnce(&mut Machine)) {
    let panic = caught(|| shared.ask(|machine, _| disown(machine))).err();
    shared.stop_waiting(notice);
    resume(panic);
}

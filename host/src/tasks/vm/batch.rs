//! Batches of commands, for tasks of any executor.

use qemu_machine_core::{Batch, COMMAND_WITHIN, Command, CommandError, Deadline};

use super::super::reactor::Reactor;
use super::super::waiting::execute_all;
use super::Vm;

impl<R: Reactor> Vm<R> {
    /// Executes commands at once, within 60 seconds for all of them, and returns their results in the order of the
    /// commands. None waits for the reply of another; QEMU executes them in this order, those that are
    /// [out of band](qemu_machine_core::OutOfBand) excepted.
    ///
    /// They are sent together, and the task is woken when the last is answered, so each costs a fraction of an
    /// [`execute`](Self::execute). Commands with and without arguments are of one type as pairs: those without have `{}`.
    /// [`execute_all_by`](Self::execute_all_by) takes another deadline. Dropping the future has the effect that it has for
    /// [`execute`](Self::execute), for each command that has no reply.
    ///
    /// Until the last command is answered, all of them count for [`Limits::commands`](crate::Limits::commands),
    /// also those that are answered.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), for each command by itself: one that is refused affects no other. When the deadline
    /// passes, those that were answered before have their replies.
    /// [`Misuse::TooManyCommands`](crate::Misuse::TooManyCommands) for those beyond
    /// [`Limits::commands`](crate::Limits::commands).
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// use qemu_machine_tokio::json;
    ///
    /// for reply in vm.execute_all(["query-status", "query-block", "query-chardev"]).await {
    ///     println!("{}", reply?);
    /// }
    /// vm.execute_all([("stop", json!({})), ("set-action", json!({"panic": "pause"}))]).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_all<C: Command>(
        &self,
        commands: impl IntoIterator<Item = C>,
    ) -> Vec<Result<C::Reply, CommandError>> {
        self.execute_all_by(commands, COMMAND_WITHIN).await
    }

    /// As [`execute_all`](Self::execute_all), within a deadline. Commands that were sent may still take effect after it.
    ///
    /// # Errors
    ///
    /// As [`execute_all`](Self::execute_all).
    pub async fn execute_all_by<C: Command>(
        &self,
        commands: impl IntoIterator<Item = C>,
        deadline: impl Into<Deadline>,
    ) -> Vec<Result<C::Reply, CommandError>> {
        execute_all(self.shared(), Batch::new(commands), deadline.into()).await.into_replies()
    }
}

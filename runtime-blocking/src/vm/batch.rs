//! Batches of commands, for threads that may block.

use std::convert::Infallible;
use std::mem;

use qemu_machine_core::{Batch, COMMAND_WITHIN, Command, CommandError, Deadline};

use super::Vm;

impl Vm {
    /// Executes commands at once, within 60 seconds for all of them, and returns their results in the order of the
    /// commands. None waits for the reply of another; QEMU executes them in this order, except those
    /// [out of band](crate::OutOfBand).
    ///
    /// They are sent together, and this thread normally wakes up once, when the last is answered, so each costs a fraction of
    /// an [`execute`](Self::execute). All commands of a batch have one type. To mix them, write each as a pair; `json!({})`
    /// means no arguments. [`execute_all_by`](Self::execute_all_by) takes another deadline.
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
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// use qemu_machine_blocking::json;
    ///
    /// for reply in vm.execute_all(["query-status", "query-block", "query-chardev"]) {
    ///     println!("{}", reply?);
    /// }
    /// vm.execute_all([("stop", json!({})), ("set-action", json!({"panic": "pause"}))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_all<C: Command>(
        &self,
        commands: impl IntoIterator<Item = C>,
    ) -> Vec<Result<C::Reply, CommandError>> {
        self.execute_all_by(commands, COMMAND_WITHIN)
    }

    /// As [`execute_all`](Self::execute_all), within a deadline. Commands that were sent may still take effect after it.
    ///
    /// # Errors
    ///
    /// As [`execute_all`](Self::execute_all).
    pub fn execute_all_by<C: Command>(
        &self,
        commands: impl IntoIterator<Item = C>,
        deadline: impl Into<Deadline>,
    ) -> Vec<Result<C::Reply, CommandError>> {
        let (mut batch, deadline) = (Batch::new(commands), deadline.into());
        let Ok(batch) = self.shared().call(
            |machine, now| {
                batch.send(machine, now, deadline);
                Ok::<_, Infallible>(batch)
            },
            |machine, batch| batch.take_answers(machine).then(|| mem::take(batch)),
            |machine, batch, _| {
                batch.disown(machine);
                Some(mem::take(batch))
            },
        );
        batch.into_replies()
    }
}

//! Batches of commands, in the mio loop of the caller.

use qemu_machine_core::{Batch, COMMAND_WITHIN, Command, CommandError, Deadline};

use super::Vm;

impl Vm {
    /// Begins to execute commands at once, within 60 seconds for all of them. None waits for the reply of another; QEMU
    /// executes them in this order, except those [out of band](crate::OutOfBand).
    ///
    /// The next turn sends them together. The notice that the batch [awaits](Batch::awaits) means that the results can be
    /// [claimed](Self::claim_all). If it awaits none right after this call, claim them now: the batch is empty, or every
    /// command was refused (the machine has ended, for example), so no notice will come. Until they are claimed, all commands
    /// count for [`Limits::commands`](crate::Limits::commands), also those that are answered.
    ///
    /// A command that is refused affects no other. All commands of a batch have one type. To mix them, write each as a pair;
    /// `json!({})` means no arguments. [`execute_all_by`](Self::execute_all_by) takes another deadline.
    ///
    /// ```no_run
    /// # use qemu_machine_mio::{Config, EventLoop, Vm};
    /// # let mut event_loop = EventLoop::new()?;
    /// # let (registry, tokens) = event_loop.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
    /// let mut batch = vm.execute_all(["query-status", "query-block", "query-chardev"]);
    /// // `Some` when no command was accepted.
    /// let mut replies = vm.claim_all(&mut batch);
    /// // And in the loop:
    /// while let Some(notice) = vm.turn(registry) {
    ///     if batch.awaits() == Some(notice) {
    ///         replies = vm.claim_all(&mut batch);
    ///     }
    /// }
    /// for reply in replies.into_iter().flatten() {
    ///     println!("{}", reply?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_all<C: Command>(&mut self, commands: impl IntoIterator<Item = C>) -> Batch<C> {
        self.execute_all_by(commands, COMMAND_WITHIN)
    }

    /// As [`execute_all`](Self::execute_all), within a deadline. Commands that were sent may still take effect after it.
    pub fn execute_all_by<C: Command>(
        &mut self,
        commands: impl IntoIterator<Item = C>,
        deadline: impl Into<Deadline>,
    ) -> Batch<C> {
        let (mut batch, deadline) = (Batch::new(commands), deadline.into());
        self.ask(|machine, now| batch.send(machine, now, deadline));
        batch
    }

    /// Returns the results of a batch in the order of its commands, once; then the batch is empty. `None` means that a
    /// command has no result yet: call it again at the notice that the batch [awaits](Batch::awaits) then.
    ///
    /// The errors are those of [`claim`](Self::claim), for each command by itself, and [`CommandError::Misuse`] for those
    /// that were not accepted, such as those beyond [`Limits::commands`](crate::Limits::commands). When the deadline has
    /// passed, those that were answered before have their replies.
    pub fn claim_all<C: Command>(&mut self, batch: &mut Batch<C>) -> Option<Vec<Result<C::Reply, CommandError>>> {
        batch.take_answers(&mut self.machine).then(|| std::mem::take(batch).into_replies())
    }

    /// Disowns the commands of a batch that have no reply, as [`disown`](Self::disown).
    pub fn disown_all<C>(&mut self, mut batch: Batch<C>) {
        self.ask(|machine, _| batch.disown(machine));
    }
}

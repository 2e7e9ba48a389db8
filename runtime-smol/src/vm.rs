//! Handle of a machine, for tasks.

mod detach;
mod procedures;

use std::ops::Deref;
use std::os::fd::OwnedFd;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, FOREVER, Hit, LaunchError, Machine, Mark, Misuse, Moment,
    Notice, Outcome, Payload, Peer, Shutdown, Value, Wait, WaitError, wire::Encoded,
};
use qemu_machine_host::{Handle, Shared, descriptor};

use crate::driver::{Driver, SharedMachine};
use crate::waiting::{Executing, Waiting, wait_for};

/// Handle of a QEMU that we launched and own, or to which we are attached.
///
/// Handles are clones of each other, and serve any number of tasks at once, on any executor. Every future may be dropped at
/// any time: no event is lost, no reply to another command, and not the connection. The methods that return at once are
/// those of [`Handle`].
///
/// Dropping the last handle kills QEMU and removes everything that was created for it, before `drop` returns. That takes a
/// few milliseconds, and at most two seconds when the kernel does not release the process. [`kill`](Self::kill) does the
/// same without blocking the thread, and [`shutdown`](Self::shutdown) asks QEMU to quit first. A launch blocks the thread for
/// a few milliseconds as well, to start the process.
#[derive(Clone, Debug)]
pub struct Vm(Handle<SharedMachine>);

impl Vm {
    /// Launches a machine, and completes when its monitor is ready for commands. `spawn` gets the driver, and has it polled:
    /// on an executor of the caller, say. The machine makes progress only while that executor runs.
    ///
    /// # Errors
    ///
    /// When it is not ready within [`Config::launch_within`]. The error contains the phase that failed, how the process
    /// ended, what it printed, and the command line to try it by hand. Everything that was created is removed by then.
    pub async fn launch_with(config: Config, spawn: impl FnOnce(Driver)) -> Result<Self, LaunchError> {
        let vm = Self(Handle::new(SharedMachine::new(Machine::new(config)?)));
        vm.relaunch_with(spawn).await?;
        Ok(vm)
    }

    /// Attaches to a machine that another program launched, and completes when its monitor is ready for commands. This works
    /// for `qemu-storage-daemon` as well. `spawn` gets the driver, as in [`launch_with`](Self::launch_with).
    ///
    /// Dropping the last handle disconnects from the machine, which keeps running.
    ///
    /// # Errors
    ///
    /// When nothing listens ([`LaunchFailure::NotListening`](crate::LaunchFailure::NotListening)), when the listener has
    /// ended (`Dead`), when another client is connected (`Busy`), or when it does not answer within the deadline.
    pub async fn attach_with(
        peer: Peer,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver),
    ) -> Result<Self, LaunchError> {
        Self::launch_with(Config::attach(peer).launch_within(deadline), spawn).await
    }

    /// Launches this machine again after its end, with the same configuration. Nothing of the previous run is left in it: no
    /// event, no output, no status. Marks of the previous run stand for the beginning of the new one. `spawn` gets the driver
    /// of the new run, as in [`launch_with`](Self::launch_with).
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it runs; and as [`launch_with`](Self::launch_with).
    pub async fn relaunch_with(&self, spawn: impl FnOnce(Driver)) -> Result<(), LaunchError> {
        spawn(Driver::launch(self.shared())?);
        self.shared().wait_for(&[Notice::Ready, Notice::Ended], |machine| machine.launched()).await
    }

    /// Executes a command within a minute: a name, a name with arguments, or a type that implements [`Command`].
    /// [`execute_by`](Self::execute_by) takes another deadline. When the future is dropped, the command may still take effect.
    ///
    /// # Errors
    ///
    /// QEMU's refusal, with its description; or why there is no reply.
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_smol::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// use qemu_machine_smol::json;
    ///
    /// let status = vm.execute("query-status").await?;
    /// assert_eq!(status["status"], "running");
    /// vm.execute(("set-action", json!({"panic": "pause"}))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute<C: Command>(&self, command: C) -> Result<C::Reply, CommandError> {
        self.execute_by(command, COMMAND_WITHIN).await
    }

    /// Executes a command within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn execute_by<C: Command>(
        &self,
        command: C,
        deadline: impl Into<Deadline>,
    ) -> Result<C::Reply, CommandError> {
        let (command, deadline) = (Encoded::command(&command)?, deadline.into());
        self.reply(&command, deadline).await?.reply()
    }

    /// Executes a command together with the descriptor that it takes (`getfd`, `add-fd`): a file, a socket, one end of a
    /// pipe. Our copy is closed when it was sent. Only one command with a descriptor is on the wire at a time.
    ///
    /// QEMU 7.2 clears `O_NONBLOCK` on descriptors that it receives, which affects everyone who shares the open file
    /// description.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_smol::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// # use qemu_machine_smol::json;
    /// vm.execute_with_fd(("getfd", json!({"fdname": "disk"})), std::fs::File::open("disk.img")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_with_fd<C: Command>(
        &self,
        command: C,
        fd: impl Into<OwnedFd>,
    ) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(fd));
        self.reply(&command, COMMAND_WITHIN).await?.reply()
    }

    /// Executes a command that is written as a JSON object, without an `id`. Returns the whole message, with `return` or
    /// `error` and our `id`: a refusal is not an error here.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_smol::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let message = vm.execute_raw(r#"{"execute": "query-status"}"#).await?;
    /// println!("{}", message["return"]["status"]);
    /// vm.execute_raw_by(r#"{"execute": "query-block"}"#, Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_raw(&self, object: impl AsRef<[u8]>) -> Result<Value, CommandError> {
        self.execute_raw_by(object, COMMAND_WITHIN).await
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute_raw`](Self::execute_raw).
    pub async fn execute_raw_by(
        &self,
        object: impl AsRef<[u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<Value, CommandError> {
        let (command, deadline) = (Encoded::raw(object.as_ref())?, deadline.into());
        self.reply(&command, deadline).await?.reply()
    }

    /// Executes one line on a machine that [speaks](Config::speaking) the qtest protocol.
    ///
    /// # Errors
    ///
    /// The reply, when it is not `OK`; or why there is none.
    pub async fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into()).await?.reply()
    }

    async fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        let shared = self.shared();
        let id = shared.ask(|machine, now| machine.send(now, command, deadline))?;
        let _executing = Executing(shared, id);
        shared.wait_for(&[Notice::Answered(id)], |machine| machine.take(id)).await
    }

    /// Waits for the first of several things, from a mark on.
    ///
    /// Things that happened since the mark count first. They are not consumed: another wait from the same mark finds the
    /// same. The deadline bounds the whole wait, however many other events are received, and the end of the machine ends
    /// every wait.
    ///
    /// # Errors
    ///
    /// When the deadline passes, or the machine ends, first.
    pub async fn wait_any(
        &self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<Hit, WaitError> {
        let (things, deadline) = (things.into_iter().collect::<Vec<_>>(), deadline.into());
        let wait = self.shared().ask(|machine, now| machine.wait(now, from, things, deadline))?;
        wait_for(self.shared(), wait, Machine::claim_wait).await
    }

    /// Waits until the machine has ended by itself. A machine that is still running at the deadline is left running;
    /// QEMU's Python class kills it.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`].
    pub async fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        let deadline = deadline.into();
        let wait = self.shared().ask(|machine, now| machine.wait_for_end(now, deadline))?;
        wait_for(self.shared(), wait, Machine::claim_wait).await.and_then(Hit::into_end)
    }

    /// Ends the machine: `quit`, then SIGTERM, then SIGKILL, each with its own time limit. Returns how the machine ended
    /// when it has ended and everything is removed, also when it had ended before the call. When the future is dropped, the
    /// machine still ends.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how)).await
    }

    /// Ends the machine with SIGKILL. Completes when everything is removed.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub async fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.kill(now)).await
    }

    /// Waits for the end of this run, also when the next run has begun in the meantime.
    async fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        let shared = self.shared();
        let wait = shared.ask(|machine, now| {
            how(machine, now)?;
            machine.wait_for_end(now, FOREVER)
        })?;
        let _waiting = Waiting::new(shared, wait);
        Ok(shared.wait_for(&[Notice::Waited(wait)], |machine| machine.claim_end(wait)).await)
    }

    /// Disconnects from a machine that another program launched, and completes when the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub async fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect).await
    }
}

impl Deref for Vm {
    type Target = Handle<SharedMachine>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

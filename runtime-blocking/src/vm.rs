//! Handle of a machine, for callers that may block.

mod detach;
mod procedures;

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, FOREVER, Hit, LaunchError, Machine, Mark, Misuse, Moment,
    Outcome, Payload, Peer, Shutdown, Value, Wait, WaitError, wire::Encoded,
};
use qemu_machine_host::{Handle, descriptor};

use crate::driver::SharedMachine;

/// Handle of a QEMU that we launched and own, or to which we are attached.
///
/// Handles are clones of each other, and serve any number of threads at once. The methods that return at once are those of
/// [`Handle`].
///
/// Dropping the last handle kills QEMU and removes everything that was created for it, before `drop` returns. That takes a
/// few milliseconds, and at most two seconds when the kernel does not release the process. QEMU is not asked to quit first,
/// unlike at the end of a `with` block of QEMU's Python class; [`shutdown`](Self::shutdown) does that.
#[derive(Clone, Debug)]
pub struct Vm(Handle<SharedMachine>);

impl Vm {
    /// Launches a machine, and returns when its monitor is ready for commands.
    ///
    /// # Errors
    ///
    /// When it is not ready within [`Config::launch_within`]. The error contains the phase that failed, how the process
    /// ended, what it printed, and the command line to try it by hand. Everything that was created is removed by then.
    pub fn launch(config: Config) -> Result<Self, LaunchError> {
        let machine = Machine::new(config)?;
        let command_line = machine.command_line().clone();
        let not_started = |fault| LaunchError::not_started(fault, &command_line);
        let shared = SharedMachine::new(machine).map_err(not_started)?;
        let vm = Self(Handle::new(Arc::clone(&shared)));
        shared.call(|machine, now| machine.launch(now), |machine, ()| machine.launched())??;
        Ok(vm)
    }

    /// Attaches to a machine that another program launched, and returns when its monitor is ready for commands. This works
    /// for `qemu-storage-daemon` as well.
    ///
    /// Dropping the last handle disconnects from the machine, which keeps running.
    ///
    /// # Errors
    ///
    /// When nothing listens ([`LaunchFailure::NotListening`](crate::LaunchFailure::NotListening)), when the listener has
    /// ended (`Dead`), when another client is connected (`Busy`), or when it does not answer within the deadline.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use qemu_machine_blocking::{Address, Peer, Vm};
    ///
    /// let vm = Vm::attach(Peer::Dial(Address::unix("/run/vm/monitor")), Duration::from_secs(5))?;
    /// println!("{}", vm.execute("query-name")?);
    /// vm.disconnect()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Self::launch(Config::attach(peer).launch_within(deadline))
    }

    /// Launches this machine again after its end, with the same configuration. Nothing of the previous run is left in it: no
    /// event, no output, no status. Marks of the previous run stand for the beginning of the new one.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it runs; and as [`launch`](Self::launch).
    pub fn relaunch(&self) -> Result<(), LaunchError> {
        self.shared().call(|machine, now| machine.launch(now), |machine, ()| machine.launched())?
    }

    /// Executes a command within a minute: a name, a name with arguments, or a type that implements [`Command`].
    /// [`execute_by`](Self::execute_by) takes another deadline.
    ///
    /// # Errors
    ///
    /// QEMU's refusal, with its description; or why there is no reply.
    ///
    /// ```no_run
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// use qemu_machine_blocking::json;
    ///
    /// let status = vm.execute("query-status")?;
    /// assert_eq!(status["status"], "running");
    /// vm.execute(("set-action", json!({"panic": "pause"})))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute<C: Command>(&self, command: C) -> Result<C::Reply, CommandError> {
        self.execute_by(command, COMMAND_WITHIN)
    }

    /// Executes a command within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        self.reply(&Encoded::command(&command)?, deadline.into())?.reply()
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
    /// # use qemu_machine_blocking::{Config, Vm, json};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
    /// vm.execute_with_fd(("getfd", json!({"fdname": "disk"})), std::fs::File::open("disk.img")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_with_fd<C: Command>(&self, command: C, fd: impl Into<OwnedFd>) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(fd));
        self.reply(&command, COMMAND_WITHIN)?.reply()
    }

    /// Executes a command that is written as a JSON object, without an `id`. Returns the whole message, with `return` or
    /// `error` and our `id`: a refusal is not an error here.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// let message = vm.execute_raw(r#"{"execute": "query-status"}"#)?;
    /// println!("{}", message["return"]["status"]);
    /// vm.execute_raw_by(r#"{"execute": "query-block"}"#, Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_raw(&self, object: impl AsRef<[u8]>) -> Result<Value, CommandError> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute_raw`](Self::execute_raw).
    pub fn execute_raw_by(
        &self,
        object: impl AsRef<[u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<Value, CommandError> {
        self.reply(&Encoded::raw(object.as_ref())?, deadline.into())?.reply()
    }

    /// Executes one line on a machine that [speaks](Config::speaking) the qtest protocol.
    ///
    /// # Errors
    ///
    /// The reply, when it is not `OK`; or why there is none.
    pub fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into())?.reply()
    }

    fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        self.shared().call(|machine, now| machine.send(now, command, deadline), |machine, id| machine.take(*id))?
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
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use qemu_machine_blocking::{Config, Vm, Wait};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
    /// let start = vm.mark();
    /// vm.execute("system_reset")?;
    /// let what = [Wait::text("tty", "login: "), Wait::event("GUEST_PANICKED"), Wait::end()];
    /// let hit = vm.wait_any(&start, what, Duration::from_secs(60))?;
    /// assert_eq!(hit.index, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_any(
        &self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<Hit, WaitError> {
        let (things, deadline) = (things.into_iter().collect::<Vec<_>>(), deadline.into());
        self.shared()
            .call(|machine, now| machine.wait(now, from, things, deadline), |machine, wait| machine.claim_wait(*wait))?
    }

    /// Waits until the machine has ended by itself. A machine that is still running at the deadline is left running;
    /// QEMU's Python class kills it.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`].
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        let deadline = deadline.into();
        self.shared().call(
            |machine, now| machine.wait_for_end(now, deadline),
            |machine, wait| Some(machine.claim_wait(*wait)?.and_then(Hit::into_end)),
        )?
    }

    /// Ends the machine: `quit`, then SIGTERM, then SIGKILL, each with its own time limit. Returns how the machine ended
    /// when it has ended and everything is removed, also when it had ended before the call.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how))
    }

    /// Ends the machine with SIGKILL. Returns when everything is removed.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::kill)
    }

    /// Waits for the end of this run, also when the next run has begun in the meantime.
    fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        self.shared().call(
            |machine, now| {
                how(machine, now)?;
                machine.wait_for_end(now, FOREVER)
            },
            |machine, wait| machine.claim_end(*wait),
        )
    }

    /// Disconnects from a machine that another program launched, and returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect)
    }
}

impl Deref for Vm {
    type Target = Handle<SharedMachine>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

//! Decides what a machine looks like to a task.

mod detach;
mod procedures;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, CommandId, Config, Deadline, FOREVER, Hit, HostFault, LaunchError, Machine,
    Mark, Misuse, Moment, Notice, Outcome, Payload, Peer, Service, ServiceError, Shutdown, Value, Wait, WaitError,
    WaitId, wire::Encoded,
};

use qemu_machine_host::descriptor;

use crate::driver::{Driver, Shared};
use crate::services::{Agent, Qtest};

/// A QEMU that we launched and own.
///
/// Handles are clones of each other, and serve any number of tasks at once, on any executor. Every future may be
/// dropped at any time: it costs no event, no reply of another, and not the connection.
///
/// When the last handle is dropped, QEMU is killed and everything that was made for it is removed, on the spot: that
/// takes some milliseconds, and two seconds at most, when the kernel does not let the process go. [`kill`](Self::kill)
/// does the same without keeping the thread, and [`shutdown`](Self::shutdown) asks it to quit before. A launch keeps it
/// for some milliseconds too, to start the process.
#[derive(Clone)]
pub struct Vm(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Vm {
    /// Launches a machine, and is done when its monitor answers commands. Its driver runs on smol's global executor,
    /// which has a thread of its own: any executor may await the rest.
    ///
    /// # Errors
    ///
    /// When it does not become ready within [`Config::launch_within`]: the error says in which phase it failed, how
    /// the process ended, what it printed, and the command line to try it by hand. Everything is cleaned up then.
    pub async fn launch(config: Config) -> Result<Self, LaunchError> {
        Self::launch_with(config, |driver| smol::spawn(driver).detach()).await
    }

    /// Launches a machine whose driver is given to `spawn`, which has it polled: on an executor of the caller, say. The
    /// machine lives only while that executor runs.
    ///
    /// # Errors
    ///
    /// As [`launch`](Self::launch).
    pub async fn launch_with(config: Config, spawn: impl FnOnce(Driver)) -> Result<Self, LaunchError> {
        let vm = Self(Arc::new(Handle(Shared::new(Machine::new(config)?))));
        vm.relaunch_with(spawn).await?;
        Ok(vm)
    }

    /// Speaks with a machine that somebody else launched, and is done when its monitor answers commands. Also for
    /// `qemu-storage-daemon`.
    ///
    /// Dropping the last handle lets go of it, and it runs on.
    ///
    /// # Errors
    ///
    /// When nobody listens ([`LaunchFailure::NotListening`](crate::LaunchFailure::NotListening)), when what had listened
    /// is gone (`Dead`), when somebody else is connected (`Busy`), or when it does not answer within the deadline.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use qemu_machine_smol::{Address, Peer, Vm};
    ///
    /// let vm = Vm::attach(Peer::Dial(Address::unix("/run/vm/monitor")), Duration::from_secs(5)).await?;
    /// println!("{}", vm.execute("query-name").await?);
    /// vm.disconnect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Self::launch(Config::attach(peer).launch_within(deadline)).await
    }

    /// Launches this machine again, after its end. Nothing of its previous run is left in it: no event, no output, no
    /// status; marks of that run stand for the beginning of the new one. Its configuration is the same. The new driver
    /// runs as with [`launch`](Self::launch).
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it lives; and as [`launch`](Self::launch).
    pub async fn relaunch(&self) -> Result<(), LaunchError> {
        self.relaunch_with(|driver| smol::spawn(driver).detach()).await
    }

    /// As [`relaunch`](Self::relaunch), with the driver given to `spawn`.
    ///
    /// # Errors
    ///
    /// As [`relaunch`](Self::relaunch).
    pub async fn relaunch_with(&self, spawn: impl FnOnce(Driver)) -> Result<(), LaunchError> {
        let shared = &self.0.0;
        spawn(Driver::launch(shared)?);
        shared.until(&[Notice::Ready, Notice::Ended], |machine| machine.launched()).await
    }

    /// Executes a command: a name, a name with arguments, or a type of its own.
    ///
    /// It may take a minute; [`execute_by`](Self::execute_by) takes another deadline. Dropped before it is done, the
    /// command may still take effect.
    ///
    /// # Errors
    ///
    /// QEMU's refusal, in its words; or why there is no reply.
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

    /// Executes a command within a deadline. When it passes, the command may still take effect.
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

    /// Executes a command that takes a descriptor (`getfd`, `add-fd`), in one step with it. It may be a file, a socket,
    /// one end of a pipe; with us it is closed when it was sent. Such commands wait for each other.
    ///
    /// QEMU 7.2 makes what it is given block, which anybody notices who shares the open file.
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
        what: impl Into<OwnedFd>,
    ) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(what));
        self.reply(&command, COMMAND_WITHIN).await?.reply()
    }

    /// Executes a command that is written as a JSON object, without an `id`. What comes back is the whole message, also
    /// when it is a refusal: `return` or `error`, and our `id`.
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

    /// As [`execute_raw`](Self::execute_raw), within a deadline. When it passes, the command may still take effect.
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

    /// Executes one line, on a machine that [speaks](Config::speaking) with qtest.
    ///
    /// # Errors
    ///
    /// What it said instead of `OK`; or why it said nothing.
    pub async fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into()).await?.reply()
    }

    async fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        let id = self.ask(|machine, now| machine.send(now, command, deadline))?;
        let _disown = Disown(&self.0.0, id);
        self.0.0.until(&[Notice::Answered(id)], |machine| machine.take(id)).await
    }

    /// Waits for the first of several things, from a position on.
    ///
    /// What is there already counts first, and is not taken away: another wait from there finds the same. The deadline
    /// bounds the whole wait, however many other events come, and the end of the machine ends every wait.
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
        let wait = self.ask(|machine, now| machine.wait(now, from, things, deadline))?;
        self.over(wait, Machine::claim_wait).await
    }

    /// Waits until a wait is over.
    pub(crate) async fn over<T>(
        &self,
        wait: WaitId,
        claim: impl Fn(&mut Machine, WaitId) -> Option<Result<T, WaitError>>,
    ) -> Result<T, WaitError> {
        let _forget = self.forget_later(wait);
        self.shared().until(&[Notice::Waited(wait)], |machine| claim(machine, wait)).await
    }

    /// Gives up this wait when it is dropped.
    pub(crate) fn forget_later(&self, wait: WaitId) -> Forget {
        Forget(Arc::clone(&self.0.0), wait)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// Waits for the machine to end by itself. When the deadline passes it is left running; QEMU's Python class kills it
    /// then.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`].
    pub async fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        let deadline = deadline.into();
        let wait = self.ask(|machine, now| machine.wait_for_end(now, deadline))?;
        self.over(wait, Machine::claim_wait).await.and_then(Hit::into_end)
    }

    /// Ends the machine: `quit`, then SIGTERM, then SIGKILL, each in its time. Done when it has ended and everything
    /// is cleaned up, and says how; also when it had ended by itself before. Dropped, the machine ends all the same.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how)).await
    }

    /// Ends the machine with SIGKILL. Done when everything is cleaned up.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub async fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.kill(now)).await
    }

    async fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        let wait = self.ask(|machine, now| {
            how(machine, now)?;
            machine.wait_for_end(now, FOREVER)
        })?;
        let _forget = self.forget_later(wait);
        Ok(self.0.0.until(&[Notice::Waited(wait)], |machine| machine.claim_end(wait)).await)
    }

    /// Lets go of a machine that somebody else launched, and is done when the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub async fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect).await
    }

    /// Speaks with the agent in the guest, through the port of [`Config::guest_agent`]. Done when the agent answers:
    /// the guest must have come so far within the deadline.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`]; [`Misuse::ServiceInUse`] while somebody else speaks with it; [`ServiceError::Silent`] when it does
    /// not answer. The machine is as it was, and the agent can be asked for again.
    pub async fn agent(&self, deadline: impl Into<Deadline>) -> Result<Agent, ServiceError> {
        Self::speak(Service::GuestAgent, self.port(Service::GuestAgent)?.launch_within(deadline)).await.map(Agent)
    }

    /// Speaks with QEMU's qtest, through the port of [`Config::qtest`]. Once in a run: when the last handle of it
    /// is gone, its connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] without such a port, or when it was spoken with before.
    pub async fn qtest(&self) -> Result<Qtest, ServiceError> {
        Self::speak(Service::Qtest, self.port(Service::Qtest)?).await.map(Qtest)
    }

    async fn speak(port: Service, config: Config) -> Result<Self, ServiceError> {
        Self::launch(config).await.map_err(|error| ServiceError::new(port, error))
    }

    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        self.0.0.ask(ask)
    }

    fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.0.0.peek(look)
    }

    fn find_service(&self, port: Service) -> Result<Config, Misuse> {
        self.0.0.port(port)
    }

    fn read_log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.0.0.read_log(limit)
    }
}

qemu_machine_host::verbs_that_wait_for_nothing!(Vm);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

/// Gives up a command when its future is gone, whether it was answered or not.
struct Disown<'a>(&'a Shared, CommandId);

impl Drop for Disown<'_> {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.disown(self.1));
        self.0.stop_waiting(Notice::Answered(self.1));
    }
}

/// Gives up a wait when its future is gone.
#[derive(Debug)]
pub(crate) struct Forget(Arc<Shared>, WaitId);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.ask(|machine, _| machine.forget(self.1));
        self.0.stop_waiting(Notice::Waited(self.1));
    }
}

//! Decides what a machine looks like to a caller that may block.

mod detach;
mod procedures;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, FOREVER, Hit, HostFault, LaunchError, Machine, Mark,
    Misuse, Moment, Outcome, Payload, Peer, Service, ServiceError, Shutdown, Value, Wait, WaitError, wire::Encoded,
};

use crate::driver::Driver;
use crate::services::{Agent, Qtest};
use qemu_machine_host::descriptor;

/// A QEMU that we launched and own.
///
/// Handles are clones of each other, and serve any number of threads at once.
///
/// When the last one is dropped, QEMU is killed and everything that was made for it is removed, on the spot: that takes
/// some milliseconds, and two seconds at most, when the kernel does not let the process go.
/// Nothing asks it to quit before, as leaving the `with` of QEMU's Python class does: [`shutdown`](Self::shutdown) does.
#[derive(Clone)]
pub struct Vm(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Driver>);

impl Vm {
    /// Launches a machine, and returns when its monitor answers commands.
    ///
    /// # Errors
    ///
    /// When it does not become ready within [`Config::launch_within`]: the error says in which phase it failed, how
    /// the process ended, what it printed, and the command line to try it by hand. Everything is cleaned up then.
    pub fn launch(config: Config) -> Result<Self, LaunchError> {
        let machine = Machine::new(config)?;
        let command_line = machine.command_line().clone();
        let not_started = |fault| LaunchError::not_started(fault, &command_line);
        let driver = Driver::new(machine).map_err(not_started)?;
        let vm = Self(Arc::new(Handle(Arc::clone(&driver))));
        driver.call(|machine, now| machine.launch(now), |machine, ()| machine.launched())??;
        Ok(vm)
    }

    /// Speaks with a machine that somebody else launched, and returns when its monitor answers commands. Also for
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

    /// Launches this machine again, after its end. Nothing of its previous run is left in it: no event, no output, no
    /// status; marks of that run stand for the beginning of the new one. Its configuration is the same.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it lives; and as [`launch`](Self::launch).
    pub fn relaunch(&self) -> Result<(), LaunchError> {
        self.driver().call(|machine, now| machine.launch(now), |machine, ()| machine.launched())?
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.0.0
    }

    /// Executes a command: a name, a name with arguments, or a type of its own.
    ///
    /// It may take a minute; [`execute_by`](Self::execute_by) takes another deadline.
    ///
    /// # Errors
    ///
    /// QEMU's refusal, in its words; or why there is no reply.
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

    /// Executes a command within a deadline. When it passes, the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        self.reply(&Encoded::command(&command)?, deadline.into())?.reply()
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
    /// # use qemu_machine_blocking::{Config, Vm, json};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
    /// vm.execute_with_fd(("getfd", json!({"fdname": "disk"})), std::fs::File::open("disk.img")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_with_fd<C: Command>(&self, command: C, what: impl Into<OwnedFd>) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(what));
        self.reply(&command, COMMAND_WITHIN)?.reply()
    }

    /// Executes a command that is written as a JSON object, without an `id`. What comes back is the whole message, also
    /// when it is a refusal: `return` or `error`, and our `id`.
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

    /// As [`execute_raw`](Self::execute_raw), within a deadline. When it passes, the command may still take effect.
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

    /// Executes one line, on a machine that [speaks](Config::speaking) with qtest.
    ///
    /// # Errors
    ///
    /// What it said instead of `OK`; or why it said nothing.
    pub fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into())?.reply()
    }

    fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        self.driver().call(|machine, now| machine.send(now, command, deadline), |machine, id| machine.take(*id))?
    }

    /// Waits for the first of several things, from a position on.
    ///
    /// What is there already counts first, and is not taken away: another wait from there finds the same. The deadline
    /// bounds the whole wait, however many other events come, and the end of the machine ends every wait.
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
        self.driver()
            .call(|machine, now| machine.wait(now, from, things, deadline), |machine, wait| machine.claim_wait(*wait))?
    }

    /// Waits for the machine to end by itself. When the deadline passes it is left running; QEMU's Python class kills it
    /// then.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`].
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        let deadline = deadline.into();
        self.driver().call(
            |machine, now| machine.wait_for_end(now, deadline),
            |machine, wait| Some(machine.claim_wait(*wait)?.and_then(Hit::into_end)),
        )?
    }

    /// Ends the machine: `quit`, then SIGTERM, then SIGKILL, each in its time. Returns when it has ended and
    /// everything is cleaned up, and says how; also when it had ended by itself before.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how))
    }

    /// Ends the machine with SIGKILL. Returns when everything is cleaned up.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::kill)
    }

    /// Waits for the end of this run, also when the next one has begun meanwhile.
    fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        self.driver().call(
            |machine, now| {
                how(machine, now)?;
                machine.wait_for_end(now, FOREVER)
            },
            |machine, wait| machine.claim_end(*wait),
        )
    }

    /// Lets go of a machine that somebody else launched, and returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect)
    }

    /// Speaks with the agent in the guest, through the port of [`Config::guest_agent`]. Returns when the agent answers:
    /// the guest must have come so far within the deadline.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`]; [`Misuse::ServiceInUse`] while somebody else speaks with it; [`ServiceError::Silent`] when it does
    /// not answer. The machine is as it was, and the agent can be asked for again.
    pub fn agent(&self, deadline: impl Into<Deadline>) -> Result<Agent, ServiceError> {
        Self::speak(Service::GuestAgent, self.port(Service::GuestAgent)?.launch_within(deadline)).map(Agent)
    }

    /// Speaks with QEMU's qtest, through the port of [`Config::qtest`]. Once in a run: when the last handle of it
    /// is gone, its connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] without such a port, or when it was spoken with before.
    pub fn qtest(&self) -> Result<Qtest, ServiceError> {
        Self::speak(Service::Qtest, self.port(Service::Qtest)?).map(Qtest)
    }

    fn speak(port: Service, config: Config) -> Result<Self, ServiceError> {
        Self::launch(config).map_err(|error| ServiceError::new(port, error))
    }

    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        self.driver().ask(ask)
    }

    fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.driver().peek(look)
    }

    fn find_service(&self, port: Service) -> Result<Config, Misuse> {
        self.driver().port(port)
    }

    fn read_log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.driver().read_log(limit)
    }
}

qemu_machine_host::verbs_that_wait_for_nothing!(Vm);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

//! Decides what a machine looks like to a caller that may block.

use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::wire::Greeting;
use qemu_machine_core::{
    Command, CommandError, CommandLine, Config, Deadline, Hit, HostFault, LaunchError, LaunchFailure, Machine, Mark,
    Misuse, Outcome, Shutdown, State, Value, Wait, WaitError,
};

use crate::driver::Driver;

/// A QEMU that we launched and own.
///
/// Handles are clones of each other, and serve any number of threads at once. When the last one is dropped, QEMU is
/// killed and everything that was made for it is removed.
#[derive(Clone, Debug)]
pub struct Vm(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Driver>);

/// How long a command may take unless said otherwise. Most take milliseconds; the default only bounds what would
/// otherwise hang.
const COMMAND: Deadline = Deadline::after(Duration::from_secs(60));

/// How long dropping a machine waits for the kernel to end the process. It is killed in any case, and cleaned up by
/// the keeper when it takes longer.
const DROP: Deadline = Deadline::after(Duration::from_secs(2));

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
        let driver = Driver::new(machine).map_err(|fault| LaunchError::Failed {
            failure: LaunchFailure::Host(fault),
            outcome: Box::new(Outcome::not_started(command_line)),
        })?;
        let vm = Self(Arc::new(Handle(Arc::clone(&driver))));
        driver.call(|machine, now| machine.launch(now), |machine, ()| machine.launched())??;
        Ok(vm)
    }

    fn driver(&self) -> &Driver {
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
        self.execute_by(command, COMMAND)
    }

    /// Executes a command within a deadline. When it passes, the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        let deadline = deadline.into();
        self.driver()
            .call(|machine, now| machine.execute(now, &command, deadline), |machine, ticket| machine.claim(ticket))?
    }

    /// Executes a command that is written as a JSON object, without an `id`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_raw(&self, object: impl AsRef<[u8]>) -> Result<Value, CommandError> {
        self.driver().call(
            |machine, now| machine.execute_raw(now, object.as_ref(), COMMAND),
            |machine, ticket| machine.claim(ticket),
        )?
    }

    /// The position behind everything that came so far. Take one, act, and wait from it: nothing is missed between.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.driver().ask(|machine, _| machine.mark())
    }

    /// Waits for the first of several things, from a position on.
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
        let deadline = deadline.into();
        self.driver()
            .call(|machine, now| machine.wait(now, from, things, deadline), |machine, wait| machine.claim_wait(*wait))?
    }

    /// Waits for the machine to end by itself. When the deadline passes it is left running.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`].
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        let deadline = deadline.into();
        self.driver().call(
            |machine, now| machine.wait(now, &machine.mark(), [Wait::end()], deadline),
            |machine, wait| {
                let over = machine.claim_wait(*wait)?;
                Some(over.map(|_| ()).and_then(|()| machine.outcome().cloned().ok_or(WaitError::TimedOut)))
            },
        )?
    }

    /// Ends the machine: `quit`, then SIGTERM, then SIGKILL, each in its time. Returns when it has ended and
    /// everything is cleaned up, and says how; also when it had ended by itself before.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.driver().call(|machine, now| machine.shutdown(now, how), |machine, ()| machine.outcome().cloned())
    }

    /// Ends the machine with SIGKILL. Returns when everything is cleaned up.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn kill(&self) -> Result<Outcome, Misuse> {
        self.driver().call(|machine, now| machine.kill(now), |machine, ()| machine.outcome().cloned())
    }

    /// Types on a console. Returns at once; QEMU takes it as fast as the guest does.
    ///
    /// # Errors
    ///
    /// When there is no console of this name, or a megabyte waits to be typed already.
    pub fn type_on(&self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        self.driver().ask(|machine, now| machine.type_on(now, console, text.as_ref()))
    }

    /// What a console printed from a position on, as far as it is remembered.
    ///
    /// # Errors
    ///
    /// When there is no console of this name.
    pub fn console(&self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        self.driver().ask(|machine, _| machine.console_since(name, from).map(<[u8]>::to_vec))
    }

    /// Where the machine is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.driver().ask(|machine, _| machine.state())
    }

    /// The id of the process, while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.driver().ask(|machine, _| machine.pid())
    }

    /// What QEMU said of itself: its version, and what its monitor can do.
    #[must_use]
    pub fn greeting(&self) -> Option<Greeting> {
        self.driver().ask(|machine, _| machine.greeting().cloned())
    }

    /// Whether commands can be executed out of band.
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        self.driver().ask(|machine, _| machine.session().out_of_band())
    }

    /// What was executed.
    #[must_use]
    pub fn command_line(&self) -> CommandLine {
        self.driver().ask(|machine, _| machine.command_line().clone())
    }

    /// The end of what QEMU has printed, at most `limit` bytes of it; while it runs, and after its end.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.driver().read_log(limit)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // There is nobody to tell how it ended; what could not be done in time is done by the keeper.
        let _ = self.0.call(
            |machine, now| {
                machine.kill(now)?;
                machine.wait(now, &machine.mark(), [Wait::end()], DROP)
            },
            |machine, wait| machine.claim_wait(*wait),
        );
        self.0.abandon();
    }
}

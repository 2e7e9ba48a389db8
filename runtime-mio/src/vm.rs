//! Machine in a loop of the caller.

mod detach;
mod events;
mod procedures;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};
use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, CommandId, Config, Deadline, Hit, HostFault, LaunchError, Machine, Mark,
    Misuse, Moment, Notice, Outcome, Payload, Peer, QtestLine, Raw, Service, Shutdown, Ticket, Wait, WaitError, WaitId,
};
use qemu_machine_host::{Clock, Host, descriptor};

use crate::sources::{Registered, Sources};

/// How many rounds of reading one machine gets before the loop serves the others and takes its events. The bytes that four
/// rounds bring fit the queue of a subscription whatever events they hold: each event of QEMU has at least 70 bytes.
const ROUNDS: usize = 4;

/// A QEMU that we launched and own, or to which we are attached, driven by the caller's loop.
///
/// Requests do not block. They return a ticket, and [`turn`](Self::turn) returns a notice when there is something to claim.
/// Everything else is read from [`machine`](Self::machine) at any time.
///
/// Dropping it kills QEMU and removes everything that was created for it, before `drop` returns. That takes a few
/// milliseconds, and at most two seconds when the kernel does not release the process. QEMU is not asked to quit first:
/// [`shutdown`](Self::shutdown) does that.
pub struct Vm {
    machine: Machine,
    host: Host,
    clock: Clock,
    sources: Sources,
    /// Where the sources are registered, to unregister them on drop. `None` means that it could not be duplicated.
    registry: Option<Registry>,
    /// Whether there was a request, whose effects the next turn carries out.
    is_asked: bool,
    /// Rounds since the loop last had control.
    rounds: usize,
}

impl Vm {
    /// Begins to launch a machine. Its sources are registered with `registry`, under tokens from `next_token`.
    ///
    /// [`Notice::Ready`] means that its monitor is ready for commands, [`Notice::Ended`] that the machine has ended.
    /// [`launched`](Self::launched) returns whether and why the launch failed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when the configuration cannot become a command line.
    pub fn launch(config: Config, registry: &Registry, next_token: impl FnMut() -> Token) -> Result<Self, Misuse> {
        let channels = config.channels();
        let mut vm = Self {
            machine: Machine::new(config)?,
            host: Host::default(),
            clock: Clock::new(),
            sources: Sources::new(&channels, next_token),
            registry: registry.try_clone().ok(),
            is_asked: false,
            rounds: 0,
        };
        let now = vm.clock.now();
        vm.machine.launch(now)?;
        vm.serve(registry, now);
        Ok(vm)
    }

    /// Begins to attach to a machine that another program launched. Dropping the result disconnects from the machine, which
    /// keeps running.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when the address is not valid.
    pub fn attach(
        peer: Peer,
        deadline: impl Into<Deadline>,
        registry: &Registry,
        next_token: impl FnMut() -> Token,
    ) -> Result<Self, Misuse> {
        Self::launch(Config::attach(peer).launch_within(deadline), registry, next_token)
    }

    /// Begins to launch this machine again after its end, with the same configuration and the same tokens. Nothing of the
    /// previous run is left in it: no event, no output, no answer, no status. Marks of the previous run stand for the
    /// beginning of the new one.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it runs.
    pub fn relaunch(&mut self, registry: &Registry) -> Result<(), Misuse> {
        let now = self.clock.now();
        self.machine.launch(now)?;
        self.serve(registry, now);
        Ok(())
    }

    /// Returns the configuration that attaches to a service of this machine: the guest agent or qtest. Launch it as another
    /// machine, with [`Config::launch_within`] for the time that the agent may take to answer.
    /// [`ServiceError::new`](crate::ServiceError::new) converts the error of that launch.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the service, or has ended; [`Misuse::ServiceInUse`].
    pub fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        self.host.service(service)
    }

    /// Takes an event of the caller's poll, and returns whether it belongs to this machine.
    pub fn ready(&mut self, event: &Event) -> bool {
        self.sources.ready(event)
    }

    /// Returns how long the caller's poll may wait before the next turn. `None` means without a timeout.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if self.is_asked || self.machine.has_outputs() || self.sources.is_pending() {
            return Some(Duration::ZERO);
        }
        self.machine.deadline().map(|(until, _)| until.since(self.clock.now()))
    }

    /// Drives the machine, and returns one notice. Call it until it returns `None`. It may do so with work left, so that the
    /// loop serves other machines, and then the [`timeout`](Self::timeout) is zero.
    pub fn turn(&mut self, registry: &Registry) -> Option<Notice> {
        let earlier = self.machine.poll_notice();
        if earlier.is_some() {
            return earlier;
        }
        let now = self.clock.now();
        loop {
            self.serve(registry, now);
            if self.rounds == ROUNDS || !self.absorb(registry, now) {
                self.rounds = 0;
                return self.machine.poll_notice();
            }
            self.rounds += 1;
            let notice = self.machine.poll_notice();
            if notice.is_some() {
                return notice;
            }
        }
    }

    fn serve(&mut self, registry: &Registry, now: Moment) {
        self.is_asked = false;
        let watch = &mut Registered { sources: &mut self.sources, registry };
        self.host.serve(&mut self.machine, now, watch);
    }

    /// Reports what became ready and the deadline, and returns whether there was anything to report.
    fn absorb(&mut self, registry: &Registry, now: Moment) -> bool {
        let is_due = self.machine.deadline().is_some_and(|(due, _)| due <= now);
        let is_pending = self.sources.is_pending();
        if is_pending {
            let watch = &mut Registered { sources: &mut self.sources, registry };
            watch.absorb(&mut self.host, &mut self.machine, now);
        }
        if is_due {
            self.host.check_deadline(&mut self.machine, now);
        }
        is_pending || is_due
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        self.is_asked = true;
        ask(&mut self.machine, self.clock.now())
    }

    /// Executes a command within a minute: a name, a name with arguments, or a type that implements [`Command`]. The next turn
    /// sends it.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when no monitor is connected, or when it is not a command.
    pub fn execute<C: Command>(&mut self, command: C) -> Result<Ticket<C>, Misuse> {
        self.execute_by(command, COMMAND_WITHIN)
    }

    /// Executes a command within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&mut self, command: C, deadline: impl Into<Deadline>) -> Result<Ticket<C>, Misuse> {
        self.ask(|machine, now| machine.execute(now, &command, deadline.into()))
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
    pub fn execute_with_fd<C: Command>(&mut self, command: C, fd: impl Into<OwnedFd>) -> Result<Ticket<C>, Misuse> {
        let descriptor = descriptor(fd);
        self.ask(|machine, now| machine.execute_with_fd(now, &command, descriptor, COMMAND_WITHIN))
    }

    /// Executes one line on a machine that [speaks](Config::speaking) the qtest protocol.
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`] when it is not one line; [`Misuse::WrongDialect`].
    pub fn execute_line(&mut self, line: &str, deadline: impl Into<Deadline>) -> Result<Ticket<QtestLine>, Misuse> {
        self.ask(|machine, now| machine.execute_line(now, line, deadline.into()))
    }

    /// Executes a command that is written as a JSON object, without an `id`. The reply is the whole message, with `return` or
    /// `error` and our `id`: a refusal is not an error here.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_raw(&mut self, object: impl AsRef<[u8]>) -> Result<Ticket<Raw>, Misuse> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. After the deadline the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use qemu_machine_mio::{Config, EventLoop, Vm};
    /// # let mut event_loop = EventLoop::new()?;
    /// # let (registry, tokens) = event_loop.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
    /// let ticket = vm.execute_raw_by(r#"{"execute": "query-status"}"#, Duration::from_secs(5))?;
    /// // And after a turn of the loop:
    /// if let Some(message) = vm.claim(&ticket) {
    ///     println!("{}", message?["return"]["status"]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_raw_by(
        &mut self,
        object: impl AsRef<[u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<Ticket<Raw>, Misuse> {
        self.ask(|machine, now| machine.execute_raw(now, object.as_ref(), deadline.into()))
    }

    /// Returns the reply to a command, once. `None` means that there is none yet.
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.machine.claim(ticket)
    }

    /// Returns the unparsed reply to a command, once, by its id: for loops that keep commands of many types.
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        self.machine.take(id)
    }

    /// Disowns a command: its reply is dropped.
    pub fn disown(&mut self, id: CommandId) {
        self.ask(|machine, _| machine.disown(id));
    }

    /// Begins to wait for the first of several things, from a mark on.
    ///
    /// Things that happened since the mark count first. They are not consumed: another wait from the same mark finds the
    /// same. The deadline bounds the whole wait, however many other events are received, and the end of the machine ends
    /// every wait.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when there is nothing to wait for, or no console of that name.
    pub fn wait_any(
        &mut self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<WaitId, Misuse> {
        self.ask(|machine, now| machine.wait(now, from, things, deadline.into()))
    }

    /// Returns the result of a wait, once. `None` means that it is not over.
    pub fn claim_wait(&mut self, wait: WaitId) -> Option<Result<Hit, WaitError>> {
        self.machine.claim_wait(wait)
    }

    /// Cancels a wait.
    pub fn disown_wait(&mut self, wait: WaitId) {
        self.ask(|machine, _| machine.disown_wait(wait));
    }

    /// Writes to a console. The next turn sends it, as fast as the guest reads.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when there is no console of this name, or when the queue is full
    /// ([`Limits::console_input`](crate::Limits::console_input)).
    pub fn console_write(&mut self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        self.ask(|machine, now| machine.console_write(now, console, text.as_ref()))
    }

    /// Begins to end the machine: `quit`, then SIGTERM, then SIGKILL, each with its own time limit.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), Misuse> {
        self.ask(|machine, now| machine.shutdown(now, how))
    }

    /// Begins to end the machine with SIGKILL.
    ///
    /// # Errors
    ///
    /// None for a machine that was launched.
    pub fn kill(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::kill)
    }

    /// Begins to disconnect from a machine that another program launched.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub fn disconnect(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::disconnect)
    }

    /// Returns whether the launch succeeded. `None` means that it is in progress.
    #[must_use]
    pub fn launched(&self) -> Option<Result<(), LaunchError>> {
        self.machine.launched()
    }

    /// Returns how the machine ended. `None` means that it has not ended.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.machine.outcome()
    }

    /// Returns the position after everything that was received so far. Take a mark, act, and wait from the mark: nothing that
    /// happens in between is missed.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.machine.mark()
    }

    /// Returns the machine, to read its state, its process, its consoles and its history.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the last bytes that QEMU printed, at most `limit`, while it runs and after its end.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.host.read_log(limit)
    }
}

/// The [`Machine`].
impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.machine).finish()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.machine.outcome().is_some() {
            return;
        }
        match &self.registry {
            Some(registry) => {
                let watch = &mut Registered { sources: &mut self.sources, registry };
                self.host.end_watched(&mut self.machine, self.clock, watch);
            }
            // The kernel unregisters the sources when their descriptors are closed.
            None => self.host.end(&mut self.machine, self.clock),
        }
    }
}

//! Decides what a machine looks like to the loop that drives it.

mod detach;
mod events;
mod procedures;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};
use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, CommandId, Config, Deadline, Hit, HostFault, Input, LaunchError, Line,
    Machine, Mark, Misuse, Moment, Notice, Outcome, Payload, Peer, Raw, Service, Shutdown, Ticket, Wait, WaitError,
    WaitId,
};
use qemu_machine_host::{Clock, Host, descriptor};

use crate::sources::{Registered, Sources};

/// How many rounds of reading one machine gets before the loop looks at the others, and takes its events: what so many
/// reads bring fits the queue of a subscription, whatever events are in it, for each of QEMU's is of 70 bytes at least.
const FAIR: usize = 4;

/// A QEMU that we launched and own, driven by the caller's loop.
///
/// Requests never wait: they give a ticket, and [`turn`](Self::turn) says when there is something to claim. What else
/// can be read from a machine at any time is read from [`machine`](Self::machine).
///
/// Dropped, it kills QEMU and removes everything that was made for it, on the spot: that takes some milliseconds, and
/// two seconds at most, when the kernel does not let the process go. Nothing asks it to quit before:
/// [`shutdown`](Self::shutdown) does.
pub struct Vm {
    machine: Machine,
    host: Host,
    clock: Clock,
    sources: Sources,
    /// Where the sources are registered, for the end that comes by dropping.
    registry: Option<Registry>,
    /// Something was asked that the next turn carries out.
    asked: bool,
    /// Rounds since the loop last had the word.
    rounds: usize,
}

impl Vm {
    /// Begins to launch a machine. Its sources are registered with `registry`, under tokens from `next_token`.
    ///
    /// [`Notice::Ready`] says that its monitor answers commands, [`Notice::Ended`] that it has ended, and
    /// [`launched`](Self::launched) whether and why the launch failed.
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
            asked: false,
            rounds: 0,
        };
        let now = vm.clock.now();
        vm.machine.launch(now)?;
        vm.serve(registry, now);
        Ok(vm)
    }

    /// Begins to speak with a machine that somebody else launched. Dropping it lets go of it, and it runs on.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when the address cannot be one.
    pub fn attach(
        peer: Peer,
        deadline: impl Into<Deadline>,
        registry: &Registry,
        next_token: impl FnMut() -> Token,
    ) -> Result<Self, Misuse> {
        Self::launch(Config::attach(peer).launch_within(deadline), registry, next_token)
    }

    /// Begins to launch this machine again, after its end, under the tokens that it has. Nothing of its previous run is left
    /// in it: no event, no output, no answer, no status; marks of that run stand for the beginning of the new one. Its
    /// configuration is the same.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while it lives.
    pub fn relaunch(&mut self, registry: &Registry) -> Result<(), Misuse> {
        let now = self.clock.now();
        self.machine.launch(now)?;
        self.serve(registry, now);
        Ok(())
    }

    /// How to attach to a port of this machine: the agent in the guest, or qtest. Launch what comes back as a
    /// machine of its own, with [`Config::launch_within`] for how long the agent may take to answer. What its launch fails
    /// with is no failure of this machine's: [`ServiceError::new`](crate::ServiceError::new) says it in these words.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without it, or has ended; [`Misuse::ServiceInUse`].
    pub fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        self.host.service(service)
    }

    /// Takes an event of the caller's poll. Whether it is one of this machine's.
    pub fn ready(&mut self, event: &Event) -> bool {
        self.sources.ready(event)
    }

    /// How long the caller's poll may wait before the next turn; none: as long as it takes.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if self.asked || self.machine.has_news() || self.sources.is_pending() {
            return Some(Duration::ZERO);
        }
        self.machine.deadline().map(|(until, _)| until.since(self.clock.now()))
    }

    /// Does what there is to do, and says one thing that happened. To be called until there is none; what is left then,
    /// because others should get their turn as well, makes the [`timeout`](Self::timeout) zero.
    pub fn turn(&mut self, registry: &Registry) -> Option<Notice> {
        let told = self.machine.poll_notice();
        if told.is_some() {
            return told;
        }
        let now = self.clock.now();
        loop {
            self.serve(registry, now);
            if self.rounds == FAIR || !self.absorb(registry, now) {
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
        self.asked = false;
        let watch = &mut Registered { sources: &mut self.sources, registry };
        self.host.serve(&mut self.machine, now, watch);
    }

    /// Whether anything was there.
    fn absorb(&mut self, registry: &Registry, now: Moment) -> bool {
        let late = self.machine.deadline().is_some_and(|(until, _)| until <= now);
        let any = self.sources.is_pending() || late;
        if any {
            let watch = &mut Registered { sources: &mut self.sources, registry };
            watch.absorb(&mut self.host, &mut self.machine, now);
            self.machine.handle(now, Input::TimePassed);
        }
        any
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        self.asked = true;
        ask(&mut self.machine, self.clock.now())
    }

    /// Executes a command: a name, a name with arguments, or a type of its own. It goes out with the next turn, and may
    /// take a minute.
    ///
    /// # Errors
    ///
    /// When there is no monitor to send it to, or when it is not a command.
    pub fn execute<C: Command>(&mut self, command: C) -> Result<Ticket<C>, Misuse> {
        self.execute_by(command, COMMAND_WITHIN)
    }

    /// Executes a command within a deadline. When it passes, the command may still take effect.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&mut self, command: C, deadline: impl Into<Deadline>) -> Result<Ticket<C>, Misuse> {
        self.ask(|machine, now| machine.execute(now, &command, deadline.into()))
    }

    /// Executes a command that takes a descriptor (`getfd`, `add-fd`), in one step with it. It may be a file, a socket,
    /// one end of a pipe; with us it is closed when it was sent. Such commands wait for each other.
    ///
    /// QEMU 7.2 makes what it is given block, which anybody notices who shares the open file.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_with_fd<C: Command>(&mut self, command: C, what: impl Into<OwnedFd>) -> Result<Ticket<C>, Misuse> {
        let descriptor = descriptor(what);
        self.ask(|machine, now| machine.execute_with_fd(now, &command, descriptor, COMMAND_WITHIN))
    }

    /// Executes one line, on a machine that [speaks](Config::speaking) with qtest.
    ///
    /// # Errors
    ///
    /// [`Misuse::Line`] when it is not one line; [`Misuse::WrongDialect`].
    pub fn execute_line(&mut self, line: &str, deadline: impl Into<Deadline>) -> Result<Ticket<Line>, Misuse> {
        self.ask(|machine, now| machine.execute_line(now, line, deadline.into()))
    }

    /// Executes a command that is written as a JSON object, without an `id`. What comes back is the whole message, also
    /// when it is a refusal: `return` or `error`, and our `id`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_raw(&mut self, object: impl AsRef<[u8]>) -> Result<Ticket<Raw>, Misuse> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. When it passes, the command may still take effect.
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
    /// // And when the loop tells of it:
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

    /// The reply of a command, once it is there. It is given once.
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.machine.claim(ticket)
    }

    /// The reply of a command, unread, by its id: for loops that keep commands of many types. It is given once.
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        self.machine.take(id)
    }

    /// Nobody wants the reply of this command any more.
    pub fn disown(&mut self, id: CommandId) {
        self.machine.disown(id);
    }

    /// Begins to wait for the first of several things, from a position on.
    ///
    /// What is there already counts first, and is not taken away: another wait from there finds the same. The deadline
    /// bounds the whole wait, however many other events come, and the end of the machine ends every wait.
    ///
    /// # Errors
    ///
    /// When there is nothing to wait for, or no console of that name.
    pub fn wait_any(
        &mut self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<WaitId, Misuse> {
        self.ask(|machine, now| machine.wait(now, from, things, deadline.into()))
    }

    /// What a wait found, once it is over. It is given once.
    pub fn claim_wait(&mut self, wait: WaitId) -> Option<Result<Hit, WaitError>> {
        self.machine.claim_wait(wait)
    }

    /// Nobody waits for this any more.
    pub fn forget(&mut self, wait: WaitId) {
        self.machine.forget(wait);
    }

    /// Types on a console. It goes out with the next turn, as fast as the guest takes it.
    ///
    /// # Errors
    ///
    /// When there is no console of this name, or too much waits to be typed already.
    pub fn console_write(&mut self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        self.ask(|machine, now| machine.console_write(now, console, text.as_ref()))
    }

    /// Begins to end the machine: `quit`, then SIGTERM, then SIGKILL, each in its time.
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

    /// Begins to let go of a machine that somebody else launched.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that we launched.
    pub fn disconnect(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::disconnect)
    }

    /// Whether the launch succeeded, once that is known.
    #[must_use]
    pub fn launched(&self) -> Option<Result<(), LaunchError>> {
        self.machine.launched()
    }

    /// How the machine ended, once it did.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.machine.outcome()
    }

    /// The position behind everything that came so far. Take one, act, and wait from it: nothing is missed between.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.machine.mark()
    }

    /// The machine, to read from: its state, its process, its consoles, its history.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The end of what QEMU has printed, at most `limit` bytes of it; while it runs, and after its end.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.host.read_log(limit)
    }
}

/// The [`Machine`] inside.
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
            // There was no descriptor to be had for it. What is registered goes with what is closed.
            None => self.host.end(&mut self.machine, self.clock),
        }
    }
}

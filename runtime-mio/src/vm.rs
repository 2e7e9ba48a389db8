//! Machine that the mio loop of the caller drives: launch, turns, commands, waits and end.

mod batch;
mod consoles;
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
use qemu_machine_host::{Clock, Home, Host, LogReader, descriptor};

use crate::sources::{Registered, Sources};

/// Rounds of reading that one machine gets before the loop serves the others and pops the events. The bytes of four
/// rounds fit the queue of a subscription whatever events they contain, since each event of QEMU has at least 70 bytes.
/// With more rounds, a queue could drop events before the caller had a turn to pop them.
const ROUNDS: usize = 4;

/// A QEMU that this program launched and owns, or to which it is attached, driven by the caller's loop.
///
/// Requests do not block. They return a ticket, and [`turn`](Self::turn) returns a notice when there is a result to
/// claim. Everything else is read from [`machine`](Self::machine) at any time.
///
/// A loop does three things, as the [example](crate#a-loop) shows: it polls for at most
/// [`timeout`](Self::timeout), passes each event to [`ready`](Self::ready), and calls [`turn`](Self::turn) until it
/// returns `None`. A loop that blocks earlier leaves commands unsent or deadlines unobserved.
///
/// Dropping it kills QEMU and removes everything that was created for it, before `drop` returns. That takes a few
/// milliseconds, and at most two seconds when the kernel does not release the process. QEMU gets no `quit` first:
/// [`shutdown`](Self::shutdown) sends it.
pub struct Vm {
    machine: Machine,
    host: Host,
    clock: Clock,
    sources: Sources,
    /// The registry of the sources, to unregister them on drop. `None` means that it could not be duplicated.
    registry: Option<Registry>,
    /// Whether the caller made a request whose effects the next turn carries out.
    is_asked: bool,
    /// Rounds since the loop was last in control.
    rounds: usize,
    /// When the first of these turns began. `None` means that the next turn is the first.
    woken: Option<Moment>,
    home: Home,
}

impl Vm {
    /// Begins to launch a machine. Its sources are registered with `registry`, under tokens from `next_token`: one for
    /// the process and one for each channel.
    ///
    /// [`Notice::Ready`] means that its monitor is ready for commands, [`Notice::Ended`] that the machine has ended.
    /// [`launched`](Self::launched) returns whether the launch succeeded, and why not. The deadline is
    /// [`Config::launch_within`], 30 seconds by default. It bounds the launch from the preparation until the
    /// monitor is ready. The guest is held until then, unless [`Config::autostart`] is set.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] and [`Misuse::UnknownConsole`] when the configuration is not valid.
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
            woken: None,
            home: Home::here(),
        };
        let now = vm.clock.now();
        vm.machine.launch(now)?;
        vm.serve(registry, now);
        Ok(vm)
    }

    /// Begins to attach to a machine that another program launched. The deadline bounds the connection, the greeting
    /// and the negotiation. Otherwise as [`launch`](Self::launch).
    ///
    /// Commands and events work as after a launch; there is no console, log or exit status.
    /// `qemu-storage-daemon` can be attached to as well. A monitor serves one client at a time. Dropping the result
    /// disconnects from the machine, which keeps running.
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

    /// Begins to launch this machine again after its end, with the same configuration and the same tokens. The deadline
    /// is that of [`launch`](Self::launch).
    ///
    /// The new run begins without the events, the output and the status of the previous one. A mark of the previous run
    /// stands for the beginning of the new run. Replies and waits of the previous run that were not claimed can still
    /// be claimed.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while the machine runs; [`Misuse::NotReaped`] while a process that survived SIGKILL
    /// has not ended; [`Misuse::UsedUp`] for a [connection](Peer::Connected) or descriptors that were given, which
    /// serve one run ([`Config::keep_fds`]).
    pub fn relaunch(&mut self, registry: &Registry) -> Result<(), Misuse> {
        self.check_process();
        let now = self.clock.now();
        self.machine.launch(now)?;
        self.serve(registry, now);
        Ok(())
    }

    /// Returns the configuration that attaches to a service of this machine: the guest agent or qtest.
    /// [Launch](Self::launch) it as another machine, with [`Config::launch_within`] for the time that the agent may
    /// take to answer. [`ServiceError::new`](crate::ServiceError::new) converts the error of that launch.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the service, when its only connection was given
    /// away (qtest), or when the machine has ended; [`Misuse::ServiceInUse`] while another client is attached to it.
    pub fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        self.check_process();
        self.host.service(service)
    }

    /// Records an event of the caller's poll, and returns whether it belongs to this machine. The next turn acts on it.
    pub fn ready(&mut self, event: &Event) -> bool {
        self.sources.ready(event)
    }

    /// Returns how long the caller's poll may block before the next turn. `None` means without a timeout. It changes
    /// with every call to the machine: ask again before each poll.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if self.is_asked || self.machine.has_outputs() || self.sources.is_pending() {
            return Some(Duration::ZERO);
        }
        self.machine.deadline().map(|(until, _)| until.since(self.clock.now()))
    }

    /// Drives the machine, and returns one notice. Call it until it returns `None`. It may return `None` with work
    /// left, so that the loop serves other machines; then the [`timeout`](Self::timeout) is zero.
    pub fn turn(&mut self, registry: &Registry) -> Option<Notice> {
        self.check_process();
        let earlier = self.machine.poll_notice();
        if earlier.is_some() {
            return earlier;
        }
        // The clock is read once for each wake-up.
        let now = *self.woken.get_or_insert_with(|| self.clock.now());
        loop {
            self.serve(registry, now);
            if self.rounds == ROUNDS || !self.absorb(registry, now) {
                (self.rounds, self.woken) = (0, None);
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
        // Every notice is still queued.
        if let Some(panic) = self.host.take_panic() {
            panic.resume();
        }
    }

    /// Reports the sources that are ready, and the deadline. Returns whether there was anything to report.
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
        self.check_process();
        self.is_asked = true;
        ask(&mut self.machine, self.clock.now())
    }

    /// Takes a machine that refuses every request, in a child of `fork(2)`. The copy of the parent's is not dropped:
    /// that would end the machine, and unregister its sources from the poll that the processes share.
    fn check_process(&mut self) {
        if !self.home.is_here() {
            self.home = Home::here();
            std::mem::forget(std::mem::replace(&mut self.machine, Machine::forked()));
            std::mem::forget(std::mem::take(&mut self.host));
            self.sources = Sources::new(&[], || Token(usize::MAX));
            self.registry = None;
        }
    }

    /// Begins to execute a command within 60 seconds. The next turn sends it, and [`Notice::Answered`] means that its
    /// reply can be [claimed](Self::claim).
    ///
    /// The command is a name, a name with arguments, or a type that implements [`Command`].
    /// [`execute_by`](Self::execute_by) takes another deadline.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when the command is not accepted, and so not sent: [`Misuse::NotLaunched`]; [`Misuse::Ended`], which
    /// converts into [`CommandError::Disconnected`], as a command fails that was accepted before; [`Misuse::NoMonitor`],
    /// [`Misuse::WrongDialect`] on a machine that speaks qtest, [`Misuse::Arguments`] when the arguments are no JSON
    /// object, and [`Misuse::TooManyCommands`]. Everything else is in the [claimed](Self::claim) result.
    pub fn execute<C: Command>(&mut self, command: C) -> Result<Ticket<C>, Misuse> {
        self.execute_by(command, COMMAND_WITHIN)
    }

    /// Begins to execute a command within a deadline.
    ///
    /// A command that was sent may still take effect after the deadline: [`CommandError::TimedOut`] reports whether it
    /// was sent, and whether QEMU is busy or stuck. Its late reply is counted and dropped, and reaches no other caller.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&mut self, command: C, deadline: impl Into<Deadline>) -> Result<Ticket<C>, Misuse> {
        self.ask(|machine, now| machine.execute(now, &command, deadline.into()))
    }

    /// Begins to execute a command together with the descriptor that it needs (`getfd`, `add-fd`), within 60 seconds.
    ///
    /// The descriptor is a file, a socket, one end of a pipe. This program's copy is closed when it was sent, or
    /// when the command is dropped. One command with a
    /// descriptor is sent at a time, and the next waits for its reply: QEMU keeps only the descriptors that it received
    /// last, and two commands at once would get the wrong ones (QEMU, `chardev/char-socket.c`, `tcp_chr_recv`).
    ///
    /// QEMU 7.2 clears `O_NONBLOCK` on each descriptor that it receives (same function). The flag belongs to the open
    /// file description (`fcntl(2)`), so the descriptors of all processes that share it block from then on.
    /// [`execute_with_fd_by`](Self::execute_with_fd_by) takes another deadline.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). [`Misuse::NoDescriptors`] when the monitor is on a TCP connection, which carries no
    /// descriptors (`unix(7)`).
    pub fn execute_with_fd<C: Command>(&mut self, command: C, fd: impl Into<OwnedFd>) -> Result<Ticket<C>, Misuse> {
        self.execute_with_fd_by(command, fd, COMMAND_WITHIN)
    }

    /// As [`execute_with_fd`](Self::execute_with_fd), within a deadline.
    ///
    /// # Errors
    ///
    /// As [`execute_with_fd`](Self::execute_with_fd).
    pub fn execute_with_fd_by<C: Command>(
        &mut self,
        command: C,
        fd: impl Into<OwnedFd>,
        deadline: impl Into<Deadline>,
    ) -> Result<Ticket<C>, Misuse> {
        let descriptor = descriptor(fd);
        self.ask(|machine, now| machine.execute_with_fd(now, &command, descriptor, deadline.into()))
    }

    /// Begins to execute one line within a deadline, on a machine that [speaks](Config::speaking) the qtest protocol.
    /// The reply is what follows `OK`; any other reply is [`CommandError::Refused`].
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`] when the text is not exactly one line, [`Misuse::WrongDialect`] when the machine speaks
    /// QMP; otherwise as [`execute`](Self::execute).
    pub fn execute_line(&mut self, line: &str, deadline: impl Into<Deadline>) -> Result<Ticket<QtestLine>, Misuse> {
        self.ask(|machine, now| machine.execute_line(now, line, deadline.into()))
    }

    /// Begins to execute a command that is written as a JSON object without an `id`, within 60 seconds.
    ///
    /// The reply is the whole message, with `return` or `error`, and with the `id` that was added: a refusal is not an
    /// error here.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). [`Misuse::Raw`] when the text is not one JSON object, or has an `id`.
    pub fn execute_raw(&mut self, object: impl AsRef<[u8]>) -> Result<Ticket<Raw>, Misuse> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. A command that was sent may still take effect after
    /// it.
    ///
    /// # Errors
    ///
    /// As [`execute_raw`](Self::execute_raw).
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

    /// Returns the reply to a command, once. `None` means that there is no reply yet, or that it was claimed.
    ///
    /// The error is [`CommandError::Refused`], with QEMU's error class and description, or states why there is no
    /// reply: [`CommandError::TimedOut`], or [`CommandError::Disconnected`] when the monitor is closed first.
    /// [`CommandError::Broken`] and [`CommandError::Unexpected`] stand for a reply that cannot be read, or is not of
    /// the type that the command names.
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.machine.claim(ticket)
    }

    /// Returns the unparsed reply to a command, once, by the id of the command: for loops that keep commands of many
    /// types. Otherwise as [`claim`](Self::claim).
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        self.machine.take(id)
    }

    /// Disowns a command: its reply is no longer wanted. A command that was not sent is dropped; one that was sent
    /// may still take effect. A caller that neither claims nor disowns leaves the reply in memory, where it counts for
    /// [`Limits::commands`](crate::Limits::commands).
    pub fn disown(&mut self, id: CommandId) {
        self.ask(|machine, _| machine.disown(id));
    }

    /// Begins to wait for the first of several things, from a mark on, within a deadline. [`Notice::Waited`] means that
    /// the result can be [claimed](Self::claim_wait).
    ///
    /// Things that happened since the mark count. They are not consumed: another wait from the same mark finds the
    /// same. So take a [`mark`](Self::mark), act, and wait from the mark; nothing that happens in between is missed.
    /// The deadline bounds the whole wait, however many other events are received.
    ///
    /// # Errors
    ///
    /// [`Misuse`] for a wait without things, with an empty text, or with a console or subscription that does not exist,
    /// and for more waits at once than [`Limits::waits`](crate::Limits::waits).
    pub fn wait_any(
        &mut self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<WaitId, Misuse> {
        self.ask(|machine, now| machine.wait(now, from, things, deadline.into()))
    }

    /// Returns the result of a wait, once. `None` means that the wait is not over, or that its result was claimed.
    ///
    /// The error is [`WaitError::TimedOut`] when the deadline passed first, [`WaitError::Ended`] when the machine ended
    /// first, and [`WaitError::Disconnected`] when the monitor is closed and the wait is only for events.
    pub fn claim_wait(&mut self, wait: WaitId) -> Option<Result<Hit, WaitError>> {
        self.machine.claim_wait(wait)
    }

    /// Disowns a wait, which ends it: its result is no longer wanted.
    pub fn disown_wait(&mut self, wait: WaitId) {
        self.ask(|machine, _| machine.disown_wait(wait));
    }

    /// Queues text to be written to a console. The turns send it as fast as the guest reads it.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`]; [`Misuse::ConsoleInputFull`] when more than
    /// [`Limits::console_input`](crate::Limits::console_input) bytes would wait (1 MiB by default);
    /// [`Misuse::NotLaunched`] and [`Misuse::Ended`]. Then nothing is queued.
    pub fn console_write(&mut self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        self.ask(|machine, now| machine.console_write(now, console, text.as_ref()))
    }

    /// Begins to end the machine by `quit`, then SIGTERM, then SIGKILL. [`Notice::Ended`] means that the machine has
    /// ended and that everything that was created for it is removed.
    ///
    /// To end many machines within the time of one, begin with each, and run the loop until each has its
    /// [`outcome`](Self::outcome).
    ///
    /// Each rung has its own time limit: 20 seconds for `quit` and 10 for SIGTERM in [`Shutdown::default`]. A process
    /// that has not ended 10 seconds after SIGKILL is reported as [`Cause::Unkillable`](crate::Cause::Unkillable). A
    /// machine that another program launched gets no signals: it is sent `quit`, and disconnected from when that has no
    /// effect.
    ///
    /// For a machine that has ended already, it has no effect. A second shutdown joins the one in progress, whose time
    /// limits stay; [`kill`](Self::kill) cuts it short.
    ///
    /// # Errors
    ///
    /// None: [`Misuse::NotLaunched`] is only possible before the first launch.
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), Misuse> {
        self.ask(|machine, now| machine.shutdown(now, how))
    }

    /// Begins to end the machine by SIGKILL. [`Notice::Ended`] means that the machine has ended and that everything
    /// that was created for it is removed.
    ///
    /// QEMU gets no time to write its images: [`shutdown`](Self::shutdown) gives it some. A process that has not ended
    /// 10 seconds after SIGKILL is reported as [`Cause::Unkillable`](crate::Cause::Unkillable).
    ///
    /// # Errors
    ///
    /// [`Misuse::NotOurs`] for a machine that was attached to. One that was resumed is ours.
    pub fn kill(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::kill)
    }

    /// Begins to disconnect from a machine that another program launched, which keeps running. [`Notice::Ended`] means
    /// that the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that this program launched: shut it down, kill it or [detach](Self::detach) from
    /// it.
    pub fn disconnect(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::disconnect)
    }

    /// Returns whether the launch succeeded. `None` means that it is in progress.
    ///
    /// The error contains the phase that failed, how the process ended, what it printed, and the command line to try by
    /// hand.
    #[must_use]
    pub fn launched(&self) -> Option<Result<(), LaunchError>> {
        self.machine.launched()
    }

    /// Returns how the machine ended. `None` means that it has not ended, or that something of it is not removed yet.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.machine.outcome()
    }

    /// Returns the position after everything that was received so far. Take a mark, act, and wait from the mark:
    /// nothing that happens in between is missed.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.machine.mark()
    }

    /// Returns the machine, to read its state, its process, its consoles and its history.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the last bytes that QEMU printed, at most `limit`, while it runs and after its end. The result is empty
    /// for a machine that another program launched.
    ///
    /// # Errors
    ///
    /// [`HostFault`] when the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.host.log().read(limit)
    }

    /// Returns a reader of what a [companion](crate::Config::companion) prints.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownCompanion`].
    pub fn companion_log(&self, name: &str) -> Result<LogReader, Misuse> {
        let index = self.machine.companion_names().position(|other| other == name);
        index.map(|index| self.host.companion_log(index)).ok_or_else(|| Misuse::UnknownCompanion(name.into()))
    }

    /// Calls these functions with the bytes that are sent and received on the monitor from now on, in place of earlier
    /// ones, for a log of the wire. The pieces are those of the socket: a message may be in several, and several in one.
    /// The bytes are the peer's, and may be secret (`set_password`, `object-add`).
    pub fn observe_wire(
        &mut self,
        sent: impl FnMut(&[u8]) + Send + 'static,
        received: impl FnMut(&[u8]) + Send + 'static,
    ) {
        self.host.observe_wire(sent, received);
    }

    /// Returns a reader of what QEMU prints, which does not need this machine. It reads the log of the present run.
    #[must_use]
    pub fn log_reader(&self) -> LogReader {
        self.host.log()
    }
}

/// Prints the [`Machine`].
impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.machine).finish()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.check_process();
        match &self.registry {
            Some(registry) => {
                let watch = &mut Registered { sources: &mut self.sources, registry };
                self.host.end_watched(&mut self.machine, self.clock, watch);
            }
            // Without a registry, nothing was registered.
            None => self.host.end(&mut self.machine, self.clock),
        }
        if let Some(panic) = self.host.take_panic() {
            panic.resume();
        }
    }
}

//! Handle of a machine, for threads that may block: launch, commands, waits and end.

mod accelerators;
mod batch;
mod detach;
mod procedures;
mod weak;

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, FOREVER, Hit, LaunchError, Machine, Mark, Misuse, Moment,
    Outcome, Payload, Peer, RawReply, Shutdown, Wait, WaitError, WaitId, wire::Encoded,
};
use qemu_machine_host::{Handle, descriptor};

use crate::cancel::Early;
use crate::driver::SharedMachine;

pub use weak::WeakVm;

/// Handle of a QEMU that this program launched and owns, or to which it is attached.
///
/// Handles are clones of each other. Any number of threads may use them at once. The methods that return at once are
/// those of [`Handle`]; those below block until their result is known, or until their deadline.
///
/// Dropping the last handle (an [`Events`](crate::Events) holds one) kills QEMU and removes everything that was created
/// for it, before `drop` returns. That takes a few milliseconds, and at most three seconds when the kernel does not
/// release the process, or a file system does not answer; these are then reaped and removed later. QEMU gets no `quit`
/// first, unlike at the end of a `with` block of QEMU's Python class: [`shutdown`](Self::shutdown) sends it. An
/// [attached](Self::attach) machine is only disconnected from. A [`WeakVm`] does not count.
#[derive(Clone, Debug)]
pub struct Vm(Handle<SharedMachine>);

impl Vm {
    /// Launches a machine, and returns when its monitor is ready for commands.
    ///
    /// The deadline is [`Config::launch_within`], 30 seconds by default. It bounds the launch from the preparation
    /// until the monitor is ready. The guest is held until then, unless [`Config::autostart`] is set.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Misuse`] when the configuration is not valid. [`LaunchError::Failed`] when the monitor is not
    /// ready within the deadline, or QEMU ends before: the error contains the phase that failed, how the process ended,
    /// what it printed, and the command line to try by hand. Everything that was created for the machine is removed by
    /// then.
    pub fn launch(config: Config) -> Result<Self, LaunchError> {
        let machine = Machine::new(config)?;
        let command_line = machine.command_line().clone();
        let not_started = |fault| LaunchError::not_started(fault, &command_line);
        let shared = SharedMachine::new(machine).map_err(not_started)?;
        let vm = Self(Handle::new(Arc::clone(&shared)));
        shared.call(|machine, now| machine.launch(now), |machine, ()| machine.launched(), cancel_launch)??;
        Ok(vm)
    }

    /// Attaches to a machine that another program launched, and returns when its monitor is ready for commands.
    ///
    /// The deadline bounds the connection, the greeting and the negotiation. Commands and events work as after a
    /// launch; there is no console, log or exit status. `qemu-storage-daemon` can be attached to as well.
    ///
    /// Dropping the last handle disconnects from the machine, which keeps running.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Failed`] with a [`LaunchFailure`](crate::LaunchFailure): `NotListening` when no process listens
    /// at the address, `Dead` when the process that left the socket file has ended, `Busy` when another client is
    /// connected until the deadline (a monitor serves one client at a time), `TimedOut` when the peer does not answer
    /// before it. [`Config::wait_for_listener`] waits for a process that does not listen yet.
    /// [`LaunchError::Misuse`] when the address is not valid.
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

    /// Launches this machine again after its end, with the same configuration, and returns when its monitor is ready
    /// for commands. The deadline is that of [`launch`](Self::launch).
    ///
    /// The new run begins without the events, the output and the status of the previous one. A mark of the previous run
    /// stands for the beginning of the new run.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while the machine runs; [`Misuse::NotReaped`] while a process that survived SIGKILL has
    /// not ended; [`Misuse::UsedUp`] for a [connection](Peer::Connected) or descriptors that were given, which serve one
    /// run ([`Config::keep_fds`]); and as [`launch`](Self::launch).
    pub fn relaunch(&self) -> Result<(), LaunchError> {
        self.shared().call(|machine, now| machine.launch(now), |machine, ()| machine.launched(), cancel_launch)?
    }

    /// Executes a command within 60 seconds, and returns its reply.
    ///
    /// The command is a name, a name with arguments, or a type that implements [`Command`].
    /// [`execute_by`](Self::execute_by) takes another deadline.
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`], with QEMU's error class and description. When there is no reply:
    /// [`CommandError::TimedOut`], [`CommandError::Disconnected`] when the monitor is closed first, or
    /// [`CommandError::Misuse`] when the command was not accepted and so not sent. [`CommandError::Broken`] and
    /// [`CommandError::Unexpected`] for a reply that cannot be read, or is not of the type that the command names.
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

    /// Executes a command within a deadline, and returns its reply.
    ///
    /// A command that was sent may still take effect after the deadline: [`CommandError::TimedOut`] reports whether it
    /// was sent, and whether QEMU is busy or stuck. Its late reply is counted and dropped, and reaches no other caller.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        self.reply(&Encoded::command(&command)?, deadline.into())?.reply()
    }

    /// Executes a command together with the descriptor that it needs (`getfd`, `add-fd`) within 60 seconds, and returns
    /// its reply.
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
    ///
    /// ```no_run
    /// # use qemu_machine_blocking::{Config, Vm, json};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
    /// vm.execute_with_fd(("getfd", json!({"fdname": "disk"})), std::fs::File::open("disk.img")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_with_fd<C: Command>(&self, command: C, fd: impl Into<OwnedFd>) -> Result<C::Reply, CommandError> {
        self.execute_with_fd_by(command, fd, COMMAND_WITHIN)
    }

    /// As [`execute_with_fd`](Self::execute_with_fd), within a deadline.
    ///
    /// # Errors
    ///
    /// As [`execute_with_fd`](Self::execute_with_fd).
    pub fn execute_with_fd_by<C: Command>(
        &self,
        command: C,
        fd: impl Into<OwnedFd>,
        deadline: impl Into<Deadline>,
    ) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(fd));
        self.reply(&command, deadline.into())?.reply()
    }

    /// Executes a command that is written as a JSON object without an `id`, within 60 seconds.
    ///
    /// Returns the whole message, with `return` or `error`, and with the `id` that was added, parsed and
    /// [as it came](RawReply::as_bytes): a refusal is not an error here.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), but for a refusal. [`Misuse::Raw`] when the text is not one JSON object, or has
    /// an `id`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// let message = vm.execute_raw(r#"{"execute": "query-status"}"#)?;
    /// println!("{}", message["return"]["status"]);
    /// vm.execute_raw_by(r#"{"execute": "query-block"}"#, Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_raw(&self, object: impl AsRef<[u8]>) -> Result<RawReply, CommandError> {
        self.execute_raw_by(object, COMMAND_WITHIN)
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. A command that was sent may still take effect after
    /// it.
    ///
    /// # Errors
    ///
    /// As [`execute_raw`](Self::execute_raw).
    pub fn execute_raw_by(
        &self,
        object: impl AsRef<[u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<RawReply, CommandError> {
        self.reply(&Encoded::raw(object.as_ref())?, deadline.into())?.reply()
    }

    /// Executes one line within a deadline, on a machine that [speaks](Config::speaking) the qtest protocol. Returns
    /// what follows `OK` in the reply.
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`] with the reply, when that is not `OK`; otherwise as [`execute`](Self::execute).
    /// [`Misuse::QtestLine`] when the text is not exactly one line, [`Misuse::WrongDialect`] when the machine speaks
    /// QMP.
    pub fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into())?.reply()
    }

    fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        self.shared().call(
            |machine, now| machine.send(now, command, deadline),
            |machine, id| machine.take(*id),
            |machine, id, _| {
                machine.disown(*id);
                Some(Err(CommandError::Cancelled))
            },
        )?
    }

    /// Waits for the first of several things, from a mark on, within a deadline.
    ///
    /// Things that happened since the mark count. They are not consumed: another wait from the same mark finds the
    /// same. So take a [`mark`](crate::Handle::mark), act, and wait from the mark; nothing that happens in between is
    /// missed. The deadline bounds the whole wait, however many other events are received.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the deadline passes first, [`WaitError::Ended`] when the machine ends first, and
    /// [`WaitError::Disconnected`] when the monitor is closed and the wait is only for events. [`WaitError::Misuse`]
    /// for a wait without things, with an empty text, or with a console or subscription that does not exist, and for
    /// more waits at once than [`Limits::waits`](crate::Limits::waits).
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
        self.shared().call(
            |machine, now| machine.wait(now, from, things, deadline),
            |machine, wait| machine.claim_wait(*wait),
            cancel_wait,
        )?
    }

    /// Waits until the machine has ended, within a deadline, and returns how it ended.
    ///
    /// The wait does not end the machine: one that still runs at the deadline keeps running. (The `wait` of QEMU's
    /// Python class kills it.) The handle keeps the machine alive meanwhile; [`WeakVm::wait`] does not.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the machine has not ended within the deadline.
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        wait_for_end(self.shared(), deadline.into())
    }

    /// Ends the machine by `quit`, then SIGTERM, then SIGKILL. Returns how the machine ended, when it has ended and
    /// everything that was created for it is removed.
    ///
    /// Each rung has its own time limit: 20 seconds for `quit` and 10 for SIGTERM in [`Shutdown::default`]. A process
    /// that has not ended 10 seconds after SIGKILL is reported as [`Cause::Unkillable`](crate::Cause::Unkillable). A
    /// machine that another program launched gets no signals: it is sent `quit`, and disconnected from when that has no
    /// effect.
    ///
    /// For a machine that has ended already, the result is that outcome. A second shutdown joins the one in progress,
    /// whose time limits stay; [`kill`](Self::kill) cuts it short.
    ///
    /// # Errors
    ///
    /// None on a `Vm`, which exists only after a launch. The result is of the same type as that of the other verbs.
    pub fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how))
    }

    /// Ends several machines at the same time, as [`shutdown`](Self::shutdown), without a thread for each. Returns how they
    /// ended, in their order, when all have ended. The time limits hold for each and begin together, so they bound the
    /// whole: with [`Shutdown::within`] all have got SIGKILL when that time is over.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown). The shutdown of all others has begun nevertheless.
    ///
    /// ```no_run
    /// # use std::{collections::BTreeMap, time::Duration};
    /// use qemu_machine_blocking::{Shutdown, Vm};
    ///
    /// # let machines: BTreeMap<String, Vm> = BTreeMap::new();
    /// for outcome in Vm::shutdown_all(machines.values(), Shutdown::within(Duration::from_secs(20)))? {
    ///     println!("{}", outcome.cause);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_all<'a>(vms: impl IntoIterator<Item = &'a Self>, how: Shutdown) -> Result<Vec<Outcome>, Misuse> {
        let vms: Vec<_> = vms.into_iter().collect();
        vms.iter().map(|vm| vm.begin_shutdown(how)).fold(Ok(()), Result::and)?;
        vms.iter().map(|vm| vm.shutdown(how)).collect()
    }

    /// Ends the machine by SIGKILL. Returns how the machine ended, when it has ended and everything that was created
    /// for it is removed.
    ///
    /// QEMU gets no time to write its images: [`shutdown`](Self::shutdown) gives it some. A process that has not ended
    /// 10 seconds after SIGKILL is reported as [`Cause::Unkillable`](crate::Cause::Unkillable).
    ///
    /// # Errors
    ///
    /// [`Misuse::NotOurs`] for a machine that was attached to. One that was resumed is ours.
    pub fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::kill)
    }

    /// Waits for the end of this run. Another caller may have launched the next run by the time that this one is
    /// noticed.
    fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        self.shared().call(
            |machine, now| {
                how(machine, now)?;
                machine.wait_for_end(now, FOREVER)
            },
            |machine, wait| machine.claim_end(*wait),
            |machine, wait, early| match early {
                Early::Cancelled(_) => None,
                Early::Panicked(_) => cancel_wait(machine, wait, early)?.ok(),
            },
        )
    }

    /// Disconnects from a machine that another program launched, which keeps running. Returns when the connection is
    /// closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that this program launched: shut it down, kill it or [detach](Self::detach) from
    /// it.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect)
    }
}

/// Waits until the machine has ended.
fn wait_for_end(shared: &Arc<SharedMachine>, deadline: Deadline) -> Result<Outcome, WaitError> {
    shared.call(
        |machine, now| machine.wait_for_end(now, deadline),
        |machine, wait| Some(machine.claim_wait(*wait)?.and_then(Hit::into_end)),
        cancel_wait,
    )?
}

/// Ends a launch. Its result follows when the machine has ended.
fn cancel_launch(machine: &mut Machine, (): &mut (), early: Early) -> Option<Result<(), LaunchError>> {
    let (Early::Cancelled(now) | Early::Panicked(now)) = early;
    machine.kill_or_disconnect(now);
    None
}

pub(crate) fn cancel_wait<T>(machine: &mut Machine, wait: &mut WaitId, _: Early) -> Option<Result<T, WaitError>> {
    machine.disown_wait(*wait);
    Some(Err(WaitError::Cancelled))
}

impl Deref for Vm {
    type Target = Handle<SharedMachine>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

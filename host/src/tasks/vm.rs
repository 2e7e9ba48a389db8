//! Handle of a machine, for tasks of any executor: launch, commands, waits and end.

mod accelerators;
mod batch;
mod detach;
mod procedures;
mod weak;

use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, FOREVER, Hit, LaunchError, Machine, Mark, Misuse, Moment,
    Notice, Outcome, Payload, Peer, RawReply, Shutdown, Wait, WaitError, wire::Encoded,
};

use super::driver::{Driver, SharedMachine};
use super::reactor::Reactor;
use super::waiting::{Executing, Waiting, wait_for, wait_for_end};
use crate::handle::Handle;
use crate::shared_fd::descriptor;

pub use weak::WeakVm;

/// Handle of a QEMU that this program launched and owns, or to which it is attached.
///
/// Handles are clones of each other. Any number of tasks may use them at once, on any executor. The methods that return
/// at once are those of [`Handle`]. A future does nothing before it is first polled.
///
/// Every future is cancel safe: dropping it loses no event, no reply to another command, and not the connection. Only a
/// launch or an attachment ends with its future. Each method states what continues.
///
/// Dropping the last handle kills QEMU: SIGKILL is sent before `drop` returns, and the supervisor's thread removes
/// everything that was created for it, within milliseconds mostly. [`kill`](Self::kill) completes when all of that is
/// done. [`wait_for_dropped`](super::wait_for_dropped) blocks the thread until it is: call it after the runtime. QEMU gets
/// no `quit` first: [`shutdown`](Self::shutdown) sends it. A [`WeakVm`] does not count.
pub struct Vm<R: Reactor>(Handle<SharedMachine<R>>);

impl<R: Reactor> Vm<R> {
    /// Launches a machine, and completes when its monitor is ready for commands.
    ///
    /// `spawn` receives the [`Driver`], and must have it polled, on any executor. While the driver is not polled, no
    /// byte is received and no deadline passes.
    ///
    /// The deadline is [`Config::launch_within`], 30 seconds by default. It bounds the launch from the preparation
    /// until the monitor is ready. The guest is held until then, unless [`Config::autostart`] is set. Dropping the
    /// future kills QEMU and removes everything, as dropping the last handle does.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Misuse`] when the configuration is not valid. [`LaunchError::Failed`] when the monitor is not
    /// ready within the deadline, or QEMU ends before: the error contains the phase that failed, how the process ended,
    /// what it printed, and the command line to try by hand. Everything that was created for the machine is removed by
    /// then.
    pub async fn launch_with(config: Config, spawn: impl FnOnce(Driver<R>)) -> Result<Self, LaunchError> {
        let vm = Self(Handle::new(SharedMachine::new(Machine::new(config)?)));
        vm.relaunch_with(spawn).await?;
        Ok(vm)
    }

    /// Attaches to a machine that another program launched, and completes when its monitor is ready for commands.
    /// `spawn` receives the driver, as in [`launch_with`](Self::launch_with).
    ///
    /// The deadline bounds the connection, the greeting and the negotiation. Commands and events work as after a
    /// launch; there is no console, log or exit status. `qemu-storage-daemon` can be attached to as well.
    ///
    /// Dropping the future or the last handle disconnects from the machine, which keeps running.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Failed`] with a [`LaunchFailure`](crate::LaunchFailure): `NotListening` when no process listens
    /// at the address, `Dead` when the process that left the socket file has ended, `Busy` when another client is
    /// connected until the deadline (a monitor serves one client at a time), `TimedOut` when the peer does not answer
    /// before it. [`Config::wait_for_listener`] waits for a process that does not listen yet.
    /// [`LaunchError::Misuse`] when the address is not valid.
    pub async fn attach_with(
        peer: Peer,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver<R>),
    ) -> Result<Self, LaunchError> {
        Self::launch_with(Config::attach(peer).launch_within(deadline), spawn).await
    }

    /// Launches this machine again after its end, with the same configuration, and completes when its monitor is ready
    /// for commands. The deadline is that of [`launch_with`](Self::launch_with). `spawn` receives the driver of the new
    /// run.
    ///
    /// The new run begins without the events, the output and the status of the previous one. A mark of the previous run
    /// is treated as the beginning of the new run. When the future is dropped after it was polled, the launch continues.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`] while the machine runs; [`Misuse::NotReaped`] while a process that survived SIGKILL has
    /// not ended; [`Misuse::UsedUp`] for a [connection](Peer::Connected) or descriptors that were given, which serve one
    /// run ([`Config::keep_fds`]); and as [`launch_with`](Self::launch_with).
    pub async fn relaunch_with(&self, spawn: impl FnOnce(Driver<R>)) -> Result<(), LaunchError> {
        spawn(Driver::launch(self.shared())?);
        self.shared().wait_for(&[Notice::Ready, Notice::Ended], |machine| machine.launched()).await
    }

    /// Executes a command within 60 seconds, and returns its reply.
    ///
    /// The command is a name, a name with arguments, or a type that implements [`Command`].
    /// [`execute_by`](Self::execute_by) takes another deadline.
    ///
    /// When the future is dropped, a command that was not sent is dropped. One that was sent may still take effect; its
    /// late reply is counted and dropped.
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`], with QEMU's error class and description. When there is no reply:
    /// [`CommandError::TimedOut`], [`CommandError::Disconnected`] when the monitor is closed first, or
    /// [`CommandError::Misuse`] when the command was not accepted and so not sent. [`CommandError::Broken`] and
    /// [`CommandError::Unexpected`] for a reply that cannot be read, or is not of the type that the command names.
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// use qemu_machine_tokio::json;
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

    /// Executes a command within a deadline, and returns its reply.
    ///
    /// A command that was sent may still take effect after the deadline: [`CommandError::TimedOut`] reports whether it
    /// was sent, and whether QEMU is busy or stuck. Its late reply is counted and dropped, and reaches no other caller.
    /// The same holds when the future is dropped.
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
    /// Dropping the future has the effect that it has for [`execute`](Self::execute).
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). [`Misuse::NoDescriptors`] when the monitor is on a TCP connection, which carries no
    /// descriptors (`unix(7)`).
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// # use qemu_machine_tokio::json;
    /// vm.execute_with_fd(("getfd", json!({"fdname": "disk"})), std::fs::File::open("disk.img")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_with_fd<C: Command>(
        &self,
        command: C,
        fd: impl Into<OwnedFd>,
    ) -> Result<C::Reply, CommandError> {
        self.execute_with_fd_by(command, fd, COMMAND_WITHIN).await
    }

    /// As [`execute_with_fd`](Self::execute_with_fd), within a deadline.
    ///
    /// # Errors
    ///
    /// As [`execute_with_fd`](Self::execute_with_fd).
    pub async fn execute_with_fd_by<C: Command>(
        &self,
        command: C,
        fd: impl Into<OwnedFd>,
        deadline: impl Into<Deadline>,
    ) -> Result<C::Reply, CommandError> {
        let command = Encoded::command(&command)?.with_descriptor(descriptor(fd));
        self.reply(&command, deadline.into()).await?.reply()
    }

    /// Executes a command that is written as a JSON object without an `id`, within 60 seconds.
    ///
    /// Returns the whole message, with `return` or `error`, and with the `id` that was added, parsed and [as it
    /// came](RawReply::as_bytes): a refusal is not an error here. Dropping the future has the effect that it has for
    /// [`execute`](Self::execute).
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), but for a refusal. [`Misuse::Raw`] when the text is not one JSON object, or has
    /// an `id`.
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let message = vm.execute_raw(r#"{"execute": "query-status"}"#).await?;
    /// println!("{}", message["return"]["status"]);
    /// vm.execute_raw_by(r#"{"execute": "query-block"}"#, Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_raw(&self, object: impl AsRef<[u8]>) -> Result<RawReply, CommandError> {
        self.execute_raw_by(object, COMMAND_WITHIN).await
    }

    /// As [`execute_raw`](Self::execute_raw), within a deadline. A command that was sent may still take effect after
    /// it.
    ///
    /// # Errors
    ///
    /// As [`execute_raw`](Self::execute_raw).
    pub async fn execute_raw_by(
        &self,
        object: impl AsRef<[u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<RawReply, CommandError> {
        let (command, deadline) = (Encoded::raw(object.as_ref())?, deadline.into());
        self.reply(&command, deadline).await?.reply()
    }

    /// Executes one line within a deadline, on a machine that [speaks](Config::speaking) the qtest protocol. Returns
    /// what follows `OK` in the reply. Dropping the future has the effect that it has for [`execute`](Self::execute).
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`] with the reply, when that is not `OK`; otherwise as [`execute`](Self::execute).
    /// [`Misuse::QtestLine`] when the text is not exactly one line, [`Misuse::WrongDialect`] when the machine speaks
    /// QMP.
    pub async fn execute_line(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.reply(&Encoded::line(line)?, deadline.into()).await?.reply()
    }

    async fn reply(&self, command: &Encoded, deadline: Deadline) -> Result<Payload, CommandError> {
        let shared = self.shared();
        let (executing, id) = Executing::send(shared, |machine, now| machine.send(now, command, deadline))?;
        let reply = shared.wait_for(&[Notice::Answered(id)], |machine| machine.take(id)).await;
        executing.claimed();
        reply
    }

    /// Waits for the first of several things, from a mark on, within a deadline.
    ///
    /// Things that happened since the mark count. They are not consumed: another wait from the same mark finds the
    /// same. So take a [`mark`](crate::Handle::mark), act, and wait from the mark; nothing that happens in between is
    /// missed. The deadline bounds the whole wait, however many other events are received. Dropping the future ends the
    /// wait; another one from the same mark finds the same.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the deadline passes first, [`WaitError::Ended`] when the machine ends first, and
    /// [`WaitError::Disconnected`] when the monitor is closed and the wait is only for events. [`WaitError::Misuse`]
    /// for a wait without things, with an empty text, or with a console or subscription that does not exist, and for
    /// more waits at once than [`Limits::waits`](crate::Limits::waits).
    pub async fn wait_any(
        &self,
        from: &Mark,
        things: impl IntoIterator<Item = Wait>,
        deadline: impl Into<Deadline>,
    ) -> Result<Hit, WaitError> {
        let (things, deadline) = (things.into_iter().collect::<Vec<_>>(), deadline.into());
        let begun = Waiting::begin(self.shared(), |machine, now| machine.wait(now, from, things, deadline))?;
        wait_for(begun, Machine::claim_wait).await
    }

    /// Waits until the machine has ended, within a deadline, and returns how it ended.
    ///
    /// The wait does not end the machine: one that still runs at the deadline keeps running. (The `wait` of QEMU's
    /// Python class kills it.) Dropping the future ends the wait alone. The handle keeps the machine alive meanwhile;
    /// [`WeakVm::wait`] does not.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when the machine has not ended within the deadline.
    pub async fn wait(&self, deadline: impl Into<Deadline>) -> Result<Outcome, WaitError> {
        wait_for_end(self.shared(), deadline.into()).await
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
    /// whose time limits stay; [`kill`](Self::kill) cuts it short. When the future is dropped after it was polled, the
    /// shutdown continues.
    ///
    /// # Errors
    ///
    /// None on a `Vm`, which exists only after a launch. The result is of the same type as that of the other verbs.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.shutdown(now, how)).await
    }

    /// Ends several machines at the same time, as [`shutdown`](Self::shutdown). Returns how they ended, in their order, when
    /// all have ended. The time limits hold for each and begin together, so they bound the whole: with
    /// [`Shutdown::within`] all have got SIGKILL when that time is over. When the future is dropped after it was polled, the
    /// machines still end.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown). The shutdown of all others has begun nevertheless.
    pub async fn shutdown_all<'a>(
        vms: impl IntoIterator<Item = &'a Self>,
        how: Shutdown,
    ) -> Result<Vec<Outcome>, Misuse> {
        let vms: Vec<_> = vms.into_iter().collect();
        vms.iter().map(|vm| vm.begin_shutdown(how)).fold(Ok(()), Result::and)?;
        let mut outcomes = Vec::with_capacity(vms.len());
        for vm in vms {
            outcomes.push(vm.shutdown(how).await?);
        }
        Ok(outcomes)
    }

    /// Ends the machine by SIGKILL. Returns how the machine ended, when it has ended and everything that was created
    /// for it is removed.
    ///
    /// QEMU gets no time to write its images: [`shutdown`](Self::shutdown) gives it some. A process that has not ended
    /// 10 seconds after SIGKILL is reported as [`Cause::Unkillable`](crate::Cause::Unkillable). When the future is
    /// dropped after it was polled, the machine still ends.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotOurs`] for a machine that was attached to. One that was resumed is ours.
    pub async fn kill(&self) -> Result<Outcome, Misuse> {
        self.end(|machine, now| machine.kill(now)).await
    }

    /// Waits for the end of this run. Another caller may have launched the next run by the time that this one is
    /// noticed.
    async fn end(&self, how: impl FnOnce(&mut Machine, Moment) -> Result<(), Misuse>) -> Result<Outcome, Misuse> {
        let shared = self.shared();
        let (waiting, wait) = Waiting::begin(shared, |machine, now| {
            how(machine, now)?;
            machine.wait_for_end(now, FOREVER)
        })?;
        let outcome = shared.wait_for(&[Notice::Waited(wait)], |machine| machine.claim_end(wait)).await;
        waiting.claimed();
        Ok(outcome)
    }

    /// Disconnects from a machine that another program launched, which keeps running. Completes when the connection is
    /// closed. When the future is dropped after it was polled, the connection is still closed.
    ///
    /// # Errors
    ///
    /// [`Misuse::Ours`] for a machine that this program launched: shut it down, kill it or [detach](Self::detach) from
    /// it.
    pub async fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::disconnect).await
    }
}

impl<R: Reactor> Deref for Vm<R> {
    type Target = Handle<SharedMachine<R>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<R: Reactor> Clone for Vm<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Prints the [`Machine`], or `in use` while another thread holds its lock.
impl<R: Reactor> fmt::Debug for Vm<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.0).finish()
    }
}

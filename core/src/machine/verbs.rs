//! Requests of a caller to a machine: each is refused at once and without effect, or accepted.

use core::marker::PhantomData;

use super::{Machine, request};
use crate::command::{Command, CommandId, QtestLine, Raw, Ticket};
use crate::descriptor::Descriptor;
use crate::error::CommandError;
use crate::fault::Misuse;
use crate::lifecycle::Shutdown;
use crate::payload::Payload;
use crate::time::{Deadline, Moment};
use crate::wire::Encoded;

impl Machine {
    /// Begins a run. A machine that ended can be launched again; of the previous run it keeps only the answers and
    /// waits that were not claimed yet.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`]; [`Misuse::NotReaped`] when the process of the previous run survived SIGKILL and has
    /// not ended; [`Misuse::UsedUp`] when the machine was configured with an open connection, or with descriptors for
    /// QEMU that it does not [keep](crate::Config::keep_fds): they serve a single run.
    pub fn launch(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Launch)
    }

    /// Sends a command, or queues it until it may be sent: until the monitor is ready, and within
    /// [`Session::IN_BAND_DEPTH`](crate::session::Session::IN_BAND_DEPTH).
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the command cannot be encoded, and as [`send`](Self::send).
    pub fn execute<C: Command>(&mut self, now: Moment, command: &C, deadline: Deadline) -> Result<Ticket<C>, Misuse> {
        let id = self.send(now, &Encoded::command(command)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command that the caller wrote as a JSON object without an `id`.
    ///
    /// # Errors
    ///
    /// [`Misuse::Raw`], and as [`send`](Self::send).
    pub fn execute_raw(&mut self, now: Moment, object: &[u8], deadline: Deadline) -> Result<Ticket<Raw>, Misuse> {
        let id = self.send(now, &Encoded::raw(object)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command together with a descriptor (`getfd`, `add-fd`). Such commands go one at a time, since QEMU keeps
    /// only the descriptors that it received last, and closes earlier ones (QEMU, `chardev/char-socket.c`,
    /// `tcp_chr_recv`). QEMU 7.2 clears `O_NONBLOCK` on the descriptor, which affects every holder of the open file
    /// description (QEMU, `chardev/char-socket.c`, `tcp_chr_recv`).
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_with_fd<C: Command>(
        &mut self,
        now: Moment,
        command: &C,
        descriptor: Descriptor,
        deadline: Deadline,
    ) -> Result<Ticket<C>, Misuse> {
        let id = self.send(now, &Encoded::command(command)?.with_descriptor(descriptor), deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a line to QEMU's qtest, on a machine that [speaks](crate::Config::speaking) it.
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`], and as [`send`](Self::send).
    pub fn execute_line(&mut self, now: Moment, line: &str, deadline: Deadline) -> Result<Ticket<QtestLine>, Misuse> {
        let id = self.send(now, &Encoded::line(line)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends an encoded command.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`] and [`Misuse::Ended`] without a run; [`Misuse::NoMonitor`]; [`Misuse::WrongDialect`];
    /// and [`Misuse::TooManyCommands`] beyond [`Limits::commands`](crate::Limits::commands).
    pub fn send(&mut self, now: Moment, command: &Encoded, deadline: Deadline) -> Result<CommandId, Misuse> {
        self.request(now, request::Execute { command, deadline })
    }

    /// Queues bytes to write to a console.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`] and [`Misuse::Ended`] without a run; [`Misuse::UnknownConsole`]; and
    /// [`Misuse::ConsoleInputFull`] beyond [`Limits::console_input`](crate::Limits::console_input).
    pub fn console_write(&mut self, now: Moment, console: &str, bytes: &[u8]) -> Result<(), Misuse> {
        self.request(now, request::ConsoleWrite { console, bytes })
    }

    /// Ends the machine by this policy. Does nothing when its end has begun already. A machine that another program
    /// launched is never signalled: it gets the commands of the policy, and is disconnected when it does not end in
    /// time.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`].
    pub fn shutdown(&mut self, now: Moment, how: Shutdown) -> Result<(), Misuse> {
        self.request(now, request::Shutdown(how))
    }

    /// Ends the machine with SIGKILL, also one that was [resumed](crate::Config::resume). While that is being resumed, this
    /// leaves it running, and only the launch fails.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::NotOurs`] for a machine that was attached to, or that the host
    /// has found no process of.
    pub fn kill(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Kill)
    }

    /// Goes on with the end of a run without waiting any longer for its present step: the end of the process that was
    /// killed, its last output, its log, the end of the companions, or the removal of its files. Does nothing before
    /// these. For drivers that go away: five calls end a run, each followed by the effects.
    pub fn abandon(&mut self, now: Moment) {
        self.request(now, request::Abandon)
    }

    /// Returns the answer of a command, once. `None` means that it has not arrived, or was claimed or disowned.
    ///
    /// # Errors
    ///
    /// [`CommandError::Unexpected`] when the reply is not of the command's type, and the errors of
    /// [`take`](Self::take).
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.take(ticket.id).map(|answer| answer.and_then(Payload::reply))
    }

    /// Returns the answer of a command with its reply unparsed, once. `None` means that it has not arrived, or was
    /// claimed or disowned.
    ///
    /// # Errors
    ///
    /// [`CommandError`], except [`CommandError::Unexpected`].
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        self.request(self.now, request::Take(id))
    }

    /// Disowns a command: its answer is dropped, and its late reply reaches no other caller. A command that is on the
    /// wire may still take effect; a queued one is not sent.
    pub fn disown(&mut self, id: CommandId) {
        self.request(self.now, request::Disown(id))
    }
}

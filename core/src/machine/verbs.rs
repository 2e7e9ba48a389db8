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
    /// Begins a run. A machine that ended can be launched again; nothing of the previous run is left in it but the answers
    /// that nobody has claimed yet.
    ///
    /// # Errors
    ///
    /// [`Misuse::AlreadyLaunched`]; [`Misuse::NotReaped`] when the last process survived SIGKILL and still lives;
    /// [`Misuse::UsedUp`] for a connection that was given.
    pub fn launch(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Launch)
    }

    /// Sends a command, or lets it wait for its turn.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] when there is no monitor to send it to, or when it is not a command.
    pub fn execute<C: Command>(&mut self, now: Moment, command: &C, deadline: Deadline) -> Result<Ticket<C>, Misuse> {
        let id = self.send(now, &Encoded::command(command)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command that the caller wrote as a JSON object without an `id`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_raw(&mut self, now: Moment, object: &[u8], deadline: Deadline) -> Result<Ticket<Raw>, Misuse> {
        let id = self.send(now, &Encoded::raw(object)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command together with a descriptor (`getfd`, `add-fd`), in one step. Commands that carry one wait for
    /// each other, since QEMU keeps only the descriptor that came last.
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

    /// Sends a line to QEMU's qtest: for a machine that [speaks](crate::Config::speaking) it.
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`], [`Misuse::WrongDialect`], and as [`execute`](Self::execute).
    pub fn execute_line(&mut self, now: Moment, line: &str, deadline: Deadline) -> Result<Ticket<QtestLine>, Misuse> {
        let id = self.send(now, &Encoded::line(line)?, deadline)?;
        Ok(Ticket { id, reads: PhantomData })
    }

    /// Sends a command that is encoded already.
    ///
    /// # Errors
    ///
    /// A [`Misuse`] when there is no monitor to send it to, or too many commands wait.
    pub fn send(&mut self, now: Moment, command: &Encoded, deadline: Deadline) -> Result<CommandId, Misuse> {
        self.request(now, request::Execute { command, deadline })
    }

    /// Queues bytes to be written to a console.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`], [`Misuse::ConsoleInputFull`], and the lack of a machine that lives.
    pub fn console_write(&mut self, now: Moment, console: &str, bytes: &[u8]) -> Result<(), Misuse> {
        self.request(now, request::ConsoleWrite { console, bytes })
    }

    /// Ends the machine by this policy. Does nothing when that is under way already. A machine that somebody else
    /// launched is told to `quit`, and disconnected when it does not.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`].
    pub fn shutdown(&mut self, now: Moment, how: Shutdown) -> Result<(), Misuse> {
        self.request(now, request::Shutdown(how))
    }

    /// Ends the machine with SIGKILL.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`]; [`Misuse::NotOurs`] for a machine that somebody else launched.
    pub fn kill(&mut self, now: Moment) -> Result<(), Misuse> {
        self.request(now, request::Kill)
    }

    /// Waits no longer for a process that was killed and does not end: what is left of this run is cleaned up. Does
    /// nothing in any other state. For drivers that go away.
    pub fn abandon(&mut self, now: Moment) {
        self.request(now, request::Abandon)
    }

    /// The answer of a command, once it is there. It is given once.
    pub fn claim<C: Command>(&mut self, ticket: &Ticket<C>) -> Option<Result<C::Reply, CommandError>> {
        self.take(ticket.id).map(|answer| answer.and_then(Payload::reply))
    }

    /// The answer of a command, unread, once it is there. It is given once.
    pub fn take(&mut self, id: CommandId) -> Option<Result<Payload, CommandError>> {
        self.request(self.now, request::Take(id))
    }

    /// Nobody wants the answer of this command any more. Its late reply reaches nobody else.
    pub fn disown(&mut self, id: CommandId) {
        self.request(self.now, request::Disown(id))
    }
}

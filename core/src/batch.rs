//! Batch: commands that are executed at once within one deadline, and their answers.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use crate::command::{Command, CommandId};
use crate::error::CommandError;
use crate::machine::Machine;
use crate::notice::Notice;
use crate::payload::Payload;
use crate::time::{Deadline, Moment};
use crate::wire::Encoded;

/// Commands that are executed at once, and their answers, for the driver of a machine.
///
/// None waits for the answer of another, and each has an answer of its own. A driver encodes them ([`new`](Self::new)),
/// [sends](Self::send) them together, and [takes](Self::take_answers) the answers on the notice that the batch
/// [awaits](Self::awaits). That is the notice of the last command, since replies mostly come in the order of the commands: so
/// a caller is woken once for the whole batch.
///
/// Both [`new`](Self::new) and [`into_replies`](Self::into_replies) run code of the caller (`Serialize`, `Deserialize`), so
/// a driver that shares the machine with other threads calls them without its lock.
#[must_use = "answers that are neither taken nor disowned are kept"]
pub struct Batch<C> {
    entries: Vec<Batched>,
    /// How many of the entries may have no answer yet, from the first on.
    open: usize,
    reads: PhantomData<fn() -> C>,
}

/// A command of the batch.
enum Batched {
    Encoded(Encoded),
    Sent(CommandId),
    Answered(Result<Payload, CommandError>),
}

impl<C: Command> Batch<C> {
    /// Encodes commands, in the order in which they are sent. One that cannot be encoded is answered with
    /// [`Misuse::Arguments`](crate::Misuse::Arguments), and delays no other.
    pub fn new(commands: impl IntoIterator<Item = C>) -> Self {
        let encode = |command: C| match Encoded::command(&command) {
            Ok(command) => Batched::Encoded(command),
            Err(misuse) => Batched::Answered(Err(misuse.into())),
        };
        let entries: Vec<_> = commands.into_iter().map(encode).collect();
        Self { open: entries.len(), entries, reads: PhantomData }
    }

    /// Returns the results, in the order of the commands. A command that was not sent, or was disowned, has
    /// [`CommandError::Cancelled`].
    #[must_use]
    pub fn into_replies(self) -> Vec<Result<C::Reply, CommandError>> {
        let reply = |entry| match entry {
            Batched::Answered(answer) => answer.and_then(Payload::reply),
            Batched::Encoded(_) | Batched::Sent(_) => Err(CommandError::Cancelled),
        };
        self.entries.into_iter().map(reply).collect()
    }
}

impl<C> Batch<C> {
    /// Sends the commands, or queues them until they may be sent, as [`Machine::send`]. One that is refused is answered
    /// with the reason: those beyond [`Limits::commands`](crate::Limits::commands), for example.
    pub fn send(&mut self, machine: &mut Machine, now: Moment, deadline: Deadline) {
        for entry in &mut self.entries {
            if let Batched::Encoded(command) = entry {
                let sent = machine.send(now, command, deadline);
                *entry = sent.map_or_else(|misuse| Batched::Answered(Err(misuse.into())), Batched::Sent);
            }
        }
    }

    /// Returns the notice after which the answers are to be taken. `None` means that every command has its answer, or that
    /// none was sent.
    #[must_use]
    pub fn awaits(&self) -> Option<Notice> {
        self.entries[..self.open].iter().rev().find_map(|entry| match entry {
            Batched::Sent(id) => Some(Notice::Answered(*id)),
            Batched::Encoded(_) | Batched::Answered(_) => None,
        })
    }

    /// Takes the answers from the machine, the last first, up to a command without one. Returns whether every command has
    /// its answer.
    pub fn take_answers(&mut self, machine: &mut Machine) -> bool {
        while let Some(last) = self.entries[..self.open].last_mut() {
            match last {
                Batched::Sent(id) => match machine.take(*id) {
                    Some(answer) => *last = Batched::Answered(answer),
                    None => return false,
                },
                Batched::Encoded(_) => return false,
                Batched::Answered(_) => {}
            }
            self.open -= 1;
        }
        true
    }

    /// Disowns the commands that have no answer, as [`Machine::disown`], and takes the answers of the others.
    pub fn disown(&mut self, machine: &mut Machine) {
        for entry in &mut self.entries[..self.open] {
            if let Batched::Sent(id) = *entry {
                match machine.take(id) {
                    Some(answer) => *entry = Batched::Answered(answer),
                    None => machine.disown(id),
                }
            }
        }
        self.open = 0;
    }
}

/// Is empty: every command, of which there is none, has its answer.
impl<C> Default for Batch<C> {
    fn default() -> Self {
        Self { entries: Vec::new(), open: 0, reads: PhantomData }
    }
}

impl<C> fmt::Debug for Batch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("commands", &self.entries.len()).field("open", &self.open).finish_non_exhaustive()
    }
}

//! Decides in what words a session is spoken to, and speaks.

use crate::command::{Band, CommandId, CommandTraits, Payload};
use crate::descriptor::Descriptor;
use crate::error::CommandError;
use crate::event::Event;
use crate::lifecycle::LaunchFailure;
use crate::session::Owner;
use crate::time::Moment;

/// What a session is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The monitor is connected.
    Opened,
    /// This number is nobody else's: a guest agent is asked to repeat it.
    Nonce(u64),
    /// Bytes came.
    Received(&'a [u8]),
    /// The connection is at its end.
    Closed,
    /// Somebody wants a command to be sent.
    Issue(Request<'a>),
    /// Nobody wants the reply of this command any more.
    Disown(CommandId),
    /// The shutdown ladder wants the reply of its command no more: it has climbed on.
    DisownLadder,
    /// Time passed.
    TimePassed,
}

/// A command, encoded up to its id.
#[derive(Debug)]
pub struct Request<'a> {
    pub(crate) owner: Owner,
    pub(crate) body: &'a [u8],
    pub(crate) band: Band,
    pub(crate) kind: CommandTraits,
    pub(crate) deadline: Option<Moment>,
    pub(crate) descriptor: Option<Descriptor>,
}

/// What a session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The greeting came.
    Greeted,
    /// What is spoken has no greeting: a guest agent was asked to answer a number, qtest is ready as it is.
    Syncing,
    /// The negotiation succeeded.
    Ready,
    /// The handshake failed, and the session is closed.
    Failed(LaunchFailure),
    /// An event came.
    Event(Event),
    /// A command has its answer.
    Answered(CommandId, Result<Payload, CommandError>),
    /// A command of the shutdown ladder was answered, or why it was not.
    LadderAnswered(Result<(), CommandError>),
    /// A `quit` was answered with success, whoever sent it.
    QuitAccepted,
}

/// How many messages came that nobody waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Replies to commands whose caller had given up.
    pub late: u64,
    /// Replies to nothing that is in in_flight: doubled, or with an id that is not ours; and second greetings.
    pub unmatched: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages beyond the size limit.
    pub too_large: u64,
    /// What a guest agent still had to say to others, and what it said while it was brought in step.
    pub stale: u64,
    /// Errors without an id while no raw command was in flight.
    pub nameless: u64,
}

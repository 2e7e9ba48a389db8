//! Vocabulary of a session: one `Input` that it takes, one `Output` that it gives.

use crate::command::CommandId;
use crate::error::CommandError;
use crate::event::Event;
use crate::lifecycle::LaunchFailure;
use crate::payload::Payload;
use crate::time::Moment;
use crate::wire::Encoded;

/// An input of a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The monitor is connected.
    Opened,
    /// A number that no other client uses: a guest agent is asked to repeat it.
    Nonce(u64),
    /// Bytes arrived.
    Received(&'a [u8]),
    /// The connection reached its end.
    Closed,
    /// A caller issues a command.
    Execute {
        /// Its id, which no earlier command had.
        id: CommandId,
        /// The command.
        command: &'a Encoded,
        /// When it must have its reply. `None` means that it has no deadline.
        deadline: Option<Moment>,
    },
    /// The shutdown ladder issues a command, which has no deadline of its own.
    ExecuteForLadder(&'a Encoded),
    /// The caller no longer wants the reply of this command.
    Disown(CommandId),
    /// The shutdown ladder no longer wants the reply of its command: it has climbed on.
    DisownLadder,
    /// Time passed.
    TimePassed,
}

/// An output of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the machine carries out each")]
pub enum Output {
    /// The greeting arrived.
    Greeted,
    /// The peer sends no greeting: a guest agent was asked to repeat a number, or qtest is ready as it is.
    Syncing,
    /// The handshake succeeded.
    Ready,
    /// The handshake failed, and the session is closed.
    Failed(LaunchFailure),
    /// An event arrived.
    Event(Event),
    /// A command of a caller has its answer.
    Answered(CommandId, Result<Payload, CommandError>),
    /// A command of the shutdown ladder has its answer, or the reason why it has none.
    LadderAnswered(Result<(), CommandError>),
    /// QEMU accepted a `quit`, whoever sent it.
    QuitAccepted,
}

/// Messages that arrived and that no caller waited for, counted since the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Replies to commands whose caller had given up.
    pub late: u64,
    /// Replies to nothing that is in flight: doubled, or with an id that is not ours; and second greetings.
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

//! Input and output types of a session.

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
    /// A number that no other client uses, for synchronising with a guest agent (QEMU, `qga/qapi-schema.json`,
    /// `guest-sync-delimited`). With a number in common, the reply to another client would count as ours.
    Nonce(u64),
    /// The arguments of QEMU decide when the guest starts, so the session does not continue it.
    KeepGuestHeld,
    /// Bytes arrived.
    Received(&'a [u8]),
    /// The connection reached its end.
    Closed,
    /// The connection of a stranger, which sent no greeting, reached its end, and another one follows.
    Reopening,
    /// A caller issues a command.
    Execute {
        /// The id of the command, which no earlier command had.
        id: CommandId,
        /// The command.
        command: &'a Encoded,
        /// When the command must have its reply. `None` means that it has no deadline.
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
    /// The handshake succeeded, and the state of the guest is asked for.
    Querying,
    /// The peer sends no greeting: the session synchronises with a guest agent, or qtest needs no handshake.
    Syncing,
    /// The handshake succeeded.
    Ready,
    /// The handshake failed, and the session is closed, unless it [expects strangers](super::Session::expecting_strangers).
    Failed(LaunchFailure),
    /// An event arrived.
    Event(Event),
    /// A command of a caller has its answer.
    Answered(CommandId, Result<Payload, CommandError>),
    /// A command of the shutdown ladder has its answer, or the reason why it has none.
    LadderAnswered(Result<(), CommandError>),
    /// QEMU accepted a `quit` of a caller or of the shutdown ladder.
    QuitAccepted,
    /// QEMU accepted a `system_powerdown` of a caller or of the shutdown ladder.
    PowerButtonPressed,
}

/// Messages that arrived and that no caller waited for, counted since the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Replies to commands that were disowned or had timed out.
    pub late: u64,
    /// Replies to no command in flight: doubled, without an id, or with an id that the session did not send; and second
    /// greetings. A client drops them (`docs/interop/qmp-spec.rst`, Commands Responses).
    pub unmatched: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages beyond the size limit.
    pub too_large: u64,
    /// Lines of a guest agent that arrived while the session synchronised, except the reply that ended this: replies to
    /// previous clients, late ones, and errors (`docs/interop/qmp-spec.rst`, QGA Synchronization).
    pub stale: u64,
    /// Errors without an id (`docs/interop/qmp-spec.rst`, Error) while no raw command was in flight.
    pub nameless: u64,
}

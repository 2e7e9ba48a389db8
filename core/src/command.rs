//! Commands, and how a reply becomes a value.

use core::fmt;
use core::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::Payload;

/// A QMP command: a name, arguments, and the type of its reply.
///
/// A name is a command without arguments, and a pair is one with them; both are answered by a
/// [`Value`]. A type of your own says it once and for all:
///
/// ```
/// use qemu_machine_core::Command;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize)]
/// struct QueryStatus {}
///
/// #[derive(Deserialize)]
/// struct Status {
///     running: bool,
/// }
///
/// impl Command for QueryStatus {
///     type Reply = Status;
///     fn name(&self) -> &str {
///         "query-status"
///     }
///     fn arguments(&self) -> Option<impl Serialize> {
///         Some(self)
///     }
/// }
/// ```
///
/// Names are sent as they are written, with no `_` made a `-`; for members of a struct, `#[serde(rename_all =
/// "kebab-case")]` does it. Arguments are what serde makes of [`arguments`](Self::arguments), which must be an object.
/// Members of a reply that the type does not name are ignored, as the QMP specification asks of clients. Commands that
/// return nothing are answered by [`Empty`].
pub trait Command {
    /// What the reply is read as.
    type Reply: FromReply;

    /// The name, as in QEMU's schema.
    fn name(&self) -> &str;

    /// The arguments: an object, or none. An empty object is left out as well.
    fn arguments(&self) -> Option<impl Serialize>;

    /// Whether to send it out of band, past the commands that QEMU is busy with. Only a few commands allow that.
    fn out_of_band(&self) -> bool {
        false
    }
}

impl Command for &str {
    type Reply = Value;

    fn name(&self) -> &str {
        self
    }

    fn arguments(&self) -> Option<impl Serialize> {
        None::<()>
    }
}

impl Command for alloc::string::String {
    type Reply = Value;

    fn name(&self) -> &str {
        self
    }

    fn arguments(&self) -> Option<impl Serialize> {
        None::<()>
    }
}

impl<A: Serialize> Command for (&str, A) {
    type Reply = Value;

    fn name(&self) -> &str {
        self.0
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(&self.1)
    }
}

/// The reply of commands that return nothing: an empty object, whatever else it may hold one day.
///
/// `()` does not do: in JSON that is `null`, and QEMU answers `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Empty {}

/// Any command, with its reply left unread: the answer is a [`Payload`].
///
/// For replies of megabytes, and for those who read only a part of them.
#[derive(Clone, Copy, Debug)]
pub struct WithRawReply<C>(pub C);

impl<C: Command> Command for WithRawReply<C> {
    type Reply = Payload;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn arguments(&self) -> Option<impl Serialize> {
        self.0.arguments()
    }

    fn out_of_band(&self) -> bool {
        self.0.out_of_band()
    }
}

/// Any command, sent out of band.
///
/// Only where the monitor offered it; and QEMU takes few commands that way (`query-yank`, `yank`,
/// `migrate-pause`, `migrate-recover`).
#[derive(Clone, Copy, Debug)]
pub struct OutOfBand<C>(pub C);

impl<C: Command> Command for OutOfBand<C> {
    type Reply = C::Reply;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn arguments(&self) -> Option<impl Serialize> {
        self.0.arguments()
    }

    fn out_of_band(&self) -> bool {
        true
    }
}

/// A command that the caller wrote as JSON. It is not built, but sent with `execute_raw`, and it is answered by the
/// whole message that QEMU sent back: an object with `return`, or with `error` if it was refused, and with whatever
/// else there is in it.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "there is none")]
pub enum Raw {}

impl Command for Raw {
    type Reply = Value;

    fn name(&self) -> &str {
        match *self {}
    }

    fn arguments(&self) -> Option<impl Serialize> {
        None::<()>
    }
}

/// A line for QEMU's qtest. It is not built, but sent with `execute_line`, and answered by what stands behind
/// `OK` in the answer.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "there is none")]
pub enum QtestLine {}

impl Command for QtestLine {
    type Reply = alloc::string::String;

    fn name(&self) -> &str {
        match *self {}
    }

    fn arguments(&self) -> Option<impl Serialize> {
        None::<()>
    }
}

impl Payload {
    /// Reads it as the reply of a command.
    ///
    /// # Errors
    ///
    /// [`CommandError::Unexpected`](crate::CommandError::Unexpected) when it is not of that type.
    pub fn reply<R: FromReply>(self) -> Result<R, crate::CommandError> {
        R::from_reply(&self)
            .map_err(|error| crate::CommandError::Unexpected { reason: alloc::format!("{error}"), reply: self })
    }
}

/// What a reply can be read as: every owned type that serde can read, and a [`Payload`], which is not read at all.
pub trait FromReply: Sized {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// When the reply is not of this type.
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error>;
}

impl<T: DeserializeOwned> FromReply for T {
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error> {
        reply.read()
    }
}

impl FromReply for Payload {
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error> {
        Ok(reply.clone())
    }
}

/// Names a command for ever: ids are never used twice.
///
/// It is not the `id` on the wire, which is a small number that is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) u64);

impl CommandId {
    /// The id with this number, for drivers that use a [`Session`](crate::session::Session) by itself: no two commands of
    /// a session may have the same.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The right to the reply of a command: claim the reply with it, or disown the command.
#[must_use = "a reply that is neither claimed nor disowned is kept"]
pub struct Ticket<C> {
    pub(crate) id: CommandId,
    pub(crate) reads: PhantomData<fn() -> C>,
}

impl<C> Ticket<C> {
    /// The command that it is for.
    #[must_use]
    pub fn id(&self) -> CommandId {
        self.id
    }
}

impl<C> fmt::Debug for Ticket<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.id.0).finish()
    }
}

/// Whether a command waits for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "QMP has two")]
pub enum Band {
    /// One after another, in QEMU's main loop.
    InBand,
    /// At once, in QEMU's monitor thread, past the others.
    OutOfBand,
}

/// What is special about a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CommandTraits {
    /// Written by the caller as JSON: QEMU may find it unreadable and answer without an id.
    pub(crate) raw: bool,
    /// Ends QEMU when it succeeds.
    pub(crate) quit: bool,
    /// A guest agent answers nothing when it succeeds.
    pub(crate) silent: bool,
    /// A line for qtest.
    pub(crate) line: bool,
}

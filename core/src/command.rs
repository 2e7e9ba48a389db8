//! Commands, their replies as values, and their ids.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::Payload;

/// A QMP command: a name, arguments, and the type of its reply.
///
/// A string is a command without arguments, and a pair of name and arguments is one with them. The reply to both is a
/// [`Value`]. A type of your own has a typed reply:
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
/// Names are sent unchanged: `_` does not become `-`. For the members of a struct, use
/// `#[serde(rename_all = "kebab-case")]`. Arguments must serialize to a JSON object; otherwise
/// [`Misuse::Arguments`](crate::Misuse::Arguments) is reported and nothing is sent. QEMU refuses most members that are
/// `null`: wrap arguments with optional members in [`OmitNull`](crate::OmitNull), or give each
/// `#[serde(skip_serializing_if = "Option::is_none")]`. Members of a reply that the type
/// does not name are ignored, since newer versions of QEMU may add some (`docs/interop/qmp-spec.rst`, Compatibility
/// Considerations). The reply of a command that returns no data is [`Empty`].
pub trait Command {
    /// The type that the reply is parsed as.
    type Reply: FromReply;

    /// Returns the name, as in QEMU's schema.
    fn name(&self) -> &str;

    /// Returns the arguments: a JSON object. `None` means no arguments. An empty object is not sent either.
    fn arguments(&self) -> Option<impl Serialize>;

    /// Returns whether to send the command out of band, so that it overtakes the commands that QEMU has queued.
    /// Default:
    /// `false`. Only a few commands allow it: see [`OutOfBand`].
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

/// The reply of a command that returns no data: an empty JSON object (`docs/interop/qmp-spec.rst`, Success). Members
/// that a newer QEMU adds are ignored.
///
/// `()` would not parse: it is `null` in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Empty {}

/// Any command, with its reply left unparsed, as a [`Payload`]. Use it for replies of megabytes of which only a part is
/// read.
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

/// Any command, sent out of band: QEMU executes it at once, past the commands that it has queued
/// (`docs/interop/qmp-spec.rst`, Out-of-band execution).
///
/// The monitor must offer the capability, or the command fails with
/// [`Misuse::NoOutOfBand`](crate::Misuse::NoOutOfBand). QEMU accepts only commands whose schema has `allow-oob`:
/// `query-yank`, `yank`, `migrate-pause` and `migrate-recover` (measured with QEMU 7.2.22). It refuses any other.
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

/// Type of a command that the caller wrote as JSON. It has no values: `execute_raw` sends the JSON. The reply is the
/// whole message of QEMU, with all its members: an object with `return`, or with `error` if QEMU refused the command.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "the type has no values")]
pub enum Raw {}

impl Command for Raw {
    type Reply = RawReply;

    fn name(&self) -> &str {
        match *self {}
    }

    fn arguments(&self) -> Option<impl Serialize> {
        None::<()>
    }
}

/// Reply to a command that the caller wrote as JSON: the whole message, parsed and as QEMU sent it.
///
/// It dereferences to the parsed [`Value`], which has an integer beyond 64 bits as a float, and orders members by name.
/// [`as_bytes`](Self::as_bytes) and [`as_str`](Self::as_str) have the message as it came. `Display` and `Debug` write that
/// as printable JSON.
///
/// ```
/// # use qemu_machine_core::wire::Message;
/// # use qemu_machine_core::{FromReply, RawReply};
///
/// # let frame = br#"{"return": {"return": {"z": 36893488147419103232, "a": 1}, "id": 0}}"#[..].into();
/// # let Ok(Message::Reply { result: Ok(message), .. }) = Message::read(&frame) else { unreachable!() };
/// # let reply = RawReply::from_reply(&message)?;
/// // let reply = vm.execute_raw(r#"{"execute": "query-numbers"}"#)?;
/// assert_eq!(reply["return"]["a"], 1);
/// assert_eq!(reply.as_str(), r#"{"return": {"z": 36893488147419103232, "a": 1}, "id": 0}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct RawReply {
    message: Value,
    received: Payload,
}

impl RawReply {
    /// Returns the message as bytes, as QEMU sent it, without the line feed behind it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.received.as_bytes()
    }

    /// Returns the message as text, as QEMU sent it, without the line feed behind it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.received.as_str()
    }

    /// Returns the parsed message.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.message
    }
}

impl Deref for RawReply {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.message
    }
}

impl From<RawReply> for Value {
    fn from(reply: RawReply) -> Self {
        reply.message
    }
}

impl PartialEq<Value> for RawReply {
    fn eq(&self, other: &Value) -> bool {
        self.message == *other
    }
}

impl fmt::Debug for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.received, f)
    }
}

impl fmt::Display for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.received, f)
    }
}

/// Type of a line for QEMU's qtest. It has no values: `execute_line` sends the line. The reply is the text after `OK`
/// (QEMU, `system/qtest.c`, QTest Protocol).
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "the type has no values")]
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
    /// Parses it as the reply of a command.
    ///
    /// # Errors
    ///
    /// [`CommandError::Unexpected`](crate::CommandError::Unexpected) when it is not of that type.
    pub fn reply<R: FromReply>(self) -> Result<R, crate::CommandError> {
        R::from_owned_reply(self).map_err(|(error, reply)| {
            let reason = alloc::format!("{error}").into();
            crate::CommandError::Unexpected { reason, reply }
        })
    }
}

/// Types that a reply can become: every type that serde can deserialize and that borrows nothing, and [`Payload`], which
/// stays unparsed. A [`Value`] has at most 1,024 levels, another type 127.
pub trait FromReply: Sized {
    /// Parses the reply.
    ///
    /// # Errors
    ///
    /// When the reply is not of this type.
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error>;

    /// Parses a reply, and consumes it.
    ///
    /// # Errors
    ///
    /// As [`from_reply`](Self::from_reply), with the reply.
    fn from_owned_reply(reply: Payload) -> Result<Self, (serde_json::Error, Payload)> {
        Self::from_reply(&reply).map_err(|error| (error, reply))
    }
}

impl<T: DeserializeOwned + 'static> FromReply for T {
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error> {
        // Only a `Value` can be read without recursion, and so with more levels than other types.
        let mut value = None::<Self>;
        match (&mut value as &mut dyn Any).downcast_mut::<Option<Value>>() {
            Some(value) => *value = Some(reply.read_value()?),
            None => value = Some(reply.read()?),
        }
        value.ok_or_else(|| serde_json::Error::custom("no value"))
    }
}

impl FromReply for Payload {
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error> {
        Ok(reply.clone())
    }

    /// Keeps the payload instead of a clone.
    fn from_owned_reply(reply: Payload) -> Result<Self, (serde_json::Error, Payload)> {
        Ok(reply)
    }
}

impl FromReply for RawReply {
    fn from_reply(reply: &Payload) -> Result<Self, serde_json::Error> {
        Ok(Self { message: reply.read_value()?, received: reply.clone() })
    }
}

/// Id of a command, never used twice. It is not the `id` on the wire, which is a small number that is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) u64);

impl CommandId {
    /// Returns the id with this number, for drivers that use a [`Session`](crate::session::Session) alone. Each command
    /// of a session needs a number of its own; otherwise replies cannot be told apart.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The right to the reply of a command. It claims the reply ([`Machine::claim`](crate::Machine::claim)), or disowns the
/// command ([`Machine::disown`](crate::Machine::disown)): the command may still take effect, and its reply reaches no
/// other caller.
#[must_use = "a reply that is neither claimed nor disowned is kept"]
pub struct Ticket<C> {
    pub(crate) id: CommandId,
    pub(crate) reads: PhantomData<fn() -> C>,
}

impl<C> Ticket<C> {
    /// Returns the id of the command.
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

/// Band of a command: in the order of the commands, or past them (`docs/interop/qmp-spec.rst`, Out-of-band execution).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "QMP has these two")]
pub enum Band {
    /// QEMU executes the commands one after the other, in its main loop.
    InBand,
    /// QEMU executes the command at once, in the monitor's thread.
    OutOfBand,
}

/// Properties of a command that change how its reply is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CommandTraits {
    /// The caller wrote it as JSON. QEMU may fail to parse it, and then replies without an id
    /// (`docs/interop/qmp-spec.rst`, Error).
    pub(crate) raw: bool,
    /// It ends QEMU when it succeeds.
    pub(crate) quit: bool,
    /// It presses the power button when it succeeds.
    pub(crate) power_button: bool,
    /// A guest agent sends no reply when it succeeds (QEMU, `qga/qapi-schema.json`, `guest-shutdown`).
    pub(crate) silent: bool,
    /// It is a line for qtest.
    pub(crate) line: bool,
}

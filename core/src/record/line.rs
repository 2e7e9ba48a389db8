//! Line of a record: a time with an input or an output.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::stored;
use super::text::as_text;
use crate::channel::Channel;
use crate::command::{Band, CommandTraits};
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::fault::HostFault;
use crate::input::{self, CompanionInput, ExitStatus, Prepared};
use crate::lifecycle::Shutdown;
use crate::signal::Signal;
use crate::time::{Deadline, FOREVER, Moment};
use crate::undo::{Then, Undo};
use crate::wait::{Mark, Wait};
use crate::wire::Encoded;

/// One line: a time, and what happened then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "ns", with = "nanoseconds")]
    pub(crate) at: Moment,
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// A moment as nanoseconds since the origin.
mod nanoseconds {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Moment;

    pub(super) fn serialize<S: Serializer>(at: &Moment, to: S) -> Result<S::Ok, S::Error> {
        // A moment is a u64 of nanoseconds.
        to.serialize_u64(at.since(Moment::ORIGIN).as_nanos() as u64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos).map(Moment::new)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The first line.
    Machine(Box<Beginning>),
    Input(Input),
    Output(Output),
    /// The number of lines that were dropped here.
    Dropped(u64),
}

/// The version of this crate, which is in the first line of a record: another version may fail to read it.
pub(super) const THIS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The first line: what a run begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beginning {
    /// The version of this crate.
    pub(crate) version: String,
    #[serde(with = "stored")]
    pub(crate) config: Config,
}

impl Beginning {
    pub(crate) fn of(config: &Config) -> Self {
        Self { version: THIS_VERSION.to_owned(), config: config.clone() }
    }
}

/// Input of a machine: first the requests of the caller, then the inputs of the driver. The response to a request (its
/// number, its refusal, its hit) is an [`Output`] in a later line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Launch,
    Execute(Issued),
    ConsoleWrite {
        console: String,
        #[serde(with = "as_text")]
        text: Vec<u8>,
    },
    Wait {
        #[serde(with = "stored")]
        from: Mark,
        #[serde(with = "stored")]
        things: Vec<Wait>,
        #[serde(with = "stored")]
        within: Deadline,
    },
    Subscribe {
        #[serde(with = "stored")]
        from: Mark,
        #[serde(with = "stored")]
        events: Vec<Wait>,
    },
    Unsubscribe(u64),
    /// The answer of a command was taken.
    Take(u64),
    Disown(u64),
    /// Removal of the objects that a dropped procedure created.
    Undo {
        /// The command whose reply decides.
        pending: Option<u64>,
        command: Issued,
        #[serde(with = "stored")]
        events: Vec<Wait>,
        #[serde(default)]
        then: Vec<Issued>,
        needs_reply: bool,
        member: Option<String>,
        #[serde(default)]
        is_whole: bool,
        /// The commands that follow are alternatives.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        is_any: bool,
    },
    /// The result of a wait was taken.
    ClaimWait(u64),
    DisownWait(u64),
    /// An event was taken from the queue of a subscription.
    NextEvent(u64),
    Shutdown(#[serde(with = "stored")] Shutdown),
    Kill,
    Disconnect,
    Detach,
    Abandon,
    KillOrDisconnect,
    Prepared(#[serde(with = "stored")] Prepared),
    PrepareFailed(#[serde(with = "stored")] HostFault),
    Spawned(u32),
    SpawnFailed(#[serde(with = "stored")] HostFault),
    Exited(#[serde(with = "stored")] ExitStatus),
    Opened(#[serde(with = "stored")] Channel),
    OpenFailed(#[serde(with = "stored")] Channel, #[serde(with = "stored")] HostFault),
    PeerProcess {
        pid: u32,
        #[serde(with = "as_text")]
        arguments: Vec<Vec<u8>>,
    },
    PeerBusy(#[serde(with = "stored")] Channel),
    Received {
        #[serde(with = "stored")]
        from: Channel,
        #[serde(with = "as_text")]
        bytes: Vec<u8>,
    },
    Closed(#[serde(with = "stored")] Channel),
    Signalled(#[serde(with = "stored")] Signal),
    SignalFailed(#[serde(with = "stored")] Signal, #[serde(with = "stored")] HostFault),
    LogRead(#[serde(with = "as_text")] Vec<u8>),
    Detached,
    Removed,
    RemoveFailed(#[serde(with = "stored")] HostFault),
    Companion {
        index: usize,
        #[serde(with = "stored")]
        event: CompanionInput,
    },
    TimePassed,
    /// The driver sent these bytes.
    Sent {
        #[serde(with = "stored")]
        to: Channel,
        #[serde(with = "as_text")]
        bytes: Vec<u8>,
    },
}

/// A command, as the session receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    #[serde(with = "as_text")]
    pub(crate) text: Vec<u8>,
    #[serde(with = "stored")]
    pub(crate) band: Band,
    #[serde(with = "stored")]
    pub(crate) kind: CommandTraits,
    /// Whether a descriptor is sent with it. The descriptor itself cannot be recorded.
    pub(crate) descriptor: bool,
    #[serde(with = "stored")]
    pub(crate) within: Deadline,
}

impl Issued {
    pub(crate) fn new(command: &Encoded, within: Deadline) -> Self {
        let Encoded { body, band, kind, descriptor } = command;
        Self { text: body.to_vec(), band: *band, kind: *kind, descriptor: descriptor.is_some(), within }
    }
}

/// Returns the command. A descriptor that it had is replaced by an empty one.
impl From<&Issued> for Encoded {
    fn from(issued: &Issued) -> Self {
        let Issued { text, band, kind, descriptor, within: _ } = issued;
        let descriptor = descriptor.then(|| Descriptor::new(()));
        Self { body: text.clone().into(), band: *band, kind: *kind, descriptor }
    }
}

/// Output of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// The number that the request returned.
    Number(u64),
    Refused(String),
    Effect(String),
    Ready,
    Gap,
    Answered {
        id: u64,
        #[serde(with = "as_text")]
        reply: Vec<u8>,
    },
    Failure {
        id: u64,
        problem: String,
    },
    Found(String),
    Event(String),
    Ended(String),
}

impl From<&input::Input<'_>> for Input {
    fn from(input: &input::Input<'_>) -> Self {
        match input {
            input::Input::Prepared(prepared) => Self::Prepared(prepared.clone()),
            input::Input::PrepareFailed(fault) => Self::PrepareFailed(fault.clone()),
            input::Input::Spawned { pid } => Self::Spawned(*pid),
            input::Input::SpawnFailed(fault) => Self::SpawnFailed(fault.clone()),
            input::Input::Exited(status) => Self::Exited(*status),
            input::Input::Opened(channel) => Self::Opened(*channel),
            input::Input::OpenFailed(channel, fault) => Self::OpenFailed(*channel, fault.clone()),
            input::Input::PeerProcess { pid, arguments } => {
                Self::PeerProcess { pid: *pid, arguments: arguments.clone() }
            }
            input::Input::PeerBusy(channel) => Self::PeerBusy(*channel),
            input::Input::Received(channel, bytes) => Self::Received { from: *channel, bytes: bytes.to_vec() },
            input::Input::Closed(channel) => Self::Closed(*channel),
            input::Input::Signalled(signal, Ok(())) => Self::Signalled(*signal),
            input::Input::Signalled(signal, Err(fault)) => Self::SignalFailed(*signal, fault.clone()),
            input::Input::LogRead(tail) => Self::LogRead(tail.to_vec()),
            input::Input::Detached => Self::Detached,
            input::Input::Removed(Ok(())) => Self::Removed,
            input::Input::Removed(Err(fault)) => Self::RemoveFailed(fault.clone()),
            input::Input::Companion(index, event) => Self::Companion { index: *index, event: event.clone() },
            input::Input::TimePassed => Self::TimePassed,
        }
    }
}

impl Input {
    /// Returns the line of an undo.
    pub(crate) fn undo(pending: Option<u64>, undo: &Undo) -> Self {
        let Undo { command, needs_reply, member, is_whole, then } = undo;
        let issued = |command: &Encoded| Issued::new(command, FOREVER);
        Self::Undo {
            pending,
            command: issued(command),
            events: then.steps.iter().map(|(event, _)| Wait::from(event.clone())).collect(),
            then: then.steps.iter().map(|(_, command)| issued(command)).collect(),
            needs_reply: *needs_reply,
            member: member.clone(),
            is_whole: *is_whole,
            is_any: then.is_any,
        }
    }

    /// Returns the undo of a line. `None` means that this is another line.
    pub(crate) fn as_undo(&self) -> Option<Undo> {
        let Self::Undo { command, events, then, needs_reply, member, is_whole, is_any, .. } = self else { return None };
        let events = events.iter().filter_map(|event| event.clone().into_filter().ok());
        let then = Then { steps: events.zip(then.iter().map(Encoded::from)).collect(), is_any: *is_any };
        let (command, member) = (command.into(), member.clone());
        Some(Undo { command, needs_reply: *needs_reply, member, is_whole: *is_whole, then })
    }

    /// Returns the input of the driver. `None` means that this is a request of the caller.
    pub(crate) fn as_input(&self) -> Option<input::Input<'_>> {
        Some(match self {
            Self::Prepared(prepared) => input::Input::Prepared(prepared.clone()),
            Self::PrepareFailed(fault) => input::Input::PrepareFailed(fault.clone()),
            Self::Spawned(pid) => input::Input::Spawned { pid: *pid },
            Self::SpawnFailed(fault) => input::Input::SpawnFailed(fault.clone()),
            Self::Exited(status) => input::Input::Exited(*status),
            Self::Opened(channel) => input::Input::Opened(*channel),
            Self::OpenFailed(channel, fault) => input::Input::OpenFailed(*channel, fault.clone()),
            Self::PeerProcess { pid, arguments } => {
                input::Input::PeerProcess { pid: *pid, arguments: arguments.clone() }
            }
            Self::PeerBusy(channel) => input::Input::PeerBusy(*channel),
            Self::Received { from, bytes } => input::Input::Received(*from, bytes),
            Self::Closed(channel) => input::Input::Closed(*channel),
            Self::Signalled(signal) => input::Input::Signalled(*signal, Ok(())),
            Self::SignalFailed(signal, fault) => input::Input::Signalled(*signal, Err(fault.clone())),
            Self::LogRead(tail) => input::Input::LogRead(tail),
            Self::Detached => input::Input::Detached,
            Self::Removed => input::Input::Removed(Ok(())),
            Self::RemoveFailed(fault) => input::Input::Removed(Err(fault.clone())),
            Self::Companion { index, event } => input::Input::Companion(*index, event.clone()),
            Self::TimePassed => input::Input::TimePassed,
            _ => return None,
        })
    }
}

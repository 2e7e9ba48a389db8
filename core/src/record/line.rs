//! Decides in what words a line of a record says what a machine was told and what it answered.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::stored;
use super::text::as_text;
use crate::command::{Band, Kind};
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::effect::Signal;
use crate::fault::HostFault;
use crate::input::{self, Channel, ExitStatus, Prepared};
use crate::lifecycle::Shutdown;
use crate::time::{Deadline, Moment};
use crate::wait::{Mark, Wait};
use crate::wire::Encoded;

/// One line: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "ns", with = "nanoseconds")]
    pub(crate) at: Moment,
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// A moment as a number.
mod nanoseconds {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Moment;

    pub(super) fn serialize<S: Serializer>(at: &Moment, to: S) -> Result<S::Ok, S::Error> {
        // In 500 years it will be wrong.
        to.serialize_u64(u64::try_from(at.since(Moment::ORIGIN).as_nanos()).unwrap_or(u64::MAX))
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
    /// So many lines stood here.
    Dropped(u64),
}

/// The version of this crate: a record is promised to be read by the one that wrote it alone.
pub(super) const THIS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What there is before anything is told.
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

/// What a machine is told: the requests, then the news. A request that gets a number or is refused is followed by a line
/// that says so.
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
    /// The answer of a command was taken away.
    Take(u64),
    Disown(u64),
    /// What a wait found was taken away.
    ClaimWait(u64),
    DisownWait(u64),
    /// An event was taken out of the queue of a subscription.
    NextEvent(u64),
    Shutdown(#[serde(with = "stored")] Shutdown),
    Kill,
    Disconnect,
    Detach,
    GiveUp,
    Abandon,
    Prepared(#[serde(with = "stored")] Prepared),
    PrepareFailed(#[serde(with = "stored")] HostFault),
    Spawned(u32),
    SpawnFailed(#[serde(with = "stored")] HostFault),
    Exited(#[serde(with = "stored")] ExitStatus),
    Opened(#[serde(with = "stored")] Channel),
    OpenFailed(#[serde(with = "stored")] Channel, #[serde(with = "stored")] HostFault),
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
    TimePassed,
    /// These bytes went out.
    Sent {
        #[serde(with = "stored")]
        to: Channel,
        #[serde(with = "as_text")]
        bytes: Vec<u8>,
    },
}

/// A command, as it is handed to the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    #[serde(with = "as_text")]
    pub(crate) text: Vec<u8>,
    #[serde(with = "stored")]
    pub(crate) band: Band,
    #[serde(with = "stored")]
    pub(crate) kind: Kind,
    /// Whether a descriptor goes with it. Which, no record can say.
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

/// The command, with a descriptor of nothing where it had one.
impl From<&Issued> for Encoded {
    fn from(issued: &Issued) -> Self {
        let Issued { text, band, kind, descriptor, within: _ } = issued;
        let descriptor = descriptor.then(|| Descriptor::new(()));
        Self { body: text.clone().into(), band: *band, kind: *kind, descriptor }
    }
}

/// What a machine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// The request got this number.
    Number(u64),
    Refused(String),
    Effect(String),
    Ready,
    Gap,
    Answer {
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
            input::Input::PeerBusy(channel) => Self::PeerBusy(*channel),
            input::Input::Received(channel, bytes) => Self::Received { from: *channel, bytes: bytes.to_vec() },
            input::Input::Closed(channel) => Self::Closed(*channel),
            input::Input::Signalled(signal, Ok(())) => Self::Signalled(*signal),
            input::Input::Signalled(signal, Err(fault)) => Self::SignalFailed(*signal, fault.clone()),
            input::Input::LogRead(tail) => Self::LogRead(tail.to_vec()),
            input::Input::Detached => Self::Detached,
            input::Input::Removed(Ok(())) => Self::Removed,
            input::Input::Removed(Err(fault)) => Self::RemoveFailed(fault.clone()),
            input::Input::TimePassed => Self::TimePassed,
        }
    }
}

impl Input {
    /// The news that it was, if it was no request.
    pub(crate) fn as_input(&self) -> Option<input::Input<'_>> {
        Some(match self {
            Self::Prepared(prepared) => input::Input::Prepared(prepared.clone()),
            Self::PrepareFailed(fault) => input::Input::PrepareFailed(fault.clone()),
            Self::Spawned(pid) => input::Input::Spawned { pid: *pid },
            Self::SpawnFailed(fault) => input::Input::SpawnFailed(fault.clone()),
            Self::Exited(status) => input::Input::Exited(*status),
            Self::Opened(channel) => input::Input::Opened(*channel),
            Self::OpenFailed(channel, fault) => input::Input::OpenFailed(*channel, fault.clone()),
            Self::PeerBusy(channel) => input::Input::PeerBusy(*channel),
            Self::Received { from, bytes } => input::Input::Received(*from, bytes),
            Self::Closed(channel) => input::Input::Closed(*channel),
            Self::Signalled(signal) => input::Input::Signalled(*signal, Ok(())),
            Self::SignalFailed(signal, fault) => input::Input::Signalled(*signal, Err(fault.clone())),
            Self::LogRead(tail) => input::Input::LogRead(tail),
            Self::Detached => input::Input::Detached,
            Self::Removed => input::Input::Removed(Ok(())),
            Self::RemoveFailed(fault) => input::Input::Removed(Err(fault.clone())),
            Self::TimePassed => input::Input::TimePassed,
            _ => return None,
        })
    }
}

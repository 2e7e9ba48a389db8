//! Stored form of what requests and inputs carry.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored::{self, mirrored};
use super::text::as_text;
use crate::command::{self, Band};
use crate::config::Service;
use crate::effect::Signal;
use crate::event::{Filter, SubscriptionId};
use crate::fault::HostFault;
use crate::input::{Channel, ExitStatus, Inherited, Prepared};
use crate::lifecycle::Shutdown;
use crate::time::Deadline;
use crate::transport::Address;
use crate::wait::{self, Mark, Wait};

mirrored! {
    StoredBand => Band,
    StoredKind => command::Kind,
    StoredDeadline => Deadline,
    StoredShutdown => Shutdown,
    StoredMark => Mark,
    StoredWait => Wait,
    StoredThing => wait::Kind,
    StoredFilter => Filter,
    StoredSubscriptionId => SubscriptionId,
    StoredPrepared => Prepared,
    StoredInherited => Inherited,
    StoredChannel => Channel,
    StoredExitStatus => ExitStatus,
    StoredSignal => Signal,
    StoredHostFault => HostFault,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Band", rename_all = "snake_case")]
enum StoredBand {
    InBand,
    OutOfBand,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "command::Kind")]
struct StoredKind {
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    raw: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    quit: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    silent: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    line: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Deadline")]
struct StoredDeadline(Option<Duration>);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Shutdown")]
struct StoredShutdown {
    power_down: Duration,
    power_down_again: Duration,
    quit: Duration,
    terminate: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Mark")]
struct StoredMark {
    event: u64,
    consoles: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Wait")]
struct StoredWait(#[serde(with = "stored")] wait::Kind);

#[derive(Serialize, Deserialize)]
#[serde(remote = "wait::Kind", rename_all = "snake_case")]
enum StoredThing {
    Event(#[serde(with = "stored")] Filter),
    Queued(#[serde(with = "stored")] SubscriptionId),
    Text {
        console: String,
        #[serde(with = "as_text")]
        text: Vec<u8>,
        line: bool,
    },
    Output {
        console: String,
    },
    End,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Filter")]
struct StoredFilter {
    name: Option<String>,
    pattern: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SubscriptionId")]
struct StoredSubscriptionId(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Prepared")]
struct StoredPrepared {
    #[serde(with = "as_text")]
    directory: Option<Vec<u8>>,
    #[serde(with = "as_text")]
    log: Option<Vec<u8>>,
    #[serde(with = "stored")]
    descriptors: Vec<(Inherited, i32)>,
    nonce: u64,
    #[serde(with = "stored")]
    monitor: Option<Address>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Inherited", rename_all = "snake_case")]
enum StoredInherited {
    Channel(#[serde(with = "stored")] Channel),
    Service(#[serde(with = "stored")] Service),
    Added(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Channel", rename_all = "snake_case")]
enum StoredChannel {
    Monitor,
    Console(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ExitStatus", rename_all = "snake_case")]
enum StoredExitStatus {
    Code(i32),
    Signal { number: i32, core_dumped: bool },
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Signal", rename_all = "snake_case")]
enum StoredSignal {
    Terminate,
    Kill,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "HostFault")]
struct StoredHostFault {
    operation: String,
    errno: i32,
    reason: String,
}

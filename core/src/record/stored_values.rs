//! Stored form of what requests and inputs carry.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored::{self, mirrored};
use super::text::as_text;
use crate::channel::Channel;
use crate::command::{Band, CommandTraits};
use crate::config::Service;
use crate::event::{Filter, SubscriptionId};
use crate::fault::{FaultKind, HostFault};
use crate::identity::FileId;
use crate::input::{CompanionInput, ExitStatus, Inherited, Prepared, RunningProcess};
use crate::lifecycle::Shutdown;
use crate::log_line::LogLevel;
#[cfg(feature = "regex")]
use crate::regex::Regex;
use crate::signal::{Signal, SignalName};
use crate::text::UntrustedText;
use crate::time::Deadline;
use crate::transport::Address;
use crate::wait::{Mark, Target, Wait};

mirrored! {
    StoredBand => Band,
    StoredCommandTraits => CommandTraits,
    StoredDeadline => Deadline,
    StoredShutdown => Shutdown,
    StoredMark => Mark,
    StoredWait => Wait,
    StoredTarget => Target,
    StoredLogLevel => LogLevel,
    StoredFilter => Filter,
    StoredSubscriptionId => SubscriptionId,
    StoredPrepared => Prepared,
    StoredRunningProcess => RunningProcess,
    StoredInherited => Inherited,
    StoredChannel => Channel,
    StoredExitStatus => ExitStatus,
    StoredCompanionInput => CompanionInput,
    StoredSignal => Signal,
    StoredHostFault => HostFault,
    StoredFaultKind => FaultKind,
    StoredSignalName => SignalName,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Band", rename_all = "snake_case")]
enum StoredBand {
    InBand,
    OutOfBand,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CommandTraits")]
struct StoredCommandTraits {
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    raw: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    quit: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    power_button: bool,
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
struct StoredWait(#[serde(with = "stored")] Target);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Target", rename_all = "snake_case")]
enum StoredTarget {
    Event(#[serde(with = "stored")] Filter),
    Queued(#[serde(with = "stored")] SubscriptionId),
    Text {
        console: String,
        #[serde(with = "as_text")]
        text: Vec<u8>,
        line: bool,
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        plain: bool,
    },
    AnyLine {
        console: String,
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        plain: bool,
    },
    #[cfg(feature = "regex")]
    Regex {
        console: String,
        #[serde(with = "pattern")]
        regex: Regex,
        line: bool,
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        plain: bool,
    },
    Output {
        console: String,
    },
    Log(#[serde(with = "stored")] LogLevel),
    Companion(String),
    End,
}

/// A regular expression as its pattern.
#[cfg(feature = "regex")]
mod pattern {
    use alloc::string::String;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::regex::Regex;

    pub(super) fn serialize<S: Serializer>(regex: &Regex, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(regex.pattern())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Regex, D::Error> {
        Regex::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LogLevel", rename_all = "snake_case")]
enum StoredLogLevel {
    Output,
    Info,
    Warning,
    Error,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signaller: Option<u32>,
    nonce: u64,
    #[serde(with = "stored")]
    monitor: Option<Address>,
    #[serde(with = "stored", default, skip_serializing_if = "Option::is_none")]
    process: Option<Box<RunningProcess>>,
    /// Earlier records have none.
    #[serde(with = "as_text", default, skip_serializing_if = "Vec::is_empty")]
    companions: Vec<(usize, Vec<u8>)>,
    /// Earlier records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    monitor_sockets: Vec<FileId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunningProcess")]
struct StoredRunningProcess {
    pid: u32,
    #[serde(with = "as_text")]
    arguments: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Inherited", rename_all = "snake_case")]
enum StoredInherited {
    Passed(usize),
    Channel(#[serde(with = "stored")] Channel),
    Service(#[serde(with = "stored")] Service),
    MonitorSocket(usize),
    Added(usize),
    Companion(usize),
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
    Signal {
        number: i32,
        #[serde(with = "stored")]
        name: SignalName,
        core_dumped: bool,
    },
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CompanionInput", rename_all = "snake_case")]
enum StoredCompanionInput {
    Started { pid: u32 },
    StartFailed(#[serde(with = "stored")] HostFault),
    Probed { is_open: bool },
    ProbeFailed(#[serde(with = "stored")] HostFault),
    Exited(#[serde(with = "stored")] ExitStatus),
    LogRead(#[serde(with = "as_text")] Vec<u8>),
    NotSignalled(#[serde(with = "stored")] HostFault),
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
    operation: UntrustedText,
    #[serde(with = "stored")]
    kind: FaultKind,
    errno: Option<i32>,
    reason: UntrustedText,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FaultKind", rename_all = "snake_case")]
enum StoredFaultKind {
    NotFound,
    Exists,
    Refused,
    RefusedOrBusy,
    Busy,
    Denied,
    Full,
    Gone,
    Unsupported,
    Invalid,
    Other,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SignalName", rename_all = "snake_case")]
enum StoredSignalName {
    Hup,
    Int,
    Quit,
    Ill,
    Trap,
    Abrt,
    Bus,
    Fpe,
    Kill,
    Usr1,
    Segv,
    Usr2,
    Pipe,
    Alrm,
    Term,
    Stkflt,
    Chld,
    Cont,
    Stop,
    Tstp,
    Ttin,
    Ttou,
    Urg,
    Xcpu,
    Xfsz,
    Vtalrm,
    Prof,
    Winch,
    Io,
    Pwr,
    Sys,
    RealTime(u8),
    Other,
}

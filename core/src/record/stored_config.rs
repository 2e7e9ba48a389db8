//! Stored form of a configuration, which is the first line of a record.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::stored::{self, mirrored};
use super::text::as_text;
use crate::companion::{Backend, Companion, CompanionSocket, SocketArgument};
use crate::config::{
    Added, Config, ConsolePart, Dialect, ExtraMonitor, Frontend, Limits, MonitorSocket, ProcessAttributes, Resource,
    ResourceLimit, Service, UserNetwork, Variable,
};
use crate::descriptor::Descriptor;
use crate::host_forward::{ForwardProtocol, HostForward};
use crate::identity::Identity;
use crate::time::Deadline;
use crate::transport::{Address, Monitor, Peer};
use crate::wait::Wait;

mirrored! {
    StoredConfig => Config,
    StoredConsole => ConsolePart,
    StoredFrontend => Frontend,
    StoredAdded => Added,
    StoredCompanion => Companion,
    StoredSocketArgument => SocketArgument,
    StoredCompanionSocket => CompanionSocket,
    StoredBackend => Backend,
    StoredExtraMonitor => ExtraMonitor,
    StoredMonitorSocket => MonitorSocket,
    StoredNetwork => UserNetwork,
    StoredForward => HostForward,
    StoredProtocol => ForwardProtocol,
    StoredAttributes => ProcessAttributes,
    StoredLimit => ResourceLimit,
    StoredResource => Resource,
    StoredVariable => Variable,
    StoredService => Service,
    StoredDialect => Dialect,
    StoredMonitor => Monitor,
    StoredAddress => Address,
    StoredPeer => Peer,
    StoredLimits => Limits,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Config")]
struct StoredConfig {
    #[serde(with = "as_text")]
    program: Vec<u8>,
    #[serde(with = "as_text")]
    args: Vec<Vec<u8>>,
    #[serde(with = "as_text")]
    wrapper: Vec<Vec<u8>>,
    name: Cow<'static, str>,
    #[serde(with = "as_text")]
    machine: Option<Vec<u8>>,
    display: bool,
    vga: bool,
    #[serde(with = "stored")]
    monitor: Monitor,
    trusts_peer: bool,
    waits_for_listener: bool,
    autostart: bool,
    #[serde(with = "stored")]
    subscriptions: Vec<Vec<Wait>>,
    null_monitor: bool,
    /// Earlier records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "stored")]
    extra_monitors: Vec<ExtraMonitor>,
    #[serde(with = "stored")]
    consoles: Vec<ConsolePart>,
    unknown_log: Option<String>,
    #[serde(with = "stored")]
    services: Vec<Service>,
    /// Earlier records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "stored")]
    networks: Vec<UserNetwork>,
    /// Earlier records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "stored")]
    companions: Vec<Companion>,
    #[serde(with = "stored")]
    added: Vec<Added>,
    #[serde(with = "stored")]
    passed: Vec<Descriptor>,
    /// Earlier records have none.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    keeps_fds: bool,
    #[serde(with = "stored")]
    attributes: Option<Box<ProcessAttributes>>,
    share_terminal: bool,
    #[serde(with = "stored")]
    peer: Option<Peer>,
    #[serde(with = "stored")]
    dialect: Dialect,
    #[serde(with = "as_text")]
    temporary_directory: Option<Vec<u8>>,
    #[serde(with = "as_text")]
    socket_directory: Option<Vec<u8>>,
    #[serde(with = "as_text")]
    log_directory: Option<Vec<u8>>,
    log_limit: Option<u64>,
    #[serde(with = "stored")]
    launch_within: Deadline,
    heartbeat: bool,
    outlives_parent: bool,
    recorded: bool,
    #[serde(with = "stored")]
    limits: Limits,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ConsolePart")]
struct StoredConsole {
    name: Option<String>,
    #[serde(with = "stored")]
    frontend: Frontend,
    #[serde(with = "as_text")]
    log: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Frontend", rename_all = "snake_case")]
enum StoredFrontend {
    Serial,
    Device(#[serde(with = "as_text")] Vec<u8>),
    Chardev,
    Log,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Added")]
struct StoredAdded {
    #[serde(with = "stored")]
    descriptor: Descriptor,
    set: u32,
    #[serde(with = "as_text")]
    opaque: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Companion")]
struct StoredCompanion {
    name: String,
    #[serde(with = "as_text")]
    program: Vec<u8>,
    #[serde(with = "as_text")]
    args: Vec<Vec<u8>>,
    #[serde(with = "stored")]
    socket: Option<SocketArgument>,
    #[serde(with = "stored")]
    backends: Vec<Backend>,
    #[serde(with = "stored")]
    attributes: ProcessAttributes,
    grace: Option<Duration>,
    is_required: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SocketArgument")]
struct StoredSocketArgument {
    #[serde(with = "stored")]
    kind: CompanionSocket,
    place: usize,
    #[serde(with = "as_text")]
    prefix: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CompanionSocket", rename_all = "snake_case")]
enum StoredCompanionSocket {
    Listener,
    Connected,
    Path,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Backend", rename_all = "snake_case")]
enum StoredBackend {
    Chardev(String),
    NetdevStream(String),
    Other {
        #[serde(with = "as_text")]
        option: Vec<u8>,
        #[serde(with = "as_text")]
        prefix: Vec<u8>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ExtraMonitor")]
struct StoredExtraMonitor {
    #[serde(with = "stored")]
    socket: MonitorSocket,
    is_human: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MonitorSocket")]
struct StoredMonitorSocket {
    #[serde(with = "as_text")]
    path: Vec<u8>,
    mode: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "UserNetwork")]
struct StoredNetwork {
    id: String,
    #[serde(with = "stored")]
    forwards: Vec<HostForward>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "HostForward")]
struct StoredForward {
    #[serde(with = "stored")]
    protocol: ForwardProtocol,
    host: SocketAddrV4,
    guest: Option<Ipv4Addr>,
    guest_port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ForwardProtocol", rename_all = "snake_case")]
enum StoredProtocol {
    Tcp,
    Udp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ProcessAttributes")]
struct StoredAttributes {
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
    umask: Option<u32>,
    #[serde(with = "stored")]
    limits: Vec<ResourceLimit>,
    #[serde(with = "as_text")]
    working_directory: Option<Vec<u8>>,
    environment_is_empty: bool,
    #[serde(with = "stored")]
    environment: Vec<Variable>,
    #[serde(with = "stored")]
    network_namespace: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    inherits_stdin: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    inherits_stdout: bool,
    #[serde(with = "as_text", default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ResourceLimit")]
struct StoredLimit {
    #[serde(with = "stored")]
    resource: Resource,
    value: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resource", rename_all = "snake_case")]
enum StoredResource {
    AddressSpace,
    CoreDump,
    ProcessorTime,
    FileSize,
    LockedMemory,
    OpenFiles,
    Processes,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Variable")]
struct StoredVariable {
    #[serde(with = "as_text")]
    name: Vec<u8>,
    #[serde(with = "as_text")]
    value: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Service", rename_all = "snake_case")]
enum StoredService {
    GuestAgent,
    Qtest,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Dialect", rename_all = "snake_case")]
enum StoredDialect {
    Qmp,
    GuestAgent,
    Qtest,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Monitor", rename_all = "snake_case")]
enum StoredMonitor {
    Inherited,
    Socket,
    At(#[serde(with = "stored")] Address),
    Offered,
    None,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Address", rename_all = "snake_case")]
enum StoredAddress {
    Unix(#[serde(with = "as_text")] Vec<u8>),
    Abstract(#[serde(with = "as_text")] Vec<u8>),
    Tcp(SocketAddr),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Peer", rename_all = "snake_case")]
enum StoredPeer {
    Dial(#[serde(with = "stored")] Address),
    Listen(#[serde(with = "stored")] Address),
    Detached(Box<Identity>),
    Connected(#[serde(with = "stored")] Descriptor),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Limits")]
struct StoredLimits {
    #[serde(deserialize_with = "saturating")]
    message: usize,
    #[serde(deserialize_with = "saturating")]
    events: usize,
    #[serde(deserialize_with = "saturating")]
    event: usize,
    #[serde(deserialize_with = "saturating")]
    subscription: usize,
    #[serde(deserialize_with = "saturating")]
    subscriptions: usize,
    #[serde(deserialize_with = "saturating")]
    console: usize,
    #[serde(deserialize_with = "saturating")]
    console_input: usize,
    #[serde(deserialize_with = "saturating")]
    commands: usize,
    #[serde(deserialize_with = "saturating")]
    waits: usize,
    #[serde(deserialize_with = "saturating")]
    last_words: usize,
    /// Earlier records have none, and the default of this library at that time.
    #[serde(default = "last_words", deserialize_with = "saturating", skip_serializing_if = "is_last_words")]
    log: usize,
    #[serde(deserialize_with = "saturating")]
    record: usize,
}

/// Reads a limit. Where it is more than a number of this machine holds, no machine can reach it.
fn saturating<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    u64::deserialize(from).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn last_words() -> usize {
    Limits::LAST_WORDS
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_last_words(limit: &usize) -> bool {
    *limit == last_words()
}

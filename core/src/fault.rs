//! Faults, sorted by whose they are: the caller's, QEMU's decision, the peer's, or the host's.

use alloc::string::String;

use crate::config::Service;

/// The caller's fault: the call made no sense, and nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A machine is launched once in each run.
    #[error("the machine is already launched")]
    AlreadyLaunched,
    /// The process of the previous run survived SIGKILL, and its end was not reported yet.
    #[error("the process of the previous run survived SIGKILL and has not ended yet: launch again when it has")]
    NotReaped,
    /// The process of a machine that another program launched is not ours to kill.
    #[error("the machine was launched by another program: shut it down or disconnect from it, it cannot be killed")]
    NotOurs,
    /// Only a machine that another program launched can be disconnected from.
    #[error("the machine was launched by this program: shut it down or kill it, it cannot be disconnected from")]
    Ours,
    /// A machine that was not configured to [outlive us](crate::Config::outlive_parent) ends with us.
    #[error("the machine was not configured to outlive its parent (`Config::outlive_parent`)")]
    NotDetachable,
    /// The call needs a machine that runs: its launch is complete, and its end has not begun.
    #[error("the machine is not running: its launch is not complete, or its end has begun")]
    NotRunning,
    /// The call needs a machine that was launched.
    #[error("the machine was not launched")]
    NotLaunched,
    /// The call needs a machine that has not ended.
    #[error("the machine has ended")]
    Ended,
    /// The machine was configured without a monitor.
    #[error("the machine was configured without a monitor: it executes no commands")]
    NoMonitor,
    /// QMP wants an object (or nothing) as arguments; something else was given, or it could not be written as JSON.
    #[error("the arguments of `{command}` are not valid: {problem}")]
    Arguments {
        /// The command.
        command: String,
        /// What is wrong with its arguments.
        problem: String,
    },
    /// A raw command must be one JSON object without an `id` of its own.
    #[error("the raw command is not valid: {0}")]
    Raw(String),
    /// qtest takes one line at a time.
    #[error("a qtest command must be exactly one line, without a line feed")]
    QtestLine,
    /// A qtest line was sent to a monitor that speaks QMP, or a QMP command to qtest.
    #[error("this monitor does not speak that protocol (a qtest line on QMP, or the reverse)")]
    WrongDialect,
    /// The command is to be executed out of band, and that was not negotiated.
    #[error("`{0}` cannot be executed out of band: the monitor does not offer that")]
    NoOutOfBand(String),
    /// As many commands as [`Limits::commands`](crate::Limits::commands) have no reply, or one that nobody claimed.
    #[error("more than {0} commands at once (`Limits::commands`): claim replies or wait for them first")]
    TooManyCommands(usize),
    /// The machine has no such service to hand out: it was configured without it, has given it away, or has ended.
    #[error("the machine has no {0}: it was configured without one, has given it away, or has ended")]
    NoService(Service),
    /// Another handle uses this service.
    #[error("the {0} is in use by another handle: drop that one first")]
    ServiceInUse(Service),
    /// A connection that was given is used once: it is closed by now.
    #[error("the connection that the machine was given is closed: it serves a single run")]
    UsedUp,
    /// There is no console of that name: [`Config::serial`](crate::Config::serial) names one.
    #[error("no console is named `{0}`")]
    UnknownConsole(String),
    /// More was written to a console than QEMU takes, and [`Limits::console_input`](crate::Limits::console_input)
    /// is full.
    #[error(
        "more than {0} bytes wait to be written to the console (`Limits::console_input`): the guest reads too slowly"
    )]
    ConsoleInputFull(usize),
    /// As many waits as [`Limits::waits`](crate::Limits::waits) are pending or unclaimed.
    #[error("more than {0} waits at once (`Limits::waits`): claim or disown some first")]
    TooManyWaits(usize),
    /// A text of more than [`Limits::console`](crate::Limits::console) bytes is dropped before it is complete.
    #[error("the text is longer than the {0} bytes of a console that are kept (`Limits::console`)")]
    TextTooLong(usize),
    /// A wait for none of its things would never end.
    #[error("the wait names nothing to wait for")]
    EmptyWait,
    /// An empty text is on every console at any time.
    #[error("an empty text cannot be waited for: `Wait::output` waits for any output")]
    EmptyText,
    /// A subscription without a filter would queue nothing.
    #[error("the subscription names no event: `Wait::any_event` stands for all of them")]
    EmptyFilter,
    /// A subscription queues events; it was to queue a text, the end or another subscription.
    #[error("a subscription queues only events")]
    NotAnEvent,
    /// As many subscriptions as [`Limits::subscriptions`](crate::Limits::subscriptions) exist already.
    #[error("more than {0} subscriptions at once (`Limits::subscriptions`): end one first")]
    TooManySubscriptions(usize),
    /// That subscription has ended.
    #[error("the subscription has ended")]
    UnknownSubscription,
    /// A procedure runs once; this one was begun again.
    #[error("the procedure has already run: make a new one")]
    ProcedureReused,
    /// The configuration cannot become a command line.
    #[error("the configuration is not valid: {0}")]
    Config(String),
}

/// QEMU's answer to a command that it did not carry out, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` was refused: {class}: {description}")]
pub struct Refusal {
    /// The name of the command, as the caller wrote it; of a qtest line, its first word.
    pub command: String,
    /// The class of the error; the set is open (`GenericError`, `CommandNotFound`, `DeviceNotFound`, …).
    pub class: String,
    /// The description, for people. QEMU changes its wording between versions.
    pub description: String,
}

/// The peer's fault: it said what QMP does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message was not a JSON object.
    #[error("not a QMP message ({reason}): {excerpt}")]
    Malformed {
        /// What the parser says.
        reason: String,
        /// The first bytes of it.
        excerpt: String,
    },
    /// A message is longer than [`Limits::message`](crate::Limits::message).
    #[error("a message is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A reply came where the greeting was due.
    #[error("expected the greeting, got: {excerpt}")]
    NoGreeting {
        /// The first bytes of what came.
        excerpt: String,
    },
}

/// The host's fault: an operation of the operating system failed.
///
/// The core decides by the [`kind`](Self::kind) alone; the other members are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation}: {reason}")]
pub struct HostFault {
    /// What was tried, to be read after "cannot".
    pub operation: String,
    /// What kind of failure it is, on any operating system.
    pub kind: FaultKind,
    /// The error number of the operating system; `None` where the host itself found the fault. For display only: the
    /// numbers of two systems differ.
    pub errno: Option<i32>,
    /// What the operating system says about it.
    pub reason: String,
}

/// What kind of failure a [`HostFault`] is. The host maps the errors of its operating system to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A program, a file, a directory or the path of a socket does not exist.
    NotFound,
    /// There is a file or a socket of this name already, or the address is in use.
    Exists,
    /// The address exists, and no process listens there.
    Refused,
    /// What was asked for exists and serves another now: a listening socket whose backlog is full, a file in use. It may
    /// succeed later.
    Busy,
    /// Permission is missing, or the file system is read-only.
    Denied,
    /// A limit is reached: space on a disk, memory, open descriptors, processes.
    Full,
    /// What a process or a socket was known by names it no longer: it has ended, or another took its place.
    Gone,
    /// The operating system, or what lies at the path, cannot do this.
    Unsupported,
    /// An argument makes no sense to the operating system: a path that is too long, or leads through a file.
    Invalid,
    /// Anything else: [`HostFault::reason`] says what.
    Other,
}

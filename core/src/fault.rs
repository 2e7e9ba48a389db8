//! Faults by origin: the caller's (misuse), QEMU's (refusal), the peer's (protocol error) and the host's.

use crate::config::Service;
use crate::text::UntrustedText;

/// The caller's fault: the call was refused, and nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The machine was launched, and its run is not over.
    #[error("the machine is already launched")]
    AlreadyLaunched,
    /// The process of the previous run survived SIGKILL, and its end is not reported yet; or a file system has not
    /// answered, so that the files of that run are not created or not removed yet.
    #[error(
        "the previous run is not cleaned up yet: its process survived SIGKILL, or a file system does not answer; launch \
         again later"
    )]
    NotReaped,
    /// The machine was attached to, and not [resumed](crate::Config::resume), so its process cannot be killed.
    #[error("the machine was attached to, so it cannot be killed: shut it down or disconnect from it")]
    NotOurs,
    /// This program launched the machine, so it cannot be disconnected from: its process would have no monitor.
    #[error("the machine was launched by this program: shut it down, kill it, or detach from it")]
    Ours,
    /// The machine was not configured to [outlive its parent](crate::Config::outlive_parent), and not resumed.
    #[error("the machine was not configured to outlive its parent (`Config::outlive_parent`)")]
    NotDetachable,
    /// The thread is in no async runtime, and the machine needs the reactor of one.
    #[error("there is no async runtime here: call it inside of one")]
    NoRuntime,
    /// The call needs a machine that runs: its launch is complete, and its end has not begun.
    #[error("the machine is not running: its launch is not complete, or its end has begun")]
    NotRunning,
    /// The machine belongs to another process: this one was forked from it (`fork(2)`), and has a copy of its memory.
    #[error("the machine belongs to the process that this one was forked from: launch one here")]
    Forked,
    /// The call needs a machine that was launched.
    #[error("the machine was not launched")]
    NotLaunched,
    /// The call needs a machine that has not ended. A command that is refused so is
    /// [`CommandError::Disconnected`](crate::CommandError::Disconnected) to its caller.
    #[error("the machine has ended")]
    Ended,
    /// The machine was configured without a monitor.
    #[error("the machine was configured without a monitor: it executes no commands")]
    NoMonitor,
    /// The arguments are not a JSON object, or cannot be written as JSON. QMP requires an object, or no arguments
    /// (`docs/interop/qmp-spec.rst`, Issuing Commands).
    #[error("the arguments of `{command}` are not valid: {problem}")]
    Arguments {
        /// The command.
        command: UntrustedText,
        /// Why the arguments are not valid.
        problem: UntrustedText,
    },
    /// A raw command must be one JSON object without an `id` of its own.
    #[error("the raw command is not valid: {0}")]
    Raw(UntrustedText),
    /// The qtest command is not exactly one line. QEMU executes each line as a command of its own (QEMU,
    /// `system/qtest.c`, `qtest_process_inbuf`), so replies and commands would no longer match.
    #[error("a qtest command must be exactly one line, without a line feed")]
    QtestLine,
    /// The machine has no [companion](crate::Config::companion) of this name.
    #[error("there is no companion `{0}`: `Config::companion` adds one")]
    UnknownCompanion(UntrustedText),
    /// A qtest line was sent to a monitor that speaks QMP, or a QMP command to qtest.
    #[error("this monitor does not speak that protocol (a qtest line on QMP, or the reverse)")]
    WrongDialect,
    /// The command is to be executed out of band, but the monitor did not offer that capability. QEMU offers it to
    /// monitors that have an I/O thread (QEMU, `monitor/qmp.c`, `monitor_qmp_caps_reset`).
    #[error("`{0}` cannot be executed out of band: the monitor does not offer that")]
    NoOutOfBand(UntrustedText),
    /// The monitor is on a TCP connection, which carries no descriptors (`unix(7)`, `SCM_RIGHTS`).
    #[error("a TCP connection carries no descriptors: use a Unix socket for the monitor")]
    NoDescriptors,
    /// [`Limits::commands`](crate::Limits::commands) commands have no reply yet, or a reply that is not claimed.
    #[error("more than {0} commands at once (`Limits::commands`): claim replies or wait for them first")]
    TooManyCommands(usize),
    /// The machine was configured without this service, has given it away, or has ended.
    #[error("the machine has no {0}: it was configured without one, has given it away, or has ended")]
    NoService(Service),
    /// Another handle uses this service.
    #[error("the {0} is in use by another handle: drop that one first")]
    ServiceInUse(Service),
    /// The machine was given a connection to attach to, or descriptors for QEMU. They are closed, and cannot be opened
    /// again. [`Config::keep_fds`](crate::Config::keep_fds) keeps descriptors for QEMU open.
    #[error(
        "what the machine was given, a connection or descriptors for QEMU, is closed: it serves a single run (`Config::keep_fds` keeps descriptors for another)"
    )]
    UsedUp,
    /// There is no console of that name: [`Config::serial`](crate::Config::serial) names one.
    #[error("no console is named `{0}`")]
    UnknownConsole(UntrustedText),
    /// The console is the [log](crate::Config::follow_log), which only prints.
    #[error("the console `{0}` takes no input: it is what the process prints")]
    TakesNoInput(UntrustedText),
    /// QEMU reads the input of the console more slowly than the caller writes it, and
    /// [`Limits::console_input`](crate::Limits::console_input) bytes are queued.
    #[error(
        "more than {0} bytes wait to be written to the console (`Limits::console_input`): the guest reads too slowly"
    )]
    ConsoleInputFull(usize),
    /// [`Limits::waits`](crate::Limits::waits) waits are pending or not claimed.
    #[error("more than {0} waits at once (`Limits::waits`): claim or disown some first")]
    TooManyWaits(usize),
    /// The text is longer than [`Limits::console`](crate::Limits::console) bytes, so its beginning would be evicted
    /// before its end arrives.
    #[error("the text is longer than the {0} bytes of a console that are kept (`Limits::console`)")]
    TextTooLong(usize),
    /// The wait lists no things, so it could find nothing.
    #[error("the wait names nothing to wait for")]
    EmptyWait,
    /// The text to wait for is empty. It would be found on every console at any time.
    #[error("an empty text cannot be waited for: `Wait::output` waits for any output")]
    EmptyText,
    /// The subscription lists no events, so it would queue nothing.
    #[error("the subscription names no event: `Wait::any_event` matches every event")]
    EmptyFilter,
    /// The subscription lists a text, output, the end or another subscription. A subscription queues only events.
    #[error("a subscription queues only events")]
    NotAnEvent,
    /// [`Limits::subscriptions`](crate::Limits::subscriptions) subscriptions exist already.
    #[error("more than {0} subscriptions at once (`Limits::subscriptions`): end one first")]
    TooManySubscriptions(usize),
    /// The subscription has ended.
    #[error("the subscription has ended")]
    UnknownSubscription,
    /// The procedure has run already. A procedure runs once.
    #[error("the procedure has already run: make a new one")]
    ProcedureReused,
    /// The configuration cannot become a command line: the text says why.
    #[error("the configuration is not valid: {0}")]
    Config(UntrustedText),
}

/// QEMU's error reply to a command (`docs/interop/qmp-spec.rst`, Error).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` was refused: {class}: {description}")]
pub struct Refusal {
    /// The name of the command, as the caller wrote it. For a qtest line, its first word.
    pub command: UntrustedText,
    /// The class of the error: `GenericError`, `CommandNotFound`, `DeviceNotFound` and others. The set is open. For
    /// qtest, the first word of the reply (`FAIL`).
    pub class: UntrustedText,
    /// The description, to be read by people. Do not parse it (`docs/interop/qmp-spec.rst`, Error): QEMU changes the
    /// wording between versions.
    pub description: UntrustedText,
}

/// The peer's fault: a message breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message is not a JSON object (`docs/interop/qmp-spec.rst`, General Definitions), or lacks a required member.
    #[error("not a QMP message ({reason}): {excerpt}")]
    Malformed {
        /// Why the message cannot be read.
        reason: UntrustedText,
        /// The first 200 bytes of the message.
        excerpt: UntrustedText,
    },
    /// A message is longer than [`Limits::message`](crate::Limits::message).
    #[error("a message is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A reply arrived instead of the greeting. Only events may precede the greeting (measured with QEMU 7.2.22).
    #[error("expected the greeting, got: {excerpt}")]
    NoGreeting {
        /// The first 200 bytes of the reply.
        excerpt: UntrustedText,
    },
}

/// The host's fault: an operation of the operating system failed.
///
/// The core depends only on the [`kind`](Self::kind). The other members are for display.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation}: {reason}")]
pub struct HostFault {
    /// The operation that failed, worded to follow "cannot".
    pub operation: UntrustedText,
    /// The kind of failure, the same on every operating system.
    pub kind: FaultKind,
    /// The error number of the operating system. `None` means that the host itself found the fault. For display only:
    /// the numbers differ between systems.
    pub errno: Option<i32>,
    /// The message of the operating system.
    pub reason: UntrustedText,
}

/// Kind of a [`HostFault`]. The host maps the errors of its operating system to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum FaultKind {
    /// A program, a file, a directory or the path of a socket does not exist.
    NotFound,
    /// A file or a socket of this name exists already, or the address is in use.
    Exists,
    /// The address exists, but no process listens there.
    Refused,
    /// The address exists, and either no process listens there, or the backlog of its socket is full: FreeBSD and macOS do
    /// not tell these apart (`connect(2)`, ECONNREFUSED).
    RefusedOrBusy,
    /// The resource is in use: the backlog of a listening socket is full (`connect(2)`, EAGAIN), or a file is busy. A
    /// later attempt may succeed.
    Busy,
    /// Permission is missing, or the file system is read-only.
    Denied,
    /// A limit is reached: disk space, memory, open descriptors, processes.
    Full,
    /// The process or socket has ended, or another one has taken its id or path.
    Gone,
    /// The operating system, or the file at the path, does not support the operation.
    Unsupported,
    /// The operating system refuses an argument: a path that is too long, or one that leads through a file.
    Invalid,
    /// Any other failure: see [`HostFault::reason`].
    Other,
}

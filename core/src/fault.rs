//! Decides whose fault it is when something goes wrong: the caller's, QEMU's decision, the peer's, or the host's.

use alloc::string::String;

use crate::config::Service;

/// The caller's fault: the call made no sense, and nothing happened.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A machine is launched once in each run.
    #[error("the machine is launched already")]
    AlreadyLaunched,
    /// The process of the previous run survived SIGKILL, and its end was not reported yet.
    #[error("the process of the previous run is still there")]
    NotReaped,
    /// The process of a machine that somebody else launched is not ours to kill.
    #[error("the machine was launched by somebody else: it can be told to quit, and let go, but not be killed")]
    NotOurs,
    /// A machine that we launched is ended, not left.
    #[error("the machine was launched by us: it can be ended, but not be let go")]
    Ours,
    /// A machine that was not launched to be kept ends with us.
    #[error("the machine was not launched to be kept")]
    NotDetachable,
    /// The call needs a machine that runs: its launch is complete, and its end has not begun.
    #[error("the machine does not run")]
    NotRunning,
    /// The call needs a machine that was launched.
    #[error("the machine was not launched")]
    NotLaunched,
    /// The call needs a machine that still lives.
    #[error("the machine has ended")]
    Ended,
    /// The machine was configured without a monitor.
    #[error("the machine has no monitor")]
    NoMonitor,
    /// QMP wants an object (or nothing) as arguments; something else was given, or it could not be written as JSON.
    #[error("arguments of `{command}`: {problem}")]
    Arguments {
        /// The command.
        command: String,
        /// What is wrong with its arguments.
        problem: String,
    },
    /// A raw command must be one JSON object without an `id` of its own.
    #[error("raw command: {0}")]
    Raw(String),
    /// qtest takes one line at a time.
    #[error("qtest takes one line, without its end")]
    Line,
    /// This is not what is spoken there: a line to a monitor, or a command to qtest.
    #[error("that is not spoken there")]
    WrongDialect,
    /// The command wants to go out of band, and that was not negotiated.
    #[error("`{0}` is to go out of band, which the monitor did not offer")]
    NoOutOfBand(String),
    /// As many commands as [`Limits::commands`](crate::Limits::commands) are waiting for their end.
    #[error("more than {0} commands at once")]
    TooManyCommands(usize),
    /// The machine was configured without this port, or its connection is gone with the machine.
    #[error("the machine has no {0}")]
    NoService(Service),
    /// Somebody is attached to this port already.
    #[error("somebody speaks with the {0} already")]
    ServiceInUse(Service),
    /// A connection that was given is used once: it is closed by now.
    #[error("the connection that was given is used up")]
    UsedUp,
    /// There is no console of that name: [`Config::serial`](crate::Config::serial) names one.
    #[error("no console is named `{0}`")]
    UnknownConsole(String),
    /// More was written to a console than QEMU takes, and [`Limits::console_input`](crate::Limits::console_input)
    /// is full.
    #[error("more than {0} bytes are waiting to be typed on the console")]
    ConsoleInputFull(usize),
    /// As many waits as [`Limits::waits`](crate::Limits::waits) are pending or unclaimed.
    #[error("more than {0} waits at once")]
    TooManyWaits(usize),
    /// A text of more than [`Limits::console`](crate::Limits::console) falls out before it is complete.
    #[error("a console remembers too little to wait for a text of more than {0} bytes")]
    TextTooLong(usize),
    /// A wait for nothing, or for an empty text.
    #[error("waiting for nothing would never end")]
    EmptyWait,
    /// A subscription hears events; it was to hear a text, the end or another subscription.
    #[error("a subscription hears only events")]
    NotAnEvent,
    /// As many subscriptions as [`Limits::subscriptions`](crate::Limits::subscriptions) listen already.
    #[error("more than {0} subscriptions at once")]
    TooManySubscriptions(usize),
    /// That subscription was ended.
    #[error("nobody listens under that name any more")]
    UnknownSubscription,
    /// The configuration cannot become a command line.
    #[error("configuration: {0}")]
    Config(String),
}

/// QEMU's answer to a command that it did not carry out, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {description}")]
pub struct Refusal {
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation}: {reason}")]
pub struct HostFault {
    /// What was tried, to be read after "cannot".
    pub operation: String,
    /// The error number of the operating system; 0 where there is none.
    pub errno: i32,
    /// What the operating system says about it.
    pub reason: String,
}

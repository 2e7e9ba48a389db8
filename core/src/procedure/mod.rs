//! Procedures: tasks of several commands and waits, as pure state machines that any runtime can run.

mod add_fd_set;
mod close_node;
mod copy;
mod execute_and_wait;
mod fd_set;
mod guest_exec;
mod guest_file;
mod job;
mod lines;
mod listed_node;
mod migrate;
mod open_node;
mod power;
mod remove_fd_set;
mod resync;
mod run;
mod shell;
mod snapshot;
mod template;
mod typing;
mod unplug;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::command::Command;
use crate::error::{CommandError, Progress, WaitError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::text::Printable;
use crate::time::Moment;
use crate::wait::{Hit, Mark, Wait};
use crate::wire::Encoded;

pub use crate::undo::Undo;
pub use add_fd_set::{AddFdSet, FdSet};
pub use close_node::CloseNode;
pub use copy::{Backup, Copied, CopyTarget, ExternalSnapshot, Mirror};
pub use execute_and_wait::ExecuteAndWait;
pub use guest_exec::{GuestExec, GuestExecEnd, GuestExecError, GuestExit};
pub use guest_file::{GuestFilePart, ReadGuestFile, WriteGuestFile};
pub use job::{FollowJob, JobEnd, JobError, JobFailure, JobProgress, PROGRESS_WINDOW};
pub use lines::{ConsoleLine, Lines, NextLine};
pub use migrate::{Migrate, MigrateError, MigrationEnd};
pub use open_node::{OpenNode, OpenedNode};
pub use power::{AskGuest, AskGuestEnd, Reboot, RebootEnd, Suspend, SuspendEnd, Wake, WakeEnd};
pub use remove_fd_set::RemoveFdSet;
pub use resync::{DiskFailure, FailingDisk, MigrationInfo, Resync, Situation};
pub use run::Run;
#[cfg(feature = "record")]
pub(crate) use shell::is_panic;
pub use shell::{Shell, ShellEnd, ShellError, ShellLine, ShellProgress};
pub use snapshot::Snapshot;
pub use template::{LoadTemplate, SaveTemplate, TemplateError};
pub use typing::Typing;
pub use unplug::{Unplug, UnplugError};

/// A task of several commands and waits, as a pure state machine: every runtime can run it, and tests need none.
///
/// The runtime asks for the first step, carries it out, passes the result to the next call, and repeats this until the
/// procedure is done. Write a procedure of your own when the steps depend on each other, or when a wait must not miss
/// earlier events. QEMU sends most events of a command before its reply (measured with QEMU 7.2.22), so a wait that
/// begins at the reply misses them; the mark of [`Input::Begun`] lies before the first command.
///
/// ```
/// use qemu_machine_core::procedure::{Procedure, Input, Output};
/// use qemu_machine_core::{CommandError, Mark, Wait};
///
/// /// Resets the guest, and waits until it has reached its login again.
/// #[derive(Default)]
/// struct ResetToLogin(Mark);
///
/// impl Procedure for ResetToLogin {
///     type Return = Result<(), Box<dyn std::error::Error>>;
///
///     fn step(&mut self, input: Input) -> Output<Self::Return> {
///         match input {
///             Input::Begun(mark) => {
///                 self.0 = mark;
///                 Output::execute(&"system_reset")
///             }
///             Input::Reply(Ok(_)) => Output::wait(&self.0, [Wait::text("tty", "login: ")]),
///             Input::Reply(Err(error)) => Output::Done(Err(error.into())),
///             Input::Found(Ok(_)) => Output::Done(Ok(())),
///             Input::Found(Err(error)) => Output::Done(Err(error.into())),
///             // It waits for no events, and its wait has no time limit of its own.
///             Input::Later | Input::Missed(_) => Output::wait(&self.0, [Wait::text("tty", "login: ")]),
///         }
///     }
/// }
/// ```
pub trait Procedure {
    /// Result of the procedure.
    type Return;

    /// Returns the next step, given the result of the last one. Not called again after [`Output::Done`].
    fn step(&mut self, input: Input) -> Output<Self::Return>;

    /// Receives the position of the latest reset of the guest (the event `RESET`), or the beginning of the run, before the
    /// first step. By default drops it. A procedure that reads what a console printed before it began overrides this: what is
    /// before that position is of a previous boot. One that contains another procedure passes it on.
    fn begin_after(&mut self, reset: &Mark) {
        let _ = reset;
    }

    /// As [`step`](Self::step), with the time of the input on the clock of the driver: the last time that the driver had
    /// passed to the machine when the run took the input. A [`Run`] calls this method only. By default it drops the time.
    /// A procedure that measures, such as the rate of a job, overrides it; one that contains another procedure passes the
    /// time on.
    fn step_at(&mut self, now: Moment, input: Input) -> Output<Self::Return> {
        let _ = now;
        self.step(input)
    }

    /// Returns the commands that remove what the procedure has created in QEMU so far, for a run that is dropped: the
    /// machine executes them, and drops the replies. By default there are none. A procedure whose run times out, or is
    /// [cancelled](Run::cancel), receives the error in [`step`](Self::step) instead, and removes what it has created by
    /// further steps.
    fn undo(&self) -> Vec<Undo> {
        Vec::new()
    }
}

/// How long a procedure may clean up after its deadline has passed, or after its run was cancelled: 10 seconds. If this
/// time were part of the deadline, a job would be cancelled ten seconds before the deadline that the caller chose. QEMU
/// cancels a job within milliseconds, unless the storage does not answer.
pub const CLEAN_UP_WITHIN: Duration = Duration::from_secs(10);

/// Result of the last step of a procedure.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a procedure must handle every result")]
pub enum Input {
    /// The procedure begins; the mark is the present position in the events and consoles.
    Begun(Mark),
    /// The reply to the command, or why there is none.
    Reply(Result<Payload, CommandError>),
    /// The hit of the wait, or why there is none. The deadline of the whole procedure shows up as
    /// [`WaitError::TimedOut`] here; after it, the procedure has [`CLEAN_UP_WITHIN`] for steps that clean up.
    Found(Result<Hit, WaitError>),
    /// The time limit of the wait itself ([`Output::Wait`]) passed, and the procedure has time left.
    Later,
    /// Events after the mark of the wait were evicted from the history ([`Limits::events`](crate::Limits::events))
    /// before the wait began, and none that is kept matches: the event may have come already. The wait is over. The mark
    /// is the position of the oldest event that is kept. A procedure queries the state that the event announces, or
    /// waits again: the same events are not reported a second time.
    Missed(Mark),
}

/// Next step of a procedure.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a runtime must carry out every step")]
pub enum Output<T> {
    /// Execute this command. A command that could not be encoded gets the [`Misuse`] as its reply.
    Execute(Result<Encoded, Misuse>),
    /// Wait for the first of several things.
    Wait {
        /// Where the wait begins: earlier events and console output do not count.
        from: Mark,
        /// The things to wait for.
        things: Vec<Wait>,
        /// The longest time to wait; after it the input is [`Input::Later`]. `None` means until the deadline of the
        /// procedure.
        within: Option<Duration>,
    },
    /// Write to a console, and then wait as [`Wait`](Self::Wait) does. A write that is refused, or has no such console, is
    /// the failure of the wait: [`WaitError::Misuse`].
    Write {
        /// The name of the console.
        console: String,
        /// The bytes to write.
        bytes: Vec<u8>,
        /// As in [`Wait`](Self::Wait). A mark before the write also finds what the console prints in response at once.
        from: Mark,
        /// As in [`Wait`](Self::Wait).
        things: Vec<Wait>,
        /// As in [`Wait`](Self::Wait).
        within: Option<Duration>,
    },
    /// The procedure is done, with this result.
    Done(T),
}

impl<T> Output<T> {
    /// Returns the step that executes a command.
    #[must_use]
    pub fn execute<C: Command>(command: &C) -> Self {
        Self::Execute(Encoded::command(command))
    }

    /// Returns the step that waits for the first of several things, until the deadline of the procedure.
    #[must_use]
    pub fn wait(from: &Mark, things: impl IntoIterator<Item = Wait>) -> Self {
        Self::Wait { from: from.clone(), things: things.into_iter().collect(), within: None }
    }

    /// Returns the step of a procedure that contains another one, given a step of that one. `next` returns the step that
    /// follows when the contained procedure is done.
    fn and_then<U>(self, next: impl FnOnce(T) -> Output<U>) -> Output<U> {
        match self {
            Self::Execute(command) => Output::Execute(command),
            Self::Wait { from, things, within } => Output::Wait { from, things, within },
            Self::Write { console, bytes, from, things, within } => {
                Output::Write { console, bytes, from, things, within }
            }
            Self::Done(result) => next(result),
        }
    }
}

/// Why a procedure failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcedureError {
    /// One of its commands failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// One of its waits failed: the deadline passed, or the machine ended.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The fd set with this id was removed, and QEMU has not closed its descriptor. QEMU 7.2 closes one only while the
    /// guest runs, and only when `remove-fd` is sent, or a node on it is closed (measured with QEMU 7.2.22).
    #[error("QEMU keeps the removed descriptor of fd set {0} open: send `remove-fd` again when the guest runs")]
    DescriptorOpen(u32),
    /// A job that was to remove something has failed.
    #[error(transparent)]
    Job(Box<JobError>),
    /// It failed, and could not remove everything that it has created in QEMU.
    #[error("{error}; still {}: {}", place(remains), listed(remains))]
    Remains {
        /// Why it failed.
        error: Box<ProcedureError>,
        /// What it has created and not removed.
        remains: Vec<Remnant>,
    },
}

/// Thing in QEMU, or in its guest, that a procedure has created and could not remove.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{created} ({why})")]
#[non_exhaustive]
pub struct Remnant {
    /// The thing.
    pub created: Created,
    /// Why it was not removed, as far as is known.
    pub why: ProcedureError,
}

/// Thing that a procedure creates in QEMU, or in its guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Created {
    /// The job with this id.
    Job(String),
    /// The block node with this name.
    Node(String),
    /// The descriptor in the fd set with this id.
    FdSet(u32),
    /// The migration that QEMU sends.
    Migration,
    /// The migration for which QEMU waits at this address, if it has begun to.
    IncomingMigration(String),
    /// The fd set of this name, or for the node of this name, if QEMU has added it: its id is not known. `query-fdsets`
    /// lists it with the name as its `opaque` string.
    FdSetFor(String),
    /// An open file in the guest.
    GuestFile {
        /// The path.
        path: String,
        /// The handle, for `guest-file-close`. `None` means that the agent may have opened the file, and that the handle
        /// is not known.
        handle: Option<i64>,
    },
    /// The snapshot with this tag, if QEMU has saved it.
    Snapshot(String),
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {}", Printable::line(id)),
            Self::Node(name) => write!(f, "node {}", Printable::line(name)),
            Self::FdSet(id) => write!(f, "fd set {id}"),
            Self::Migration => f.write_str("the migration"),
            Self::IncomingMigration(address) => {
                write!(f, "perhaps an incoming migration at {}", Printable::line(address))
            }
            Self::Snapshot(tag) => write!(f, "snapshot {}", Printable::line(tag)),
            Self::FdSetFor(node) => write!(f, "perhaps an fd set named {}", Printable::line(node)),
            Self::GuestFile { path, handle: Some(handle) } => {
                write!(f, "handle {handle} of {} in the guest", Printable::line(path))
            }
            Self::GuestFile { path, handle: None } => {
                write!(f, "perhaps a handle of {} in the guest", Printable::line(path))
            }
        }
    }
}

impl ProcedureError {
    /// Returns the error of a procedure that failed with this one, and could not remove these things.
    fn with(self, remains: Vec<Remnant>) -> Self {
        if remains.is_empty() { self } else { Self::Remains { error: Box::new(self), remains } }
    }

    /// Returns whether a command that failed so may take effect all the same.
    fn may_have_effect(&self) -> bool {
        let Self::Command(error) = self else { return false };
        matches!(error, CommandError::TimedOut(Progress::Sent, _) | CommandError::Cancelled | CommandError::Broken(_))
    }

    /// Returns whether the connection was lost.
    fn is_disconnected(&self) -> bool {
        matches!(self, Self::Wait(WaitError::Disconnected) | Self::Command(CommandError::Disconnected(_)))
    }

    /// Returns what the procedure has created in QEMU and could not remove.
    #[must_use]
    pub fn remains(&self) -> &[Remnant] {
        if let Self::Remains { remains, .. } = self { remains } else { &[] }
    }
}

fn place(remains: &[Remnant]) -> &'static str {
    let is_in_guest = |remnant: &Remnant| matches!(remnant.created, Created::GuestFile { .. });
    if remains.iter().all(is_in_guest) { "open" } else { "in QEMU" }
}

impl From<JobError> for ProcedureError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Procedure(error) => error,
            error => Self::Job(Box::new(error)),
        }
    }
}

fn listed(remains: &[Remnant]) -> String {
    let all: Vec<String> = remains.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// Implements the conversions of [`ProcedureError`] for the errors of the procedures, so that `?` and `into` need one
/// step.
macro_rules! take_procedure_errors {
    ($($error:ty),+) => {
        $(
            impl From<CommandError> for $error {
                fn from(error: CommandError) -> Self {
                    Self::Procedure(error.into())
                }
            }

            impl From<WaitError> for $error {
                fn from(error: WaitError) -> Self {
                    Self::Procedure(error.into())
                }
            }
        )+
    };
}

take_procedure_errors!(GuestExecError, JobError, MigrateError, UnplugError);

//! Procedures: tasks of several commands and waits, as pure state machines that any runtime can run.

mod execute_and_wait;
mod job;
mod migrate;
mod run;
mod unplug;

use alloc::vec::Vec;
use core::time::Duration;

use crate::command::Command;
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::wait::{Hit, Mark, Wait};
use crate::wire::Encoded;

pub use execute_and_wait::ExecuteAndWait;
pub use job::{FollowJob, JobEnd, JobError};
pub use migrate::{Migrate, MigrateError, MigrationEnd};
pub use run::Run;
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
/// struct Reboot(Mark);
///
/// impl Procedure for Reboot {
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
///             // No wait of this procedure has its own time limit.
///             Input::Later => Output::Done(Ok(())),
///         }
///     }
/// }
/// ```
pub trait Procedure {
    /// Result of the procedure.
    type Return;

    /// Returns the next step, given the result of the last one. Not called again after [`Output::Done`].
    fn step(&mut self, input: Input) -> Output<Self::Return>;
}

/// Result of the last step of a procedure.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a procedure must handle every result")]
pub enum Input {
    /// The procedure begins; the mark is the present position in the events and consoles.
    Begun(Mark),
    /// The reply to the command, or why there is none.
    Reply(Result<Payload, CommandError>),
    /// The hit of the wait, or why there is none. The deadline of the whole procedure shows up as
    /// [`WaitError::TimedOut`] here.
    Found(Result<Hit, WaitError>),
    /// The time limit of the wait itself ([`Output::Wait`]) passed, and the procedure has time left.
    Later,
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

take_procedure_errors!(JobError, MigrateError, UnplugError);

//! Decides how something goes that takes several commands and events: which step is next, and on whose behalf.

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

/// Something that takes several commands and events: pure, so that every runtime can run it, and tests can without one.
///
/// A runtime asks for the first step, carries it out, tells what came of it, and so on, until it is done. Write one of
/// your own where steps depend on each other, and where a wait must not miss what happened before it: a mark that is
/// taken before the first command sees all that the command causes.
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
///             // No wait of this procedure has a time of its own.
///             Input::Later => Output::Done(Ok(())),
///         }
///     }
/// }
/// ```
pub trait Procedure {
    /// What it is done with.
    type Return;

    /// Takes what came of the last step, and says what is next. Not called any more when it was done.
    fn step(&mut self, input: Input) -> Output<Self::Return>;
}

/// What a procedure is told.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a procedure thinks about each")]
pub enum Input {
    /// It begins, at this position.
    Begun(Mark),
    /// The command was answered, or not.
    Reply(Result<Payload, CommandError>),
    /// The wait found something, or not. The deadline of the whole procedure is in it.
    Found(Result<Hit, WaitError>),
    /// The time is over for which the wait wanted to wait at most.
    Later,
}

/// What a procedure wants next.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "whatever runs a procedure carries out each")]
pub enum Output<T> {
    /// Execute this command. One that could not be encoded is answered with the reason.
    Execute(Result<Encoded, Misuse>),
    /// Wait for one of these.
    Wait {
        /// From here on.
        from: Mark,
        /// For these.
        things: Vec<Wait>,
        /// At most for so long; then the input is [`Input::Later`].
        within: Option<Duration>,
    },
    /// It is done.
    Done(T),
}

impl<T> Output<T> {
    /// Executes a command.
    #[must_use]
    pub fn execute<C: Command>(command: &C) -> Self {
        Self::Execute(Encoded::command(command))
    }

    /// Waits for as long as there is time.
    #[must_use]
    pub fn wait(from: &Mark, things: impl IntoIterator<Item = Wait>) -> Self {
        Self::Wait { from: from.clone(), things: things.into_iter().collect(), within: None }
    }
}

/// Why a procedure did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcedureError {
    /// One of its commands failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What it waited for did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Lets the errors of the procedures take what an [`ProcedureError`] takes, so that `?` and `into` reach them in one step.
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

//! Decides how something goes that takes several commands and events: which step is next, and on whose behalf.

mod caused;
mod job;
mod migrate;
mod run;
mod unplug;

use alloc::vec::Vec;
use core::time::Duration;

use crate::command::{Command, Payload};
use crate::error::{CommandError, WaitError, show_as_it_reads};
use crate::fault::Misuse;
use crate::wait::{Hit, Mark, Wait};
use crate::wire::Encoded;

pub use caused::Caused;
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
/// use qemu_machine_core::errand::{Errand, News, Next};
/// use qemu_machine_core::{CommandError, Mark, Wait};
///
/// /// Resets the guest, and waits until it has reached its login again.
/// #[derive(Default)]
/// struct Reboot(Mark);
///
/// impl Errand for Reboot {
///     type Output = Result<(), Box<dyn std::error::Error>>;
///
///     fn step(&mut self, news: News) -> Next<Self::Output> {
///         match news {
///             News::Begun(mark) => {
///                 self.0 = mark;
///                 Next::execute(&"system_reset")
///             }
///             News::Reply(Ok(_)) => Next::wait(&self.0, [Wait::text("tty", "login: ")]),
///             News::Reply(Err(error)) => Next::Done(Err(error.into())),
///             News::Found(Ok(_)) => Next::Done(Ok(())),
///             News::Found(Err(error)) => Next::Done(Err(error.into())),
///             // No wait of this errand has a time of its own.
///             News::Later => Next::Done(Ok(())),
///         }
///     }
/// }
/// ```
pub trait Errand {
    /// What it is done with.
    type Output;

    /// Takes what came of the last step, and says what is next. Not called any more when it was done.
    fn step(&mut self, news: News) -> Next<Self::Output>;
}

/// What an errand is told.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "an errand thinks about each")]
pub enum News {
    /// It begins, at this position.
    Begun(Mark),
    /// The command was answered, or not.
    Reply(Result<Payload, CommandError>),
    /// The wait found something, or not. The deadline of the whole errand is in it.
    Found(Result<Hit, WaitError>),
    /// The time is over for which the wait wanted to wait at most.
    Later,
}

/// What an errand wants next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next<T> {
    /// Execute this command. One that could not be encoded is answered with the reason.
    Execute(Result<Encoded, Misuse>),
    /// Wait for one of these.
    Wait {
        /// From here on.
        from: Mark,
        /// For these.
        things: Vec<Wait>,
        /// At most for so long; then the news are [`News::Later`].
        within: Option<Duration>,
    },
    /// It is done.
    Done(T),
}

impl<T> Next<T> {
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

/// Why an errand did not come to its end.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrandError {
    /// One of its commands failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What it waited for did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Lets the errors of the errands take what an [`ErrandError`] takes, so that `?` and `into` reach them in one step.
macro_rules! take_errand_errors {
    ($($error:ty),+) => {
        $(
            impl From<CommandError> for $error {
                fn from(error: CommandError) -> Self {
                    Self::Errand(error.into())
                }
            }

            impl From<WaitError> for $error {
                fn from(error: WaitError) -> Self {
                    Self::Errand(error.into())
                }
            }
        )+
    };
}

take_errand_errors!(JobError, MigrateError, UnplugError);
show_as_it_reads!(ErrandError, JobError, MigrateError, UnplugError);

//! Failure of a companion: why it failed the launch of its machine.

use crate::fault::HostFault;
use crate::input::ExitStatus;

/// Why a companion failed the launch of its machine. [`Outcome::companions`](crate::Outcome::companions) has its last words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompanionFailure {
    /// The host could not start it.
    #[error(transparent)]
    Host(HostFault),
    /// It ended before the machine was ready. One that exits with status 0 has mostly put itself into the background.
    #[error("it ended before the machine was ready ({0}){hint}", hint = hint(.0))]
    Exited(ExitStatus),
    /// The deadline of the launch passed before it was ready: its program was not executed yet, or its socket did not
    /// listen.
    #[error("it was not ready within the deadline of the launch")]
    NotReady,
}

fn hint(status: &ExitStatus) -> &'static str {
    if *status == ExitStatus::Code(0) { ": it must stay in the foreground" } else { "" }
}

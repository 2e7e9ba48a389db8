//! Procedure that asks the agent in the guest for a reboot, a power-off or a suspension.

use serde_json::{Value, json};

use super::super::{Procedure, ProcedureError};
use crate::error::{CommandError, Progress, WaitError};
use crate::fault::Misuse;
use crate::procedure;
use crate::wire::Encoded;

/// Asks the guest to reboot, to power off or to suspend, by its agent. It runs on the agent (`Agent::run`, or the machine
/// that is attached to the agent), while [`Reboot`](super::Reboot), [`Suspend`](super::Suspend) or a wait for the end
/// observes on the machine itself what the guest does.
///
/// The agent sends no reply to these commands when they succeed (QEMU, `qga/qapi-schema.json`, `guest-shutdown`), and the
/// guest may end its agent before the agent answers the next request. So an answer that does not come within the deadline,
/// or a connection that is lost after the request was sent, is [`AskGuestEnd::Unanswered`] and no error. Choose a short
/// deadline.
///
/// ```
/// use qemu_machine_core::Mark;
/// use qemu_machine_core::procedure::{AskGuest, Reboot};
///
/// # fn example(mark: Mark) {
/// // let mark = vm.mark();
/// // agent.run(AskGuest::reboot(), Duration::from_secs(5))?;
/// let reboot = Reboot::asked(&mark);
/// // let end = vm.run(reboot, Duration::from_secs(90))?;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct AskGuest(Option<Result<Encoded, Misuse>>);

/// State of a request to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskGuestEnd {
    /// The agent has executed the request.
    Accepted,
    /// The request was sent, and the agent was gone or busy before it answered.
    Unanswered,
}

impl AskGuest {
    /// Returns a procedure that asks for a reboot (`guest-shutdown`).
    pub fn reboot() -> Self {
        Self::shutdown("reboot")
    }

    /// Returns a procedure that asks for a power-off (`guest-shutdown`).
    pub fn power_off() -> Self {
        Self::shutdown("powerdown")
    }

    /// Returns a procedure that asks for a suspension to RAM (`guest-suspend-ram`). Query
    /// [`wakeup_suspend_support`](crate::commands::CurrentMachine::wakeup_suspend_support) first: without it, the guest does
    /// not wake up (QEMU, `qga/qapi-schema.json`, `guest-suspend-ram`).
    pub fn suspend() -> Self {
        Self(Some(Encoded::command(&"guest-suspend-ram")))
    }

    fn shutdown(mode: &str) -> Self {
        Self(Some(Encoded::command(&("guest-shutdown", json!({"mode": mode})))))
    }
}

impl Procedure for AskGuest {
    type Return = Result<AskGuestEnd, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        procedure::Output::Done(match input {
            procedure::Input::Begun(_) => {
                return procedure::Output::Execute(self.0.take().unwrap_or(Err(Misuse::ProcedureReused)));
            }
            procedure::Input::Reply(Ok(reply)) => {
                reply.reply::<Value>().map(|_| AskGuestEnd::Accepted).map_err(Into::into)
            }
            procedure::Input::Reply(Err(
                CommandError::Disconnected(Progress::Sent) | CommandError::TimedOut(Progress::Sent, _),
            )) => Ok(AskGuestEnd::Unanswered),
            procedure::Input::Reply(Err(error)) => Err(error.into()),
            // It waits for nothing.
            procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_) => {
                Err(WaitError::FoundOther.into())
            }
        })
    }
}

//! Procedure that waits until the guest is suspended to RAM.

use alloc::boxed::Box;

use super::super::{Procedure, ProcedureError};
use crate::commands::{QueryStatus, Status};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::outcome::Outcome;
use crate::payload::Payload;
use crate::procedure;
use crate::wait::{Found, Hit, Mark, Wait};

/// Waits until a guest that was asked to suspend has done that: QEMU sends `SUSPEND` (QEMU, `qapi/run-state.json`), and the
/// run state is `suspended`. [`Wake`](super::Wake) wakes it up; a device may do so as well, such as its clock.
///
/// QEMU has no command that suspends a guest: ask its agent ([`AskGuest::suspend`](super::AskGuest::suspend)), or use a
/// console. Before, query whether it can wake up at all:
///
/// ```
/// use qemu_machine_core::Mark;
/// use qemu_machine_core::commands::QueryCurrentMachine;
/// use qemu_machine_core::procedure::{AskGuest, Suspend, Wake};
///
/// # fn example(mark: Mark) {
/// // if vm.execute(QueryCurrentMachine)?.wakeup_suspend_support {
/// //     let mark = vm.mark();
/// //     agent.run(AskGuest::suspend(), Duration::from_secs(5))?;
/// //     vm.run(Suspend::asked(&mark), Duration::from_secs(30))?;
/// //     vm.run(Wake::new(), Duration::from_secs(30))?;
/// // }
/// # }
/// ```
///
/// A guest that suspends to disk powers off instead, which ends QEMU ([`SuspendEnd::Ended`]).
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Suspend {
    mark: Mark,
    begun: bool,
}

/// How a suspension ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuspendEnd {
    /// The guest was suspended to RAM.
    Suspended,
    /// QEMU has ended: the guest powered off, suspended to disk, or something else ended QEMU. The cause is in the outcome.
    Ended(Box<Outcome>),
}

type Step = procedure::Output<Result<SuspendEnd, ProcedureError>>;

impl Suspend {
    /// Returns a procedure for a guest that was asked to suspend after this mark.
    pub fn asked(since: &Mark) -> Self {
        Self { mark: since.clone(), begun: false }
    }

    fn wait(&self) -> Step {
        procedure::Output::wait(&self.mark, [Wait::event("SUSPEND"), Wait::end()])
    }

    /// Handles the reply of `query-status`, after events were missed.
    fn replied(&self, reply: Payload) -> Step {
        match reply.reply::<Status>() {
            Ok(status) if status.status == "suspended" => procedure::Output::Done(Ok(SuspendEnd::Suspended)),
            Ok(_) => self.wait(),
            Err(error) => procedure::Output::Done(Err(error.into())),
        }
    }

    fn found(hit: Hit) -> Result<SuspendEnd, ProcedureError> {
        match hit.found {
            Found::Event(_) => Ok(SuspendEnd::Suspended),
            Found::End(outcome) => Ok(SuspendEnd::Ended(outcome)),
            // Only these were waited for.
            _ => Err(WaitError::FoundOther.into()),
        }
    }
}

impl Procedure for Suspend {
    type Return = Result<SuspendEnd, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(_) | procedure::Input::Later => self.wait(),
            procedure::Input::Missed(oldest) => {
                self.mark = oldest;
                procedure::Output::execute(&QueryStatus)
            }
            procedure::Input::Reply(Ok(reply)) => self.replied(reply),
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => procedure::Output::Done(Self::found(hit)),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
        }
    }
}

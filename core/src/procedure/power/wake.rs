//! Procedure that wakes a suspended guest.

use super::super::{Procedure, ProcedureError};
use crate::command::Command;
use crate::commands::{QueryStatus, Status};
use crate::error::{CommandError, WaitError};
use crate::fault::{Misuse, Refusal};
use crate::payload::Payload;
use crate::procedure;
use crate::wait::{Found, Mark, Wait};

/// Wakes a guest that is suspended to RAM (`system_wakeup`), and waits until it runs: QEMU sends `WAKEUP` (QEMU,
/// `qapi/run-state.json`). QEMU refuses when the guest is not suspended, or cannot be woken up; a guest that runs already is
/// no error.
///
/// ```
/// use qemu_machine_core::procedure::Wake;
///
/// let wake = Wake::new();
/// // vm.run(wake, Duration::from_secs(30))?;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Wake {
    mark: Mark,
    asked: Asked,
    /// Why QEMU refused to wake the guest up.
    refusal: Option<Refusal>,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    New,
    Waking,
    RunState,
}

/// How a guest came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeEnd {
    /// The guest was woken up, by this procedure or by a device.
    Woken,
    /// The guest was not suspended, and runs.
    Awake,
}

type Step = procedure::Output<Result<WakeEnd, ProcedureError>>;

impl Wake {
    /// Returns the procedure.
    pub fn new() -> Self {
        Self::default()
    }

    fn ask(&mut self, asked: Asked, command: &impl Command) -> Step {
        self.asked = asked;
        procedure::Output::execute(command)
    }

    fn wait(&self) -> Step {
        procedure::Output::wait(&self.mark, [Wait::event("WAKEUP"), Wait::end()])
    }

    /// Handles the reply of `query-status`: after a refusal, or after events were missed.
    fn is_now(&mut self, reply: Payload) -> Step {
        match (reply.reply::<Status>(), self.refusal.take()) {
            (Ok(Status { running: true, .. }), refusal) => {
                procedure::Output::Done(Ok(if refusal.is_some() { WakeEnd::Awake } else { WakeEnd::Woken }))
            }
            (_, Some(refusal)) => procedure::Output::Done(Err(CommandError::Refused(refusal).into())),
            (Ok(_), None) => self.wait(),
            (Err(error), None) => procedure::Output::Done(Err(error.into())),
        }
    }
}

impl Procedure for Wake {
    type Return = Result<WakeEnd, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.asked != Asked::New => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(mark) => {
                self.mark = mark;
                self.ask(Asked::Waking, &"system_wakeup")
            }
            procedure::Input::Reply(Err(CommandError::Refused(refusal))) if self.asked == Asked::Waking => {
                self.refusal = Some(refusal);
                self.ask(Asked::RunState, &QueryStatus)
            }
            procedure::Input::Missed(oldest) => {
                self.mark = oldest;
                self.ask(Asked::RunState, &QueryStatus)
            }
            procedure::Input::Reply(Ok(reply)) if self.asked == Asked::RunState => self.is_now(reply),
            procedure::Input::Reply(Ok(_)) | procedure::Input::Later => self.wait(),
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => procedure::Output::Done(match hit.found {
                Found::Event(_) => Ok(WakeEnd::Woken),
                Found::End(outcome) => Err(WaitError::Ended(outcome).into()),
                // Only these were waited for.
                _ => Err(WaitError::FoundOther.into()),
            }),
        }
    }
}

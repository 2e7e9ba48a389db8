//! Procedure that executes a command and waits for the event that it causes.

use crate::procedure;
use alloc::vec::Vec;

use super::{Procedure, ProcedureError};
use crate::command::Command;
use crate::fault::Misuse;
use crate::wait::{Hit, Mark, Wait};
use crate::wire::Encoded;

/// Executes a command and waits for the first of several things. The wait begins before the command, so an event that
/// QEMU sends ahead of the reply is found too, as `STOP` is sent ahead of the reply to `stop` (measured with QEMU
/// 7.2.22).
///
/// ```
/// use qemu_machine_core::procedure::ExecuteAndWait;
/// use qemu_machine_core::{Wait, json};
///
/// let dump = ("dump-guest-memory", json!({"paging": false, "protocol": "file:/tmp/dump", "detach": true}));
/// let dumped = ExecuteAndWait::new(&dump, [Wait::event("DUMP_COMPLETED")]);
/// // let (_, hit) = vm.run(dumped, Duration::from_secs(60))?;
/// ```
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct ExecuteAndWait<C: Command> {
    command: Option<Result<Encoded, Misuse>>,
    things: Vec<Wait>,
    mark: Mark,
    reply: Option<C::Reply>,
}

impl<C: Command> ExecuteAndWait<C> {
    /// Returns a procedure that executes this command and waits for the first of these things.
    pub fn new(command: &C, things: impl IntoIterator<Item = Wait>) -> Self {
        let (command, things) = (Some(Encoded::command(command)), things.into_iter().collect());
        Self { command, things, mark: Mark::default(), reply: None }
    }
}

impl<C: Command> Procedure for ExecuteAndWait<C> {
    /// The reply, and the hit of the wait.
    type Return = Result<(C::Reply, Hit), ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(mark) => {
                self.mark = mark;
                procedure::Output::Execute(self.command.take().unwrap_or(Err(Misuse::ProcedureReused)))
            }
            procedure::Input::Reply(reply) => match reply.and_then(|reply| reply.reply::<C::Reply>()) {
                Ok(reply) => {
                    self.reply = Some(reply);
                    procedure::Output::wait(&self.mark, self.things.clone())
                }
                Err(error) => procedure::Output::Done(Err(error.into())),
            },
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => match self.reply.take() {
                Some(reply) => procedure::Output::Done(Ok((reply, hit))),
                // Not reached: the wait begins after the reply.
                None => procedure::Output::wait(&self.mark, self.things.clone()),
            },
            // The things are the caller's, so there is no state to query: they may still come.
            procedure::Input::Later | procedure::Input::Missed(_) => {
                procedure::Output::wait(&self.mark, self.things.clone())
            }
        }
    }
}

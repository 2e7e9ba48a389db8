//! Execution of a procedure on a machine: the present step, and the reply or the wait that it depends on.

use super::Procedure;
use crate::command::CommandId;
use crate::error::{CommandError, WaitError};
use crate::machine::Machine;
use crate::notice::Notice;
use crate::procedure;
use crate::time::{Deadline, Moment};
use crate::wait::WaitId;

/// A procedure that is executed on a machine, for the driver of the machine.
///
/// A step has three parts: [`take_result`](Self::take_result) takes the result of the last step from the machine,
/// [`next_step`](Self::next_step) calls the procedure, which may run code of the caller and touches no machine, and
/// [`carry_out`](Self::carry_out) executes the command or begins the wait. A driver that shares the machine with other
/// threads releases its lock for the second part; otherwise the caller's code would block them. A driver that does not
/// share it calls [`advance`](Self::advance), which does all three, on each notice that the procedure
/// [`awaits`](Self::awaits).
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is advanced"]
pub struct Run<E: Procedure> {
    procedure: E,
    deadline: Deadline,
    /// The time of the deadline. `None` before the procedure begins, and when it has no deadline.
    until: Option<Moment>,
    state: State<E::Return>,
}

#[derive(Debug)]
enum State<T> {
    New,
    /// The result of the last step, which the procedure has not received yet.
    Input(procedure::Input),
    /// The next step, which is not carried out yet.
    Output(procedure::Output<T>),
    Reply(CommandId),
    Wait {
        id: WaitId,
        /// Whether its time limit passes before the deadline of the procedure.
        is_short: bool,
    },
    Over,
}

impl<E: Procedure> Run<E> {
    /// Returns a procedure that has not begun. The deadline bounds all of its steps together, and starts with the
    /// first.
    pub fn new(procedure: E, deadline: Deadline) -> Self {
        Self { procedure, deadline, until: None, state: State::New }
    }

    /// Returns the notice that the procedure waits for. `None` means that it has not begun, can advance now, or is
    /// over.
    #[must_use]
    pub fn awaits(&self) -> Option<Notice> {
        match self.state {
            State::Reply(id) => Some(Notice::Answered(id)),
            State::Wait { id, .. } => Some(Notice::Waited(id)),
            State::New | State::Input(_) | State::Output(_) | State::Over => None,
        }
    }

    /// Advances the procedure until it must wait. Returns its result once, when it is done; `None` means that it waits.
    pub fn advance(&mut self, machine: &mut Machine, now: Moment) -> Option<E::Return> {
        while self.take_result(machine) {
            if let Some(output) = self.next_step() {
                return Some(output);
            }
            self.carry_out(machine, now);
        }
        None
    }

    /// Takes the result of the last step from the machine, if there is one. Returns whether
    /// [`next_step`](Self::next_step) is due.
    pub fn take_result(&mut self, machine: &mut Machine) -> bool {
        let input = match self.state {
            State::New => Some(procedure::Input::Begun(machine.mark())),
            State::Input(_) => return true,
            State::Reply(id) => machine.take(id).map(procedure::Input::Reply),
            State::Wait { id, is_short } => machine.claim_wait(id).map(|found| match found {
                Err(WaitError::TimedOut) if is_short => procedure::Input::Later,
                found => procedure::Input::Found(found),
            }),
            State::Output(_) | State::Over => None,
        };
        let is_input = input.is_some();
        if let Some(input) = input {
            self.state = State::Input(input);
        }
        is_input
    }

    /// Passes the result of the last step, if there is one, to the procedure, which chooses the next step. Returns the
    /// result of the procedure once, when it is done.
    pub fn next_step(&mut self) -> Option<E::Return> {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Input(input) => match self.procedure.step(input) {
                procedure::Output::Done(output) => return Some(output),
                next => self.state = State::Output(next),
            },
            state => self.state = state,
        }
        None
    }

    /// Executes the command of the next step, or begins its wait, if there is a next step.
    pub fn carry_out(&mut self, machine: &mut Machine, now: Moment) {
        self.until = self.until.or_else(|| self.deadline.passes_at(now));
        let left = self.until.map_or(self.deadline, |until| Deadline::after(until.since(now)));
        self.state = match core::mem::replace(&mut self.state, State::Over) {
            State::Output(procedure::Output::Execute(command)) => {
                match command.and_then(|command| machine.send(now, &command, left)) {
                    Ok(id) => State::Reply(id),
                    Err(misuse) => State::Input(procedure::Input::Reply(Err(misuse.into()))),
                }
            }
            State::Output(procedure::Output::Wait { from, things, within }) => {
                let is_short = within.filter(|within| self.until.is_none_or(|until| now.after(*within) < until));
                let within = is_short.map_or(left, Deadline::after);
                match machine.wait(now, &from, things, within) {
                    Ok(id) => State::Wait { id, is_short: is_short.is_some() },
                    Err(misuse) => State::Input(procedure::Input::Found(Err(misuse.into()))),
                }
            }
            state => state,
        };
    }

    /// Disowns the pending command or wait, and makes [`CommandError::Cancelled`] or [`WaitError::Cancelled`] its result,
    /// with which the procedure decides how it ends. Work that its commands started in QEMU continues.
    pub fn cancel(&mut self, machine: &mut Machine) {
        match self.state {
            State::Reply(id) => {
                machine.disown(id);
                self.state = State::Input(procedure::Input::Reply(Err(CommandError::Cancelled)));
            }
            State::Wait { id, .. } => {
                machine.disown_wait(id);
                self.state = State::Input(procedure::Input::Found(Err(WaitError::Cancelled)));
            }
            State::New | State::Input(_) | State::Output(_) | State::Over => {}
        }
    }

    /// Ends the procedure without a result, and disowns its pending command or wait. Work that its commands started in
    /// QEMU continues.
    pub fn disown(&mut self, machine: &mut Machine) {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Reply(id) => machine.disown(id),
            State::Wait { id, .. } => machine.disown_wait(id),
            State::New | State::Input(_) | State::Output(_) | State::Over => {}
        }
    }
}

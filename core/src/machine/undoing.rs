//! Undoing: commands of dropped procedures that remove what those have created in QEMU.

use alloc::vec::Vec;

use super::Machine;
use super::request::{self, Request};
use crate::command::CommandId;
use crate::error::CommandError;
use crate::event::Event;
use crate::payload::Payload;
use crate::time::{COMMAND_WITHIN, Moment};
use crate::undo::{Then, Undo};
use crate::wire::Encoded;

/// An undo that is not complete.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Undoing {
    /// The command that awaits its reply: the one that creates the thing, or the one that removes it. `None` means that
    /// only the event is awaited.
    command: Option<CommandId>,
    /// The undo, as long as the creation has no reply.
    undo: Option<Undo>,
    /// The commands that follow. Their events count once the previous command was sent.
    then: Then,
}

impl Machine {
    /// Executes a command that removes what a dropped procedure has created, with the command of the procedure that has
    /// no reply yet. The replies are dropped. The commands have 60 seconds each.
    pub(crate) fn undo(&mut self, now: Moment, pending: Option<CommandId>, undo: Undo) {
        self.request(now, request::Undo { pending, undo });
    }

    /// Takes the answer of a command, if no caller is to receive it.
    pub(super) fn undo_answered(
        &mut self,
        id: CommandId,
        answer: Result<Payload, CommandError>,
    ) -> Option<Result<Payload, CommandError>> {
        if self.undoing.is_empty() {
            return Some(answer);
        }
        let (answered, others) = self.undoing.drain(..).partition(|undoing: &Undoing| undoing.command == Some(id));
        self.undoing = others;
        if Vec::is_empty(&answered) {
            return Some(answer);
        }
        if let Ok(reply) = answer {
            answered.into_iter().for_each(|undoing| self.go_on(undoing, &reply));
        }
        None
    }

    /// Goes on with an undo whose command succeeded.
    fn go_on(&mut self, undoing: Undoing, reply: &Payload) {
        match undoing {
            Undoing { undo: Some(undo), .. } => {
                let command = undo.command(reply);
                command.into_iter().for_each(|command| self.execute_undo(&command, undo.then.clone()));
            }
            Undoing { then, .. } if then.steps.is_empty() => {}
            Undoing { then, .. } => self.undoing.push(Undoing { command: None, undo: None, then }),
        }
    }

    fn execute_undo(&mut self, command: &Encoded, then: Then) {
        // Without a monitor or a free place, the thing stays: no caller is left to receive the error.
        if let Ok(id) = self.issue(self.now, command, COMMAND_WITHIN) {
            self.undoing.push(Undoing { command: Some(id), undo: None, then });
        }
    }

    /// Executes the commands that follow this event.
    pub(super) fn undo_on(&mut self, event: &Event) {
        if self.undoing.is_empty() {
            return;
        }
        let due: Vec<_> = self.undoing.iter_mut().filter_map(|undoing| undoing.take_due(event)).collect();
        self.undoing.retain(|undoing| undoing.command.is_some() || !undoing.then.steps.is_empty());
        due.into_iter().for_each(|(command, then)| self.execute_undo(&command, then));
    }
}

impl Undoing {
    /// Takes the next command, if it follows this event, and those that follow it.
    fn take_due(&mut self, event: &Event) -> Option<(Encoded, Then)> {
        let awaited = if self.then.is_any { self.then.steps.len() } else { 1 };
        let mut candidates = self.then.steps.iter().take(awaited);
        let due = candidates.position(|(filter, _)| self.undo.is_none() && filter.wants(event))?;
        let mut then = core::mem::take(&mut self.then);
        let (_, command) = then.steps.remove(due);
        Some((command, if then.is_any { Then::default() } else { then }))
    }
}

/// [`Machine::undo`].
impl Request for request::Undo {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        if !self.undo.needs_reply {
            return machine.execute_undo(&self.undo.command, self.undo.then);
        }
        let Some(id) = self.pending else { return };
        machine.undoing.push(Undoing { command: Some(id), undo: Some(self.undo), then: Then::default() });
        if let Ok(place) = machine.answers.binary_search_by_key(&id, |(id, _)| *id) {
            let answer = machine.answers.remove(place);
            drop(answer.and_then(|(id, answer)| machine.undo_answered(id, answer)));
        }
    }
}

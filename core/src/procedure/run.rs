//! Decides how far a procedure is on a machine, what it waits for there, and what is left of it when it is given up.

use super::Procedure;
use crate::command::CommandId;
use crate::error::WaitError;
use crate::machine::Machine;
use crate::notice::Notice;
use crate::procedure;
use crate::time::{Deadline, Moment};
use crate::wait::WaitId;

/// A procedure that is under way on a machine, for whoever drives the machine.
///
/// It goes round in three parts: [`hear`](Self::hear) what came of the last step, [`think`](Self::think) of the next one,
/// which is the procedure's own doing and touches no machine, and [`act`](Self::act). A loop that has the machine to itself
/// takes them together, as [`advance`](Self::advance), whenever the notice came that the procedure
/// [`awaits`](Self::awaits).
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is advanced"]
pub struct Run<E: Procedure> {
    procedure: E,
    deadline: Deadline,
    /// When all is to be over, once it has begun.
    until: Option<Moment>,
    state: State<E::Return>,
}

#[derive(Debug)]
enum State<T> {
    New,
    Heard(procedure::Input),
    Thought(procedure::Output<T>),
    Reply(CommandId),
    Wait {
        id: WaitId,
        /// Whether it may end before the procedure has to.
        is_short: bool,
    },
    Over,
}

impl<E: Procedure> Run<E> {
    /// A procedure that has not begun. One deadline bounds all that it does.
    pub fn new(procedure: E, deadline: Deadline) -> Self {
        Self { procedure, deadline, until: None, state: State::New }
    }

    /// The notice without which there is nothing to do; none before it began, and when it is over.
    #[must_use]
    pub fn awaits(&self) -> Option<Notice> {
        match self.state {
            State::Reply(id) => Some(Notice::Answered(id)),
            State::Wait { id, .. } => Some(Notice::Waited(id)),
            State::New | State::Heard(_) | State::Thought(_) | State::Over => None,
        }
    }

    /// Goes on as far as it can without waiting. What it is done with is given once.
    pub fn advance(&mut self, machine: &mut Machine, now: Moment) -> Option<E::Return> {
        while self.hear(machine) {
            if let Some(output) = self.think() {
                return Some(output);
            }
            self.act(machine, now);
        }
        None
    }

    /// Takes what came of the last step, if it is over. Whether there is something to think about.
    pub fn hear(&mut self, machine: &mut Machine) -> bool {
        let news = match self.state {
            State::New => Some(procedure::Input::Begun(machine.mark())),
            State::Heard(_) => return true,
            State::Reply(id) => machine.take(id).map(procedure::Input::Reply),
            State::Wait { id, is_short } => machine.claim_wait(id).map(|found| match found {
                Err(WaitError::TimedOut) if is_short => procedure::Input::Later,
                found => procedure::Input::Found(found),
            }),
            State::Thought(_) | State::Over => None,
        };
        let is_news = news.is_some();
        if let Some(news) = news {
            self.state = State::Heard(news);
        }
        is_news
    }

    /// Lets the procedure decide on its next step, if there is news. What it is done with is given once.
    pub fn think(&mut self) -> Option<E::Return> {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Heard(news) => match self.procedure.step(news) {
                procedure::Output::Done(output) => return Some(output),
                next => self.state = State::Thought(next),
            },
            state => self.state = state,
        }
        None
    }

    /// Carries out the next step, if there is one.
    pub fn act(&mut self, machine: &mut Machine, now: Moment) {
        self.until = self.until.or_else(|| self.deadline.passes_at(now));
        let left = self.until.map_or(self.deadline, |until| Deadline::after(until.since(now)));
        self.state = match core::mem::replace(&mut self.state, State::Over) {
            State::Thought(procedure::Output::Execute(command)) => {
                match command.and_then(|command| machine.send(now, &command, left)) {
                    Ok(id) => State::Reply(id),
                    Err(misuse) => State::Heard(procedure::Input::Reply(Err(misuse.into()))),
                }
            }
            State::Thought(procedure::Output::Wait { from, things, within }) => {
                let is_short = within.filter(|within| self.until.is_none_or(|until| now.after(*within) < until));
                let within = is_short.map_or(left, Deadline::after);
                match machine.wait(now, &from, things, within) {
                    Ok(id) => State::Wait { id, is_short: is_short.is_some() },
                    Err(misuse) => State::Heard(procedure::Input::Found(Err(misuse.into()))),
                }
            }
            state => state,
        };
    }

    /// Nobody wants it any more: what it waits for is disowned. What its commands began goes on.
    pub fn give_up(&mut self, machine: &mut Machine) {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Reply(id) => machine.disown(id),
            State::Wait { id, .. } => machine.forget(id),
            State::New | State::Heard(_) | State::Thought(_) | State::Over => {}
        }
    }
}

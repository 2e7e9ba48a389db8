//! Decides how far an errand is on a machine, what it waits for there, and what is left of it when it is given up.

use super::{Errand, News, Next};
use crate::command::CommandId;
use crate::error::WaitError;
use crate::machine::Machine;
use crate::notice::Notice;
use crate::time::{Deadline, Moment};
use crate::wait::WaitId;

/// An errand that is under way on a machine, for whoever drives the machine.
///
/// It goes round in three parts: [`hear`](Self::hear) what came of the last step, [`think`](Self::think) of the next one,
/// which is the errand's own doing and touches no machine, and [`act`](Self::act). A loop that has the machine to itself
/// takes them together, as [`advance`](Self::advance), whenever the notice came that the errand
/// [`awaits`](Self::awaits).
#[derive(Debug)]
#[must_use = "an errand does nothing until it is advanced"]
pub struct Run<E: Errand> {
    errand: E,
    deadline: Deadline,
    /// When all is to be over, once it has begun.
    until: Option<Moment>,
    state: State<E::Output>,
}

#[derive(Debug)]
enum State<T> {
    New,
    Heard(News),
    Thought(Next<T>),
    Reply(CommandId),
    Wait {
        id: WaitId,
        /// Whether it may end before the errand has to.
        is_short: bool,
    },
    Over,
}

impl<E: Errand> Run<E> {
    /// An errand that has not begun. One deadline bounds all that it does.
    pub fn new(errand: E, deadline: Deadline) -> Self {
        Self { errand, deadline, until: None, state: State::New }
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
    pub fn advance(&mut self, machine: &mut Machine, now: Moment) -> Option<E::Output> {
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
            State::New => Some(News::Begun(machine.mark())),
            State::Heard(_) => return true,
            State::Reply(id) => machine.take(id).map(News::Reply),
            State::Wait { id, is_short } => machine.claim_wait(id).map(|found| match found {
                Err(WaitError::TimedOut) if is_short => News::Later,
                found => News::Found(found),
            }),
            State::Thought(_) | State::Over => None,
        };
        let is_news = news.is_some();
        if let Some(news) = news {
            self.state = State::Heard(news);
        }
        is_news
    }

    /// Lets the errand decide on its next step, if there is news. What it is done with is given once.
    pub fn think(&mut self) -> Option<E::Output> {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Heard(news) => match self.errand.step(news) {
                Next::Done(output) => return Some(output),
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
            State::Thought(Next::Execute(command)) => {
                match command.and_then(|command| machine.send(now, &command, left)) {
                    Ok(id) => State::Reply(id),
                    Err(misuse) => State::Heard(News::Reply(Err(misuse.into()))),
                }
            }
            State::Thought(Next::Wait { from, things, within }) => {
                let is_short = within.filter(|within| self.until.is_none_or(|until| now.after(*within) < until));
                let within = is_short.map_or(left, Deadline::after);
                match machine.wait(now, &from, things, within) {
                    Ok(id) => State::Wait { id, is_short: is_short.is_some() },
                    Err(misuse) => State::Heard(News::Found(Err(misuse.into()))),
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

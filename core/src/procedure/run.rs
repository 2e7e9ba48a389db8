//! Execution of a procedure on a machine: the present step, and the reply or the wait that it depends on.

use alloc::vec::Vec;
use core::time::Duration;

use super::{CLEAN_UP_WITHIN, Procedure};
use crate::command::CommandId;
use crate::error::{CommandError, WaitError};
use crate::machine::Machine;
use crate::notice::Notice;
use crate::procedure;
use crate::time::{Deadline, Moment};
use crate::undo::Undo;
use crate::wait::{Mark, Wait, WaitId};

/// A procedure that is executed on a machine, for the driver of the machine.
///
/// A step has three parts: [`take_result`](Self::take_result) takes the result of the last step from the machine,
/// [`next_step`](Self::next_step) calls the procedure, which may run code of the caller and touches no machine, and
/// [`carry_out`](Self::carry_out) executes the command or begins the wait. A driver that shares the machine with other
/// threads releases its lock for the second part; otherwise the caller's code would block them. A driver that does not
/// share it calls [`advance`](Self::advance), which does all three, on each notice that the procedure
/// [`awaits`](Self::awaits).
///
/// When the deadline passes, or the run is [cancelled](Self::cancel), the procedure receives the error, and has
/// [`CLEAN_UP_WITHIN`] for steps that remove what it has created in QEMU. A procedure that has created nothing ends at
/// once. A run that is [disowned](Self::disown) takes no further step, so the machine itself executes what the procedure
/// names as its [`undo`](Procedure::undo). A driver that drops a run without that leaves in QEMU what was created.
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is advanced"]
pub struct Run<E: Procedure> {
    procedure: E,
    deadline: Deadline,
    /// The time of the deadline. `None` before the procedure begins, and when it has no deadline.
    until: Option<Moment>,
    /// The time of the last input.
    now: Moment,
    stage: Stage,
    /// The position of the latest reset before the procedure begins.
    reset: Mark,
    /// The number of the first event that was not reported as missed.
    reported: u64,
    state: State<E::Return>,
    /// The undo that the procedure named. `None` means that it was not asked.
    undo: Option<Vec<Undo>>,
}

/// Which time bounds the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// That of the deadline.
    Work,
    /// The deadline passed, or the run was cancelled. The time for the clean-up begins with the next step.
    Stopped,
    /// That of the clean-up.
    CleanUp,
}

#[derive(Debug)]
enum State<T> {
    New,
    /// The procedure is called. It stays so when the procedure panics.
    Step,
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
        let (stage, reported) = (Stage::Work, 0);
        let now = Moment::ORIGIN;
        let reset = Mark::default();
        Self { procedure, deadline, until: None, now, stage, reset, reported, state: State::New, undo: None }
    }

    /// Returns the notice that the procedure waits for. `None` means that it has not begun, can advance now, or is
    /// over.
    #[must_use]
    pub fn awaits(&self) -> Option<Notice> {
        match self.state {
            State::Reply(id) => Some(Notice::Answered(id)),
            State::Wait { id, .. } => Some(Notice::Waited(id)),
            State::New | State::Step | State::Input(_) | State::Output(_) | State::Over => None,
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
            State::New => {
                self.reset = machine.last_reset().clone();
                Some(procedure::Input::Begun(machine.mark()))
            }
            State::Input(_) => return true,
            State::Reply(id) => machine.take(id).map(procedure::Input::Reply),
            State::Wait { id, is_short } => machine.claim_wait(id).map(|found| match found {
                Err(WaitError::TimedOut) if is_short => procedure::Input::Later,
                found => procedure::Input::Found(found),
            }),
            State::Step | State::Output(_) | State::Over => None,
        };
        let is_input = input.is_some();
        if let Some(input) = input {
            self.now = machine.now();
            self.stop_after(&input);
            self.state = State::Input(input);
        }
        is_input
    }

    /// Notes that the deadline has passed, if this input reports it.
    fn stop_after(&mut self, input: &procedure::Input) {
        let is_late = matches!(
            input,
            procedure::Input::Reply(Err(CommandError::TimedOut(..) | CommandError::Cancelled))
                | procedure::Input::Found(Err(WaitError::TimedOut | WaitError::Cancelled))
        );
        if is_late && self.stage == Stage::Work {
            self.stage = Stage::Stopped;
        }
    }

    /// Passes the result of the last step, if there is one, to the procedure, which chooses the next step. Returns the
    /// result of the procedure once, when it is done.
    pub fn next_step(&mut self) -> Option<E::Return> {
        let state = core::mem::replace(&mut self.state, State::Step);
        if let State::Input(procedure::Input::Begun(_)) = state {
            self.procedure.begin_after(&self.reset);
        }
        match state {
            State::Input(input) => match self.procedure.step_at(self.now, input) {
                procedure::Output::Done(output) => {
                    self.state = State::Over;
                    return Some(output);
                }
                next => self.state = State::Output(next),
            },
            state => self.state = state,
        }
        None
    }

    /// Executes the command of the next step, or begins its wait, if there is a next step.
    pub fn carry_out(&mut self, machine: &mut Machine, now: Moment) {
        self.until = match self.stage {
            Stage::Work | Stage::CleanUp => self.until.or_else(|| self.deadline.passes_at(now)),
            Stage::Stopped => Some(now.after(CLEAN_UP_WITHIN)),
        };
        if self.stage == Stage::Stopped {
            self.stage = Stage::CleanUp;
        }
        self.state = match core::mem::replace(&mut self.state, State::Over) {
            State::Output(procedure::Output::Execute(command)) => {
                match command.and_then(|command| machine.send(now, &command, self.left(now))) {
                    Ok(id) => State::Reply(id),
                    Err(misuse) => State::Input(procedure::Input::Reply(Err(misuse.into()))),
                }
            }
            State::Output(procedure::Output::Wait { from, things, within }) => {
                self.begin_wait(machine, now, &from, things, within)
            }
            State::Output(procedure::Output::Write { console, bytes, from, things, within }) => {
                // Nothing is written when the wait is refused.
                match self.begin_wait(machine, now, &from, things, within) {
                    refused @ State::Input(procedure::Input::Found(Err(_))) => refused,
                    begun => match machine.console_write(now, &console, &bytes) {
                        Ok(()) => begun,
                        Err(misuse) => {
                            if let State::Wait { id, .. } = begun {
                                machine.disown_wait(id);
                            }
                            State::Input(procedure::Input::Found(Err(misuse.into())))
                        }
                    },
                }
            }
            state => state,
        };
    }

    fn left(&self, now: Moment) -> Deadline {
        self.until.map_or(self.deadline, |until| Deadline::after(until.since(now)))
    }

    fn begin_wait(
        &mut self,
        machine: &mut Machine,
        now: Moment,
        from: &Mark,
        things: Vec<Wait>,
        within: Option<Duration>,
    ) -> State<E::Return> {
        let missed = self.missed(machine, from, &things);
        let is_short = within.filter(|within| self.until.is_none_or(|until| now.after(*within) < until));
        let within = is_short.map_or(self.left(now), Deadline::after);
        match (machine.wait(now, from, things, within), missed) {
            (Ok(id), Some(mark)) => self.report_missed(machine, id, mark),
            (Ok(id), None) => State::Wait { id, is_short: is_short.is_some() },
            (Err(misuse), _) => State::Input(procedure::Input::Found(Err(misuse.into()))),
        }
    }

    /// Returns the position of the oldest event that is kept, if events after the mark were evicted before the wait for
    /// them begins, and that was not reported yet.
    fn missed(&self, machine: &Machine, from: &Mark, things: &[Wait]) -> Option<Mark> {
        let oldest = machine.evicted_after(from, self.reported)?;
        things.iter().any(Wait::is_for_events).then_some(oldest)
    }

    /// Returns what the wait found among the events that are kept, or ends it and reports that events were missed.
    fn report_missed(&mut self, machine: &mut Machine, id: WaitId, oldest: Mark) -> State<E::Return> {
        match machine.claim_wait(id) {
            Some(Ok(hit)) => State::Input(procedure::Input::Found(Ok(hit))),
            Some(Err(error)) if error != WaitError::TimedOut => State::Input(procedure::Input::Found(Err(error))),
            _ => {
                machine.disown_wait(id);
                self.reported = oldest.event;
                State::Input(procedure::Input::Missed(oldest))
            }
        }
    }

    /// Ends the pending command or wait, and makes [`CommandError::Cancelled`] or [`WaitError::Cancelled`] its result,
    /// with which the procedure decides how it ends: it has [`CLEAN_UP_WITHIN`] to remove what it has created. Does
    /// nothing when the time for that has begun, so the clean-up itself cannot be cancelled.
    pub fn cancel(&mut self, machine: &mut Machine) {
        if self.stage != Stage::Work {
            return;
        }
        let input = match self.state {
            State::Reply(id) => {
                machine.disown(id);
                procedure::Input::Reply(Err(CommandError::Cancelled))
            }
            State::Wait { id, .. } => {
                machine.disown_wait(id);
                procedure::Input::Found(Err(WaitError::Cancelled))
            }
            State::New | State::Step | State::Input(_) | State::Output(_) | State::Over => return,
        };
        self.now = machine.now();
        self.stop_after(&input);
        self.state = State::Input(input);
    }

    /// Asks the procedure for its [`undo`](Procedure::undo), once, for a later [`disown`](Self::disown). Returns whether the
    /// procedure has begun and is not over. A driver that shares the machine with other threads calls this without its
    /// lock: the procedure may use the machine, which would deadlock. If the procedure panics, it has no undo.
    pub fn ask_for_undo(&mut self) -> bool {
        let is_begun = !matches!(self.state, State::New | State::Over);
        if is_begun && self.undo.is_none() {
            self.undo = Some(Vec::new());
            self.undo = Some(self.procedure.undo());
        }
        is_begun
    }

    /// Ends the procedure without a result, and disowns its pending command or wait. The machine executes what the
    /// procedure names as its [`undo`](Procedure::undo), and drops the replies. Other work that the commands of the
    /// procedure started in QEMU continues.
    ///
    /// It calls the procedure, which may be code of the caller, unless [`ask_for_undo`](Self::ask_for_undo) did.
    pub fn disown(&mut self, machine: &mut Machine, now: Moment) {
        self.ask_for_undo();
        let undo = self.undo.take().unwrap_or_default();
        let pending = match core::mem::replace(&mut self.state, State::Over) {
            State::New | State::Over => return,
            State::Reply(id) => Some(id),
            State::Wait { id, .. } => {
                machine.disown_wait(id);
                None
            }
            State::Step | State::Input(_) | State::Output(_) => None,
        };
        if let Some(id) = pending.filter(|_| !undo.iter().any(Undo::needs_reply)) {
            machine.disown(id);
        }
        undo.into_iter().for_each(|undo| machine.undo(now, pending, undo));
    }
}

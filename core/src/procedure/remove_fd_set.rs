//! Procedure that removes an fd set, and checks whether QEMU has closed its descriptors.

use alloc::vec::Vec;

use super::add_fd_set::FdSet;
use super::fd_set::{FdSets, Removing};
use super::{Created, Procedure, ProcedureError, Remnant, Undo};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::procedure;

/// Removes an fd set (`remove-fd`), when its last user is closed.
///
/// A node that is still open on the set keeps its own copy of the descriptor, but can no longer be reopened with
/// another access mode. When it is closed, the rest of the set goes with it (QEMU, `monitor/fds.c`,
/// `monitor_fdset_dup_fd_remove`). If QEMU keeps the descriptors, as QEMU 7.2 does while the guest is paused, the error
/// is [`ProcedureError::Remains`] with [`ProcedureError::DescriptorOpen`]: the procedure can be repeated when the guest
/// runs.
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct RemoveFdSet {
    set: FdSet,
    state: State,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Remove,
    Check,
}

type Step = procedure::Output<Result<(), ProcedureError>>;

impl RemoveFdSet {
    /// Returns a procedure that removes this set.
    pub fn of(set: FdSet) -> Self {
        Self { set, state: State::New }
    }

    /// Ends the procedure. A set that QEMU refuses to remove does not exist.
    fn fail(&self, error: ProcedureError) -> Step {
        let is_open = self.state == State::Check || error.may_have_effect();
        let remnant = is_open.then(|| Remnant { created: Created::FdSet(self.set.id), why: error.clone() });
        procedure::Output::Done(Err(error.with(remnant.into_iter().collect())))
    }
}

impl Procedure for RemoveFdSet {
    type Return = Result<(), ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (input, self.state) {
            (procedure::Input::Begun(_), State::New) => {
                self.state = State::Remove;
                procedure::Output::execute(&Removing(self.set.id))
            }
            (procedure::Input::Begun(_), _) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (procedure::Input::Reply(Ok(_)), State::New | State::Remove) => {
                self.state = State::Check;
                procedure::Output::execute(&"query-fdsets")
            }
            (procedure::Input::Reply(Ok(reply)), State::Check) => match reply.reply::<FdSets>() {
                Ok(sets) => procedure::Output::Done(match sets.remnant(self.set.id) {
                    Some(remnant) => Err(remnant.why.clone().with([remnant].into())),
                    None => Ok(()),
                }),
                Err(error) => self.fail(error.into()),
            },
            (procedure::Input::Reply(Err(error)), _) => self.fail(error.into()),
            // It waits for nothing.
            (procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_), _) => {
                self.fail(WaitError::FoundOther.into())
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        // The command was sent already.
        Vec::new()
    }
}

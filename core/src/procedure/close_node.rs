//! Procedure that closes a block node, and removes the fd set that it was opened from.

use alloc::vec::Vec;

use serde_json::json;

use super::fd_set::{FdSets, Removing};
use super::{Created, OpenedNode, Procedure, ProcedureError, Remnant, Undo};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::procedure;

/// Closes a node that [`OpenNode`](super::OpenNode) has opened: `blockdev-del`, and `remove-fd` for its fd set. After
/// `blockdev-del` alone, QEMU keeps the descriptor for the rest of the run (measured with QEMU 7.2.22).
///
/// When QEMU refuses `blockdev-del`, because the node is in use, nothing is removed, and the procedure can be repeated.
/// If only the node was removed, the error is [`ProcedureError::Remains`] with the fd set.
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct CloseNode {
    node: OpenedNode,
    state: State,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    RemoveNode,
    RemoveFd,
    FdSets,
}

type Step = procedure::Output<Result<(), ProcedureError>>;

impl CloseNode {
    /// Returns a procedure that closes this node.
    pub fn new(node: &OpenedNode) -> Self {
        Self { node: node.clone(), state: State::New }
    }

    fn fail(&self, error: ProcedureError) -> Step {
        let remains = match self.state {
            State::New | State::RemoveNode => Vec::new(),
            State::RemoveFd | State::FdSets => {
                [Remnant { created: Created::FdSet(self.node.fd_set), why: error.clone() }].into()
            }
        };
        procedure::Output::Done(Err(error.with(remains)))
    }
}

impl Procedure for CloseNode {
    type Return = Result<(), ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (input, self.state) {
            (procedure::Input::Begun(_), State::New) => {
                self.state = State::RemoveNode;
                procedure::Output::execute(&("blockdev-del", json!({"node-name": self.node.node})))
            }
            (procedure::Input::Begun(_), _) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (procedure::Input::Reply(Ok(_)), State::RemoveNode) => {
                self.state = State::RemoveFd;
                procedure::Output::execute(&Removing(self.node.fd_set))
            }
            (procedure::Input::Reply(Ok(_)), State::RemoveFd) => {
                self.state = State::FdSets;
                procedure::Output::execute(&"query-fdsets")
            }
            (procedure::Input::Reply(Ok(reply)), _) => match reply.reply::<FdSets>() {
                Ok(sets) => procedure::Output::Done(match sets.remnant(self.node.fd_set) {
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
        let remove_fd = Undo::new(&Removing(self.node.fd_set));
        let all = match self.state {
            State::New | State::FdSets => Vec::new(),
            State::RemoveNode => [remove_fd.map(Undo::if_created)].into(),
            State::RemoveFd => [remove_fd].into(),
        };
        all.into_iter().flatten().collect()
    }
}

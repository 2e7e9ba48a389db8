//! Procedure that opens a block node on a descriptor, and removes the descriptor when that fails.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fd_set::{Added, FdSets, Removing};
use super::{Created, Procedure, ProcedureError, Remnant, Undo};
use crate::descriptor::Descriptor;
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::wire::Encoded;

/// Opens a block node on a descriptor: `add-fd`, and `blockdev-add` with the path of the new fd set.
///
/// When `blockdev-add` fails, the descriptor is removed from QEMU (`remove-fd`); otherwise QEMU keeps the file open, and
/// its locks, for the rest of the run. This holds when the deadline passes and when the run is cancelled or dropped as
/// well, and a node that was added by then is removed too (`blockdev-del`). What could not be removed is in
/// [`ProcedureError::Remains`]. A run that is dropped during its clean-up removes only what is left of it: after
/// `blockdev-add` without a reply, the node may stay; after `add-fd` without a reply, the fd set. The fd set has the name
/// of the node as its `opaque` string. [`CloseNode`](super::CloseNode) removes both again.
///
/// ```
/// use qemu_machine_core::procedure::{CloseNode, OpenNode};
/// use qemu_machine_core::{Descriptor, json};
///
/// # let descriptor = Descriptor::new(17_u32);
/// // let descriptor = qemu_machine_blocking::descriptor(File::open("disk.img")?);
/// let open = OpenNode::new("disk", descriptor, |path| {
///     json!({"driver": "qcow2", "file": {"driver": "file", "filename": path}})
/// });
/// // let disk = vm.run(open, Duration::from_secs(10))?;
/// // vm.run(CloseNode::new(&disk), Duration::from_secs(10))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct OpenNode {
    descriptor: Option<Descriptor>,
    arguments: Option<Arguments>,
    state: State,
    node: String,
    fd_set: u32,
    /// The fd sets for a node of this name that existed before.
    older: Vec<u32>,
}

type Arguments = Box<dyn FnOnce(&str) -> Value + Send>;

/// The command that has no reply yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    New,
    /// `query-fdsets`, before the descriptor is added.
    Before,
    AddFd,
    /// `query-fdsets`, after `add-fd` had no reply in time.
    After(ProcedureError),
    AddNode,
    /// `query-named-block-nodes`, after `blockdev-add` had no reply in time.
    Nodes(ProcedureError),
    RemoveNode(ProcedureError),
    RemoveFd(ProcedureError, Vec<Remnant>),
    FdSets(ProcedureError, Vec<Remnant>),
}

/// A block node, and the fd set that it was opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenedNode {
    /// The name of the node.
    pub node: String,
    /// The id of the fd set, which has one descriptor.
    pub fd_set: u32,
}

/// An entry in the reply of `query-named-block-nodes`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NamedNode {
    node_name: Option<String>,
    file: Option<String>,
}

type Step = procedure::Output<Result<OpenedNode, ProcedureError>>;

impl OpenNode {
    /// Returns a procedure that opens a node of this name on this descriptor. The function receives the path of the fd
    /// set, such as `/dev/fdset/0`, and returns the arguments of `blockdev-add` apart from `node-name`. The descriptor must
    /// have the access mode that the node needs (QEMU, `monitor/fds.c`, `monitor_fdset_dup_fd_add`).
    pub fn new(
        node: impl Into<String>,
        descriptor: Descriptor,
        arguments: impl FnOnce(&str) -> Value + Send + 'static,
    ) -> Self {
        Self {
            descriptor: Some(descriptor),
            arguments: Some(Box::new(arguments)),
            state: State::New,
            node: node.into(),
            fd_set: 0,
            older: Vec::new(),
        }
    }

    fn path(&self) -> String {
        format!("/dev/fdset/{}", self.fd_set)
    }

    fn add_fd(&mut self) -> Step {
        self.state = State::AddFd;
        let command = Encoded::command(&("add-fd", json!({"opaque": self.node})));
        procedure::Output::Execute(match self.descriptor.take() {
            Some(descriptor) => command.map(|command| command.with_descriptor(descriptor)),
            None => Err(Misuse::ProcedureReused),
        })
    }

    fn add_node(&mut self, fd_set: u32) -> Step {
        self.fd_set = fd_set;
        self.state = State::AddNode;
        let mut arguments = self.arguments.take().map(|arguments| arguments(&self.path())).unwrap_or_default();
        if let Some(members) = arguments.as_object_mut() {
            members.insert("node-name".to_string(), self.node.clone().into());
        }
        procedure::Output::execute(&("blockdev-add", arguments))
    }

    /// Removes what the procedure has created, after this failure.
    fn fail(&mut self, error: ProcedureError) -> Step {
        match core::mem::replace(&mut self.state, State::New) {
            State::AddNode if error.may_have_effect() => {
                self.state = State::Nodes(error);
                // QEMU executes the commands in their order, so its reply shows whether the node was added.
                procedure::Output::execute(&("query-named-block-nodes", json!({"flat": true})))
            }
            State::AddNode => self.remove_fd(error, Vec::new()),
            State::Nodes(first) | State::RemoveNode(first) => {
                let node = Remnant { created: Created::Node(self.node.clone()), why: error };
                self.remove_fd(first, [node].into())
            }
            State::RemoveFd(first, mut remains) | State::FdSets(first, mut remains) => {
                remains.push(Remnant { created: Created::FdSet(self.fd_set), why: error });
                procedure::Output::Done(Err(first.with(remains)))
            }
            State::AddFd if error.may_have_effect() => {
                self.state = State::After(error);
                procedure::Output::execute(&"query-fdsets")
            }
            State::After(first) => {
                let fd_set = Remnant { created: Created::FdSetFor(self.node.clone()), why: error };
                procedure::Output::Done(Err(first.with([fd_set].into())))
            }
            State::New | State::Before | State::AddFd => procedure::Output::Done(Err(error)),
        }
    }

    fn remove_fd(&mut self, error: ProcedureError, remains: Vec<Remnant>) -> Step {
        self.state = State::RemoveFd(error, remains);
        procedure::Output::execute(&Removing(self.fd_set))
    }

    /// Returns whether a node is the one of this procedure: another client may have one of the same name.
    fn is_ours(&self, node: &NamedNode) -> bool {
        let path = self.path();
        let is_on_path = |file: &str| {
            file.match_indices(&path)
                .any(|(at, _)| !file[at + path.len()..].starts_with(|next: char| next.is_ascii_digit()))
        };
        node.node_name.as_ref() == Some(&self.node) && node.file.as_deref().is_some_and(is_on_path)
    }

    fn replied(&mut self, reply: Payload) -> Result<Step, ProcedureError> {
        Ok(match core::mem::replace(&mut self.state, State::New) {
            State::New => procedure::Output::Done(Err(WaitError::FoundOther.into())),
            State::Before => {
                self.older = reply.reply::<FdSets>()?.named(&self.node);
                self.add_fd()
            }
            State::After(error) => {
                let named = reply.reply::<FdSets>().map(|sets| sets.named(&self.node)).unwrap_or_default();
                match named.into_iter().find(|id| !self.older.contains(id)) {
                    Some(id) => {
                        self.fd_set = id;
                        self.remove_fd(error, Vec::new())
                    }
                    None => procedure::Output::Done(Err(error)),
                }
            }
            State::AddFd => {
                let Added { fdset_id } = reply.reply()?;
                self.add_node(fdset_id)
            }
            State::AddNode => {
                procedure::Output::Done(Ok(OpenedNode { node: core::mem::take(&mut self.node), fd_set: self.fd_set }))
            }
            State::Nodes(error) => {
                let nodes = reply.reply::<Vec<NamedNode>>().unwrap_or_default();
                if nodes.iter().any(|node| self.is_ours(node)) {
                    self.state = State::RemoveNode(error);
                    procedure::Output::execute(&("blockdev-del", json!({"node-name": self.node})))
                } else {
                    self.remove_fd(error, Vec::new())
                }
            }
            State::RemoveNode(error) => self.remove_fd(error, Vec::new()),
            State::RemoveFd(error, remains) => {
                self.state = State::FdSets(error, remains);
                procedure::Output::execute(&"query-fdsets")
            }
            State::FdSets(error, mut remains) => {
                let sets = reply.reply::<FdSets>()?;
                remains.extend(sets.remnant(self.fd_set));
                procedure::Output::Done(Err(error.with(remains)))
            }
        })
    }
}

impl Procedure for OpenNode {
    type Return = Result<OpenedNode, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.descriptor.is_some() && self.state == State::New => {
                self.state = State::Before;
                procedure::Output::execute(&"query-fdsets")
            }
            procedure::Input::Begun(_) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            procedure::Input::Reply(Ok(reply)) => {
                self.replied(reply).unwrap_or_else(|error| procedure::Output::Done(Err(error)))
            }
            procedure::Input::Reply(Err(error)) => self.fail(error.into()),
            // It waits for nothing.
            procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_) => {
                procedure::Output::Done(Err(WaitError::FoundOther.into()))
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        let remove_fd = Undo::new(&Removing(self.fd_set));
        let remove_node = Undo::new(&("blockdev-del", json!({"node-name": self.node})));
        let all = match self.state {
            State::New | State::Before | State::After(_) => Vec::new(),
            State::AddFd => [Undo::of_reply("remove-fd", "fdset-id")].into(),
            State::AddNode => [remove_node.map(Undo::if_created), remove_fd].into(),
            State::Nodes(_) | State::RemoveNode(_) | State::RemoveFd(..) | State::FdSets(..) => [remove_fd].into(),
        };
        all.into_iter().flatten().collect()
    }
}

impl fmt::Debug for OpenNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenNode").field("node", &self.node).field("fd_set", &self.fd_set).finish_non_exhaustive()
    }
}

//! Procedure that gives QEMU several descriptors as one fd set, and the value that names the set.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde_json::json;

use super::fd_set::{Added, FdSets, Removing};
use super::{Created, Procedure, ProcedureError, Remnant, Undo};
use crate::descriptor::Descriptor;
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::wire::Encoded;

/// Set of descriptors that QEMU holds, and opens by a path.
///
/// The value is only the name of the set: QEMU keeps the descriptors until [`RemoveFdSet`](super::RemoveFdSet), or
/// until it ends. Where QEMU opens a file, it takes the path of the set, and uses the member with the access mode that
/// it needs (QEMU, `monitor/fds.c`, `monitor_fdset_dup_fd_add`).
///
/// ```
/// use qemu_machine_core::procedure::FdSet;
///
/// // The set of `Config::add_fd(descriptor, 7, "disk")`.
/// assert_eq!(FdSet::with_id(7).path(), "/dev/fdset/7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FdSet {
    /// The id.
    pub id: u32,
}

impl FdSet {
    /// Returns the set with this id, which exists already.
    #[must_use]
    pub const fn with_id(id: u32) -> Self {
        Self { id }
    }

    /// Returns the path that QEMU opens: `/dev/fdset/` and the id.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/dev/fdset/{}", self.id)
    }
}

/// Adds descriptors of one file to QEMU as a new fd set, such as a read-only one and a read-write one, between which
/// QEMU switches when it reopens the file.
///
/// Each descriptor goes with an `add-fd` of its own: of several that come with one command, QEMU uses the first and
/// closes the others (QEMU, `chardev/char-fe.c`, `qemu_chr_fe_get_msgfd`; `chardev/char-socket.c`, `tcp_get_msgfds`;
/// measured with QEMU 7.2.22).
///
/// When one is refused, and when the deadline passes or the run is cancelled or dropped, the whole set is removed; what
/// could not be removed is in [`ProcedureError::Remains`]. To open a node on one descriptor, use
/// [`OpenNode`](super::OpenNode).
///
/// ```
/// use qemu_machine_core::procedure::{AddFdSet, RemoveFdSet};
/// use qemu_machine_core::{Descriptor, json};
///
/// # let (reader, writer) = (Descriptor::new(17_u32), Descriptor::new(18_u32));
/// // let [reader, writer] = [open_read_only, open_read_write].map(qemu_machine_blocking::descriptor);
/// let add = AddFdSet::of("disk", [reader, writer]);
/// // let set = vm.run(add, Duration::from_secs(10))?;
/// // vm.execute(("blockdev-add", json!({"driver": "file", "node-name": "disk", "filename": set.path()})))?;
/// // When the node is closed:
/// // vm.run(RemoveFdSet::of(set), Duration::from_secs(10))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct AddFdSet {
    name: String,
    descriptors: VecDeque<Descriptor>,
    set: FdSet,
    state: State,
    /// The fd sets of this name that existed before.
    older: Vec<u32>,
}

/// The command that has no reply yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    New,
    /// `query-fdsets`, before the first descriptor is added.
    Before,
    /// `add-fd` with the first descriptor, with which QEMU chooses the id.
    First,
    /// `query-fdsets`, after the first `add-fd` had no reply in time.
    After(ProcedureError),
    /// `add-fd` with another descriptor.
    Next,
    Remove(ProcedureError),
    /// `query-fdsets`, after the set was removed.
    Check(ProcedureError),
}

type Step = procedure::Output<Result<FdSet, ProcedureError>>;

impl AddFdSet {
    /// Returns a procedure that adds these descriptors, each with this name as its `opaque` string, which
    /// `query-fdsets` lists. QEMU refuses an empty set.
    pub fn of(name: impl Into<String>, descriptors: impl IntoIterator<Item = Descriptor>) -> Self {
        let descriptors = descriptors.into_iter().collect();
        Self { name: name.into(), descriptors, set: FdSet::with_id(0), state: State::New, older: Vec::new() }
    }

    fn add(&mut self, state: State) -> Step {
        let mut arguments = json!({"opaque": self.name});
        if state == State::Next {
            arguments["fdset-id"] = self.set.id.into();
        }
        self.state = state;
        let command = Encoded::command(&("add-fd", arguments));
        procedure::Output::Execute(match self.descriptors.pop_front() {
            Some(descriptor) => command.map(|command| command.with_descriptor(descriptor)),
            None => command,
        })
    }

    fn remove(&mut self, error: ProcedureError) -> Step {
        self.state = State::Remove(error);
        procedure::Output::execute(&Removing(self.set.id))
    }

    fn fail(&mut self, error: ProcedureError) -> Step {
        match core::mem::replace(&mut self.state, State::New) {
            State::First if error.may_have_effect() => {
                self.state = State::After(error);
                procedure::Output::execute(&"query-fdsets")
            }
            State::Next => self.remove(error),
            State::After(first) => {
                let set = Remnant { created: Created::FdSetFor(self.name.clone()), why: error };
                procedure::Output::Done(Err(first.with([set].into())))
            }
            State::Remove(first) | State::Check(first) => {
                let set = Remnant { created: Created::FdSet(self.set.id), why: error };
                procedure::Output::Done(Err(first.with([set].into())))
            }
            State::New | State::Before | State::First => procedure::Output::Done(Err(error)),
        }
    }

    fn replied(&mut self, reply: Payload) -> Result<Step, ProcedureError> {
        Ok(match core::mem::replace(&mut self.state, State::New) {
            State::New => procedure::Output::Done(Err(WaitError::FoundOther.into())),
            State::Before => {
                self.older = reply.reply::<FdSets>()?.named(&self.name);
                self.add(State::First)
            }
            state @ (State::First | State::Next) => {
                if state == State::First {
                    let Added { fdset_id } = reply.reply()?;
                    self.set = FdSet::with_id(fdset_id);
                }
                if self.descriptors.is_empty() {
                    return Ok(procedure::Output::Done(Ok(self.set)));
                }
                self.add(State::Next)
            }
            State::After(error) => {
                let named = reply.reply::<FdSets>().map(|sets| sets.named(&self.name)).unwrap_or_default();
                match named.into_iter().find(|id| !self.older.contains(id)) {
                    Some(id) => {
                        self.set = FdSet::with_id(id);
                        self.remove(error)
                    }
                    None => procedure::Output::Done(Err(error)),
                }
            }
            State::Remove(error) => {
                self.state = State::Check(error);
                procedure::Output::execute(&"query-fdsets")
            }
            State::Check(error) => {
                let remains = reply.reply::<FdSets>()?.remnant(self.set.id);
                procedure::Output::Done(Err(error.with(remains.into_iter().collect())))
            }
        })
    }
}

impl Procedure for AddFdSet {
    type Return = Result<FdSet, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.state == State::New => {
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
        let undo = match self.state {
            State::First => Undo::of_reply("remove-fd", "fdset-id"),
            // QEMU executes it after the pending `add-fd`.
            State::Next | State::Remove(_) | State::Check(_) => Undo::new(&Removing(self.set.id)),
            State::New | State::Before | State::After(_) => return Vec::new(),
        };
        undo.into_iter().collect()
    }
}

impl fmt::Debug for AddFdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddFdSet").field("name", &self.name).field("set", &self.set).finish_non_exhaustive()
    }
}

//! Undo: a command that removes what a procedure has created in QEMU, for a run that is dropped.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use crate::command::Command;
use crate::command_name::name_of;
use crate::event::Filter;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::wait::Wait;
use crate::wire::Encoded;

/// Command that removes something which a procedure has created in QEMU. The machine executes it when the run of the
/// procedure is dropped, and drops its reply.
///
/// ```
/// use qemu_machine_core::procedure::Undo;
/// use qemu_machine_core::{Wait, json};
///
/// let concluded = Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "copy", "status": "concluded"}));
/// let undo = Undo::new(&("job-cancel", json!({"id": "copy"})))?.then(concluded, &("job-dismiss", json!({"id": "copy"})))?;
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    pub(crate) command: Encoded,
    pub(crate) needs_reply: bool,
    /// The member of the reply of the pending command that becomes the argument of this one.
    pub(crate) member: Option<String>,
    /// The argument of that name is the whole reply, and not a member of it.
    pub(crate) is_whole: bool,
    pub(crate) then: Then,
}

/// The commands that follow an undo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Then {
    /// The commands, each after its event.
    pub(crate) steps: Vec<(Filter, Encoded)>,
    /// The steps are alternatives: the first event that arrives chooses the command, and the other steps are dropped.
    pub(crate) is_any: bool,
}

impl Undo {
    /// Returns the undo that executes this command.
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the command cannot be encoded.
    pub fn new<C: Command>(command: &C) -> Result<Self, Misuse> {
        let (command, then) = (Encoded::command(command)?, Then::default());
        Ok(Self { command, needs_reply: false, member: None, is_whole: false, then })
    }

    /// Returns the undo that executes this command with one member of the reply of the pending command as its argument,
    /// [if that succeeds](Self::if_created). It is for things whose id QEMU chooses.
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the command cannot be encoded.
    pub fn of_reply(command: &str, member: impl Into<String>) -> Result<Self, Misuse> {
        Ok(Self { needs_reply: true, member: Some(member.into()), ..Self::new(&command)? })
    }

    /// As [`of_reply`](Self::of_reply), but the whole reply becomes the argument of this name, as the handle that
    /// `guest-file-open` returns.
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the command cannot be encoded.
    pub fn with_reply(command: &str, argument: impl Into<String>) -> Result<Self, Misuse> {
        Ok(Self { is_whole: true, ..Self::of_reply(command, argument)? })
    }

    /// Executes the command only if the pending command of the procedure succeeds. Use it while the command that creates
    /// the thing has no reply: QEMU may refuse it because another client has a thing of the same name, which must stay.
    #[must_use]
    pub fn if_created(mut self) -> Self {
        self.needs_reply = true;
        self
    }

    /// Executes another command when this event arrives after the previous one was sent and not refused. It is for things
    /// that are removed in several steps, such as a job that is cancelled and dismissed, and then its node.
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the command cannot be encoded, [`Misuse::NotAnEvent`] when the thing is no event.
    pub fn then<C: Command>(mut self, event: Wait, command: &C) -> Result<Self, Misuse> {
        self.then.steps.push((event.into_filter()?, Encoded::command(command)?));
        Ok(self)
    }

    /// Executes another command, once, when the first of these events arrives after the previous one was sent and not
    /// refused.
    pub(crate) fn then_after_any<C: Command>(
        self,
        events: impl IntoIterator<Item = Wait>,
        command: &C,
    ) -> Result<Self, Misuse> {
        let mut undo = events.into_iter().try_fold(self, |undo, event| undo.then(event, command))?;
        undo.then.is_any = true;
        Ok(undo)
    }

    pub(crate) fn needs_reply(&self) -> bool {
        self.needs_reply
    }

    /// Returns the command, given the reply of the command that created the thing. `None` means that the reply has not the
    /// member that is needed.
    pub(crate) fn command(&self, reply: &Payload) -> Option<Encoded> {
        let Some(member) = &self.member else { return Some(self.command.clone()) };
        let reply: Value = reply.read().ok()?;
        let argument = if self.is_whole { reply } else { reply.get(member)?.clone() };
        let arguments = Value::from_iter([(member.clone(), argument)]);
        Encoded::command(&(&*name_of(&self.command.body), arguments)).ok()
    }
}

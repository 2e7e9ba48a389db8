//! Procedure that saves a machine as a template, and ends it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::json;

use super::inventory::Inventory;
use super::resume::Resume;
use super::{StateFile, TemplateError, ignore_shared};
use crate::commands::QueryStatus;
use crate::descriptor::Descriptor;
use crate::error::{CommandError, WaitError};
use crate::payload::Payload;
use crate::procedure::{self, Migrate, MigrationEnd, Procedure, ProcedureError, Undo};
use crate::template::{Abilities, Template, TemplateConfig};
use crate::wait::{Found, Wait};

/// Saves a machine as a [`Template`]: stops the guest, writes the state of its devices to a file, and ends QEMU. The memory
/// is in a file already, since the machine was launched with
/// [`TemplateConfig::source_config`](crate::TemplateConfig::source_config). The procedure is done when the process has
/// ended, so that it no longer writes to the memory and the disks.
///
/// When the template is not saved, when the deadline passes, and when the run is cancelled or dropped before `quit` is sent,
/// the guest runs on if it ran before. The file with the state has a part of it then. If QEMU does not continue the guest,
/// the error is [`TemplateError::Stopped`]. From `quit` on, the source ends: an error after it means that the end was not
/// awaited.
///
/// A run that is dropped while QEMU finishes the migration (the state `finish-migrate`, which takes milliseconds) may leave
/// the guest stopped: QEMU refuses `cont` in that state, and the undo of a dropped run does not try again. A run that is
/// cancelled, or whose deadline passes, does.
///
/// ```
/// use qemu_machine_core::procedure::SaveTemplate;
/// # use qemu_machine_core::{Descriptor, TemplateConfig};
/// # fn example(template: &TemplateConfig, opened: Descriptor) {
/// // vm.wait_text("tty", "login: ")?;
/// let save = SaveTemplate::of(template, opened);
/// // let template = vm.run(save, Duration::from_secs(10))?;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct SaveTemplate {
    pub(super) template: Template,
    pub(super) state: StateFile,
    pub(super) stage: Stage,
    inventory: Inventory,
    pub(super) was_running: bool,
    migrate: Migrate,
    address: String,
    /// `Some` means that the procedure has failed with this error, and undoes what it has done.
    pub(super) error: Option<TemplateError>,
    pub(super) resume: Resume,
}

/// The step that is not over, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Stage {
    Inventory,
    Abilities,
    Status,
    IgnoreShared,
    Give,
    Stop,
    Migrate,
    Quit,
    /// The wait for the end of the process.
    End,
    /// The rest is for a template that was not saved.
    SendShared,
    Continue,
    /// `query-status`, after `cont` was refused.
    WhyStopped,
    /// The wait before `cont` is sent again.
    Rest,
    TakeBack,
}

pub(super) type Step = procedure::Output<Result<Template, TemplateError>>;

impl SaveTemplate {
    /// Returns a procedure that saves the source of this template to the file with the state, which is empty and opened for
    /// writing alone, by [`TemplateConfig::state_path`](crate::TemplateConfig::state_path).
    pub fn of(template: &TemplateConfig, state: Descriptor) -> Self {
        let abilities = Abilities { opens_read_only: false };
        let template = Template { of: template.clone(), version: String::new(), devices: Vec::new(), abilities };
        Self {
            template,
            state: StateFile::new(state),
            stage: Stage::Inventory,
            inventory: Inventory::default(),
            was_running: false,
            migrate: Migrate::arrival(),
            address: String::new(),
            error: None,
            resume: Resume::default(),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> Result<Step, ProcedureError> {
        if self.stage == Stage::Inventory {
            return Ok(self.inventory.next(reply)?.unwrap_or_else(|| self.query_abilities()));
        }
        let reply = match reply {
            // QEMU may close the monitor before its reply.
            Err(CommandError::Disconnected(_)) if self.stage == Stage::Quit => return Ok(self.wait_for_end()),
            reply if self.error.is_some() => return Ok(self.undo_next(reply)),
            reply => reply?,
        };
        Ok(match self.stage {
            Stage::Abilities => {
                let properties: Vec<Property> = reply.reply()?;
                self.template.abilities.opens_read_only = properties.iter().any(|property| property.name == "rom");
                self.stage = Stage::Status;
                procedure::Output::execute(&QueryStatus)
            }
            Stage::Status => {
                self.was_running = reply.reply::<crate::commands::Status>()?.running;
                self.stage = Stage::IgnoreShared;
                procedure::Output::execute(&ignore_shared(true))
            }
            Stage::IgnoreShared => {
                self.stage = Stage::Give;
                procedure::Output::Execute(self.state.give(self.template.abilities))
            }
            Stage::Give => {
                self.address = self.state.given(reply, self.template.abilities)?;
                self.stage = Stage::Stop;
                procedure::Output::execute(&"stop")
            }
            Stage::Stop => {
                (self.stage, self.migrate) = (Stage::Migrate, Migrate::to(self.address.as_str()));
                self.follow(procedure::Input::Begun(self.inventory.mark()))
            }
            _ => self.wait_for_end(),
        })
    }

    fn query_abilities(&mut self) -> Step {
        (self.template.version, self.template.devices) = self.inventory.take();
        self.stage = Stage::Abilities;
        procedure::Output::execute(&("qom-list-properties", json!({"typename": "memory-backend-file"})))
    }

    /// Passes an input to the migration, and goes on when it is over.
    fn follow(&mut self, input: procedure::Input) -> Step {
        let output = self.migrate.step(input);
        output.and_then(|end| match end {
            Ok(MigrationEnd::Completed) => {
                self.stage = Stage::Quit;
                procedure::Output::execute(&"quit")
            }
            Ok(_) => self.fail(TemplateError::Cancelled),
            Err(error) => self.fail(error.into()),
        })
    }

    fn wait_for_end(&mut self) -> Step {
        self.stage = Stage::End;
        procedure::Output::wait(&self.inventory.mark(), [Wait::end()])
    }
}

/// A member of the reply of `qom-list-properties`.
#[derive(Deserialize)]
struct Property {
    name: String,
}

impl Procedure for SaveTemplate {
    type Return = Result<Template, TemplateError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (self.stage, input) {
            (_, procedure::Input::Begun(mark)) => self.inventory.begin(mark),
            (Stage::Migrate, input) => self.follow(input),
            (_, procedure::Input::Reply(reply)) => self.replied(reply).unwrap_or_else(|error| self.fail(error.into())),
            (Stage::End, procedure::Input::Found(Ok(hit))) if matches!(hit.found, Found::End(_)) => {
                procedure::Output::Done(Ok(self.template.clone()))
            }
            (Stage::Rest, procedure::Input::Later | procedure::Input::Found(_)) => self.resume(),
            (Stage::End, procedure::Input::Later | procedure::Input::Missed(_)) => self.wait_for_end(),
            (_, procedure::Input::Found(Err(error))) => self.fail(ProcedureError::from(error).into()),
            // It waits for nothing else.
            (_, procedure::Input::Found(Ok(_)) | procedure::Input::Later | procedure::Input::Missed(_)) => {
                self.fail(ProcedureError::from(WaitError::FoundOther).into())
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        self.undo_when_dropped()
    }
}

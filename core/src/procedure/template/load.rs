//! Procedure that loads the state of a template into a clone, and lets the guest run.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::json;

use super::inventory::Inventory;
use super::{StateFile, TemplateError, capabilities, ignore_shared};
use crate::descriptor::Descriptor;
use crate::error::{CommandError, WaitError};
use crate::payload::Payload;
use crate::procedure::{self, Migrate, MigrationEnd, Procedure};
use crate::template::Template;

/// Loads the state of a [`Template`] into a machine that was launched with
/// [`Template::clone_config`](crate::Template::clone_config), and lets the guest run from there.
///
/// A QEMU of another version, and one with other devices, is an error before anything is loaded. What QEMU finds while it
/// loads is [`TemplateError::Failed`], in QEMU's words; QEMU has exited then. A clone in which this procedure failed, or
/// whose run was dropped, has no guest: drop the machine.
///
/// ```
/// use qemu_machine_core::procedure::LoadTemplate;
/// # use qemu_machine_core::{Descriptor, Template};
/// # fn example(template: &Template, opened: Descriptor) {
/// // `opened` is a new open file description of the state, since QEMU reads from its offset.
/// let load = LoadTemplate::of(template, opened);
/// // vm.run(load, Duration::from_secs(10))?;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct LoadTemplate {
    template: Template,
    state: StateFile,
    stage: Stage,
    inventory: Inventory,
    arrival: Migrate,
}

/// The step that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Inventory,
    /// The events of the migration are enabled as well.
    IgnoreShared,
    Give,
    Listen,
    Arrive,
    /// The capability is disabled again, so that a later migration of the clone is complete.
    SendShared,
    Continue,
    /// QEMU 8.2 to 9.0 close the descriptor of a removed fd set only while the guest runs (QEMU, `monitor/fds.c`,
    /// `monitor_fdset_cleanup`).
    CloseFdSet,
}

type Step = procedure::Output<Result<(), TemplateError>>;

impl LoadTemplate {
    /// Returns a procedure that loads this template from the file with its state, opened for reading by
    /// [`TemplateConfig::state_path`](crate::TemplateConfig::state_path).
    pub fn of(template: &Template, state: Descriptor) -> Self {
        Self {
            template: template.clone(),
            state: StateFile::new(state),
            stage: Stage::Inventory,
            inventory: Inventory::default(),
            arrival: Migrate::arrival(),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> Result<Step, TemplateError> {
        if self.stage == Stage::Inventory {
            let next = self.inventory.next(reply).map_err(TemplateError::Procedure)?;
            if let Some(running) = self.inventory.version().filter(|running| *running != self.template.version) {
                let saved = self.template.version.as_str().into();
                return Err(TemplateError::Version { saved, running: running.into() });
            }
            return next.map_or_else(|| self.compare(), Ok);
        }
        let reply = match reply {
            // QEMU ends because of what it cannot load.
            Err(CommandError::Disconnected(_)) if self.stage == Stage::Listen => return Ok(self.arrive()),
            reply => reply.map_err(procedure::ProcedureError::from)?,
        };
        Ok(match self.stage {
            Stage::IgnoreShared => {
                self.stage = Stage::Give;
                procedure::Output::Execute(self.state.give(self.template.abilities))
            }
            Stage::Give => {
                let given = self.state.given(reply, self.template.abilities);
                let address = given.map_err(procedure::ProcedureError::from)?;
                self.stage = Stage::Listen;
                procedure::Output::execute(&("migrate-incoming", json!({"uri": address})))
            }
            Stage::Listen => self.arrive(),
            Stage::SendShared => {
                self.stage = Stage::Continue;
                procedure::Output::execute(&"cont")
            }
            Stage::Continue if self.state.fd_set.is_some() => {
                self.stage = Stage::CloseFdSet;
                procedure::Output::Execute(self.state.close())
            }
            _ => procedure::Output::Done(Ok(())),
        })
    }

    /// Compares the devices with those of the template, and begins to load.
    fn compare(&mut self) -> Result<Step, TemplateError> {
        let (_, devices) = self.inventory.take();
        let lacks = |all: &[String], other: &[String]| -> Vec<_> {
            all.iter().filter(|device| !other.contains(device)).map(|device| device.as_str().into()).collect()
        };
        let missing = lacks(&self.template.devices, &devices);
        let added = lacks(&devices, &self.template.devices);
        if !missing.is_empty() || !added.is_empty() {
            return Err(TemplateError::Devices { missing, added });
        }
        self.stage = Stage::IgnoreShared;
        Ok(procedure::Output::execute(&capabilities(&[("x-ignore-shared", true), ("events", true)])))
    }

    fn arrive(&mut self) -> Step {
        self.stage = Stage::Arrive;
        self.follow(procedure::Input::Begun(self.inventory.mark()))
    }

    /// Passes an input to the migration, and goes on when its part is over.
    fn follow(&mut self, input: procedure::Input) -> Step {
        let output = self.arrival.step(input);
        output.and_then(|end| match end {
            Ok(MigrationEnd::Completed) => {
                self.stage = Stage::SendShared;
                procedure::Output::execute(&ignore_shared(false))
            }
            Ok(_) => procedure::Output::Done(Err(TemplateError::Cancelled)),
            Err(error) => procedure::Output::Done(Err(error.into())),
        })
    }
}

impl Procedure for LoadTemplate {
    type Return = Result<(), TemplateError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (self.stage, input) {
            (_, procedure::Input::Begun(mark)) => self.inventory.begin(mark),
            (Stage::Arrive, input) => self.follow(input),
            (_, procedure::Input::Reply(reply)) => {
                self.replied(reply).unwrap_or_else(|error| procedure::Output::Done(Err(error)))
            }
            // It waits for nothing else.
            (_, procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_)) => {
                procedure::Output::Done(Err(procedure::ProcedureError::from(WaitError::FoundOther).into()))
            }
        }
    }
}

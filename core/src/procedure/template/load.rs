//! Procedure that loads the state of a template into a clone, and lets the guest run.

use alloc::string::String;
use alloc::vec::Vec;

use super::{DEVICES, StateFile, TemplateError, devices, ignore_shared, list, version};
use crate::descriptor::Descriptor;
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure::{self, Migrate, MigrationEnd, Procedure};
use crate::template::Template;
use crate::wait::Mark;

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
    begin: Mark,
    devices: Vec<String>,
    migrate: Migrate,
}

/// The step that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Version,
    /// `qom-list` of the place with this index in [`DEVICES`].
    Devices(usize),
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
            stage: Stage::New,
            begin: Mark::default(),
            devices: Vec::new(),
            migrate: Migrate::arrival(),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> Result<Step, TemplateError> {
        if let Stage::Devices(index) = self.stage {
            self.devices.extend(devices(reply).map_err(procedure::ProcedureError::from)?);
            return self.list_devices(index + 1);
        }
        let reply = reply.map_err(procedure::ProcedureError::from)?;
        Ok(match self.stage {
            Stage::Version => {
                let running = version(reply).map_err(procedure::ProcedureError::from)?;
                if running != self.template.version {
                    let saved = self.template.version.as_str().into();
                    return Err(TemplateError::Version { saved, running: running.into() });
                }
                return self.list_devices(0);
            }
            Stage::IgnoreShared => {
                self.stage = Stage::Give;
                procedure::Output::Execute(self.state.give(self.template.abilities))
            }
            Stage::Give => {
                let given = self.state.given(reply, self.template.abilities);
                let address = given.map_err(procedure::ProcedureError::from)?;
                self.follow_new(Stage::Listen, Migrate::listen(address))
            }
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

    fn list_devices(&mut self, index: usize) -> Result<Step, TemplateError> {
        if let Some(path) = DEVICES.get(index) {
            self.stage = Stage::Devices(index);
            return Ok(procedure::Output::execute(&list(path)));
        }
        let lacks = |all: &[String], other: &[String]| -> Vec<_> {
            all.iter().filter(|device| !other.contains(device)).map(|device| device.as_str().into()).collect()
        };
        let missing = lacks(&self.template.devices, &self.devices);
        let added = lacks(&self.devices, &self.template.devices);
        if !missing.is_empty() || !added.is_empty() {
            return Err(TemplateError::Devices { missing, added });
        }
        self.stage = Stage::IgnoreShared;
        Ok(procedure::Output::execute(&ignore_shared(true)))
    }

    fn follow_new(&mut self, stage: Stage, migrate: Migrate) -> Step {
        (self.stage, self.migrate) = (stage, migrate);
        self.follow(procedure::Input::Begun(self.begin.clone()))
    }

    /// Passes an input to the migration, and goes on when its part is over.
    fn follow(&mut self, input: procedure::Input) -> Step {
        let output = self.migrate.step(input);
        output.and_then(|end| match end {
            Ok(MigrationEnd::Listening) => self.follow_new(Stage::Arrive, Migrate::arrival()),
            Ok(MigrationEnd::Completed) => {
                self.stage = Stage::SendShared;
                procedure::Output::execute(&ignore_shared(false))
            }
            Ok(MigrationEnd::Cancelled) => procedure::Output::Done(Err(TemplateError::Cancelled)),
            Err(error) => procedure::Output::Done(Err(error.into())),
        })
    }
}

impl Procedure for LoadTemplate {
    type Return = Result<(), TemplateError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (self.stage, input) {
            (Stage::New, procedure::Input::Begun(mark)) => {
                (self.begin, self.stage) = (mark, Stage::Version);
                procedure::Output::execute(&"query-version")
            }
            (_, procedure::Input::Begun(_)) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (Stage::Listen | Stage::Arrive, input) => self.follow(input),
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

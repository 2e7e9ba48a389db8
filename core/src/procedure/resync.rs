//! Procedure that queries the state of a machine after events were missed: run state, jobs, migration, failing disks.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Procedure, ProcedureError};
use crate::command::{Command, FromReply};
use crate::commands::{Job, QueryJobs, QueryStatus, Status};
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::identity::Gap;
use crate::json::drop_deep;
use crate::payload::Payload;
use crate::procedure;
use crate::text::{Printable, UntrustedText};
use crate::wait::{Mark, Missed};

/// Queries what the missed events may have announced: `query-status`, `query-jobs`, `query-migrate` and `query-block`, one
/// after the other. Use it for a machine that was resumed ([`Gap::resync`]), after a wait or a subscription that has missed
/// events ([`Missed::resync`]), and after an attachment.
///
/// A command that this QEMU does not have, or refuses, does not fail the procedure: [`Situation::unknown`] has its error,
/// and what it would have returned is `None`. The procedure fails when the deadline passes or the connection is lost.
///
/// ```
/// use qemu_machine_core::Gap;
///
/// # fn example(gap: Gap) {
/// // let (vm, gap) = Vm::resume(identity, minute)?;
/// let resync = gap.resync();
/// // let situation = vm.run(resync, Duration::from_secs(10))?;
/// // for disk in &situation.failing_disks {
/// //     println!("{disk}");
/// // }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Resync {
    situation: Situation,
    asked: Asked,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    New,
    Status,
    Jobs,
    Migration,
    Disks,
}

/// State of a machine, as far as QEMU reports it.
///
/// The commands are executed one after the other, so their replies are not of the same moment. To notice what changes
/// between them and later, wait or subscribe from [`mark`](Self::mark).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Situation {
    /// The run state of the guest. `None` means unknown.
    pub status: Option<Status>,
    /// The jobs that run, and those that are concluded and not dismissed. `None` means unknown. A job that ended and was
    /// dismissed while events were missed is not listed.
    pub jobs: Option<Vec<Job>>,
    /// The latest migration of this machine, in either direction. `None` means that there was none, or that it is unknown.
    pub migration: Option<MigrationInfo>,
    /// The disks on which an operation has failed, so that QEMU has stopped the guest. Empty also when `query-block` is in
    /// [`unknown`](Self::unknown).
    pub failing_disks: Vec<FailingDisk>,
    /// Why a part is unknown: the error of each command that QEMU refused, or whose reply could not be read.
    pub unknown: Vec<CommandError>,
    /// The position in the events and consoles before the first command.
    pub mark: Mark,
}

/// Latest migration of a machine (QEMU, `qapi/migration.json`, `MigrationInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationInfo {
    /// The status: `active`, `completed`, `failed` and others (QEMU, `qapi/migration.json`, `MigrationStatus`). The set is
    /// open.
    pub status: String,
    /// Why the migration failed. `None` means that it did not fail, or that QEMU gave no reason.
    pub error: Option<UntrustedText>,
}

/// Disk on which an operation has failed (QEMU, `qapi/block-core.json`, `BlockInfo`). The guest is stopped, with the run
/// state `io-error`; `cont` repeats the operation. Only a device that stops the guest at an error has such a state
/// (`werror=stop`, `rerror=stop`; by default when the space is used up).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailingDisk {
    /// The id of the drive. Empty for a disk of `-blockdev`.
    pub device: String,
    /// The id of the guest's device, or its QOM path if it has no id. `None` means that QEMU does not report it.
    pub qdev: Option<String>,
    /// The name of the block node. `None` means that there is no medium.
    pub node: Option<String>,
    /// What has failed.
    pub failure: DiskFailure,
}

/// What failed on a disk (QEMU, `qapi/block-core.json`, `BlockDeviceIoStatus`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFailure {
    /// The space on the host is used up (`nospace`).
    NoSpace,
    /// A read or a write failed (`failed`).
    Failed,
    /// Another state, of a newer QEMU.
    Other(UntrustedText),
}

impl fmt::Display for DiskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space left"),
            Self::Failed => f.write_str("an operation failed"),
            Self::Other(status) => write!(f, "{status}"),
        }
    }
}

impl fmt::Display for FailingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [Some(&self.device), self.qdev.as_ref(), self.node.as_ref()];
        let name = names.into_iter().flatten().find(|name| !name.is_empty());
        write!(f, "disk {}: {}", Printable::line(name.map_or("without a name", String::as_str)), self.failure)
    }
}

/// The members of the reply of `query-migrate` that are read here. Before the first migration there are none.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    status: Option<String>,
    error_desc: Option<String>,
}

type Step = procedure::Output<Result<Situation, ProcedureError>>;

impl Gap {
    /// Returns the procedure that queries the state which the missed events may have announced.
    pub fn resync(self) -> Resync {
        Resync::new()
    }
}

impl Missed {
    /// Returns the procedure that queries the state which the missed events may have announced.
    pub fn resync(self) -> Resync {
        Resync::new()
    }
}

impl Resync {
    /// Returns the procedure, for a machine of which nothing is known, as after an attachment.
    pub fn new() -> Self {
        Self::default()
    }

    fn ask(&mut self, asked: Asked, command: &impl Command) -> Step {
        self.asked = asked;
        procedure::Output::execute(command)
    }

    /// Takes a reply, and notes why it is of no use.
    fn read<T: FromReply>(&mut self, reply: Result<Payload, CommandError>) -> Result<Option<T>, CommandError> {
        match reply.and_then(Payload::reply) {
            Ok(value) => Ok(Some(value)),
            Err(error @ (CommandError::Refused(_) | CommandError::Unexpected { .. } | CommandError::Broken(_))) => {
                self.situation.unknown.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> Result<Step, CommandError> {
        Ok(match self.asked {
            Asked::New | Asked::Status => {
                self.situation.status = self.read(reply)?;
                self.ask(Asked::Jobs, &QueryJobs)
            }
            Asked::Jobs => {
                self.situation.jobs = self.read(reply)?;
                self.ask(Asked::Migration, &"query-migrate")
            }
            Asked::Migration => {
                self.situation.migration = self.read(reply)?.and_then(migration);
                self.ask(Asked::Disks, &"query-block")
            }
            Asked::Disks => {
                // A value, since QEMU nests the images of a chain deeper than a type is read.
                let disks = self.read(reply)?.unwrap_or_default();
                self.situation.failing_disks = failing(&disks);
                drop_deep(disks);
                procedure::Output::Done(Ok(core::mem::take(&mut self.situation)))
            }
        })
    }
}

fn migration(info: Info) -> Option<MigrationInfo> {
    info.status.map(|status| MigrationInfo { status, error: info.error_desc.map(UntrustedText::from) })
}

/// Returns the disks with a failure in the reply of `query-block`.
fn failing(disks: &Value) -> Vec<FailingDisk> {
    let text = |value: &Value| value.as_str().map(String::from);
    let failing = |disk: &Value| {
        let failure = match disk["io-status"].as_str()? {
            "ok" => return None,
            "nospace" => DiskFailure::NoSpace,
            "failed" => DiskFailure::Failed,
            other => DiskFailure::Other(other.into()),
        };
        let device = text(&disk["device"]).unwrap_or_default();
        Some(FailingDisk { device, qdev: text(&disk["qdev"]), node: text(&disk["inserted"]["node-name"]), failure })
    };
    disks.as_array().into_iter().flatten().filter_map(failing).collect()
}

impl Procedure for Resync {
    type Return = Result<Situation, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.asked != Asked::New => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(mark) => {
                self.situation.mark = mark;
                self.ask(Asked::Status, &QueryStatus)
            }
            procedure::Input::Reply(reply) => {
                self.replied(reply).unwrap_or_else(|error| procedure::Output::Done(Err(error.into())))
            }
            // It waits for nothing.
            procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_) => {
                procedure::Output::Done(Err(WaitError::FoundOther.into()))
            }
        }
    }
}

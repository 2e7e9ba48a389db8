//! Procedures of templates: their errors, and what saving and loading share.

mod inventory;
mod load;
mod resume;
mod save;
mod unsaved;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde_json::json;

use super::fd_set::{Added, Removing};
use super::{MigrateError, ProcedureError};
use crate::descriptor::Descriptor;
use crate::error::CommandError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::template::Abilities;
use crate::text::{Printable, UntrustedText};
use crate::wire::Encoded;

pub use load::LoadTemplate;
pub use save::SaveTemplate;

/// Why a template was not saved or loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Another QEMU has saved the template. QEMU can load the state of an earlier version only for a versioned machine type,
    /// and not always then, so nothing was loaded.
    #[error("QEMU {saved} has saved the template, and the clone runs QEMU {running}: save the template again")]
    Version {
        /// The version that saved the template, with that of its package.
        saved: UntrustedText,
        /// The version that was to load it.
        running: UntrustedText,
    },
    /// The clone does not have the devices that the source had when it was saved. Nothing was loaded.
    #[error("the clone has other devices than the template{}{}", listed("missing", missing), listed("added", added))]
    Devices {
        /// The devices that the clone lacks, with their types.
        missing: Vec<UntrustedText>,
        /// The devices that only the clone has.
        added: Vec<UntrustedText>,
    },
    /// QEMU could not write or read the state of the devices, for the reason that QEMU gave. A clone ends because of it.
    #[error("the state of the template was not transferred: {0}")]
    Failed(UntrustedText),
    /// Another client cancelled the migration to the file.
    #[error("another client cancelled the migration to the file of the template")]
    Cancelled,
    /// The template was not saved, and the guest of the source, which ran before, was not continued.
    #[error("{error}; the guest stays stopped: {why}")]
    Stopped {
        /// Why the template was not saved.
        error: Box<TemplateError>,
        /// Why the guest was not continued.
        why: ProcedureError,
    },
    /// A command was refused, the deadline passed, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl From<MigrateError> for TemplateError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Failed(why) => Self::Failed(why),
            MigrateError::Procedure(error) => Self::Procedure(error),
        }
    }
}

fn listed(what: &str, devices: &[UntrustedText]) -> String {
    if devices.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = devices.iter().map(UntrustedText::as_str).collect();
    format!("; {what}: {}", Printable::line(&names.join(", ")))
}

/// The capability that leaves the memory in shared files out of the stream (QEMU, `qapi/migration.json`,
/// `MigrationCapability`).
fn ignore_shared(state: bool) -> (&'static str, serde_json::Value) {
    capabilities(&[("x-ignore-shared", state)])
}

fn capabilities(all: &[(&str, bool)]) -> (&'static str, serde_json::Value) {
    let all: Vec<_> = all.iter().map(|(name, state)| json!({"capability": name, "state": state})).collect();
    ("migrate-set-capabilities", json!({"capabilities": all}))
}

/// The file with the state, which QEMU gets as a descriptor.
struct StateFile {
    descriptor: Option<Descriptor>,
    /// The fd set of the descriptor. `None` means that it has none.
    fd_set: Option<u32>,
    /// Whether QEMU may have the descriptor, although the procedure has failed.
    is_given: bool,
}

impl StateFile {
    /// The name of a descriptor that is in no fd set.
    const NAME: &'static str = "template-state";

    fn new(descriptor: Descriptor) -> Self {
        Self { descriptor: Some(descriptor), fd_set: None, is_given: false }
    }

    /// Returns the command that gives QEMU the descriptor. A QEMU that migrates to a path opens it as a member of an fd
    /// set; for one that does not, `fd:` is the only way to a file (QEMU, `docs/about/deprecated.rst`, "fd: URI when used for
    /// file migration").
    fn give(&mut self, abilities: Abilities) -> Result<Encoded, Misuse> {
        let command = if abilities.opens_read_only {
            Encoded::command(&("add-fd", json!({"opaque": Self::NAME})))
        } else {
            Encoded::command(&("getfd", json!({"fdname": Self::NAME})))
        };
        let descriptor = self.descriptor.take().ok_or(Misuse::ProcedureReused)?;
        command.map(|command| command.with_descriptor(descriptor))
    }

    /// Returns the address of the file in QEMU, given the reply to the command that gave it the descriptor.
    fn given(&mut self, reply: Payload, abilities: Abilities) -> Result<String, CommandError> {
        if !abilities.opens_read_only {
            return Ok(format!("fd:{}", Self::NAME));
        }
        let Added { fdset_id } = reply.reply()?;
        self.fd_set = Some(fdset_id);
        Ok(format!("file:/dev/fdset/{fdset_id}"))
    }

    /// Returns the command that closes the descriptor. QEMU refuses it when a migration has closed it.
    fn close(&self) -> Result<Encoded, Misuse> {
        match self.fd_set {
            Some(id) => Encoded::command(&Removing(id)),
            None => Encoded::command(&("closefd", json!({"fdname": Self::NAME}))),
        }
    }
}

impl fmt::Debug for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFile").field("fd_set", &self.fd_set).finish_non_exhaustive()
    }
}

//! Inventory of a machine: the version of QEMU and the devices, in which a template and its clones must agree.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::json;

use crate::error::CommandError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure::{self, ProcedureError};
use crate::wait::Mark;

/// The places of QEMU's object tree with the devices of `-device` and `device_add`: those with an id, and the others.
const PLACES: [&str; 2] = ["/machine/peripheral", "/machine/peripheral-anon"];

/// Version and devices as far as they are known, and the position at which the procedure began.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// `None` means that the procedure has not begun.
    begin: Option<Mark>,
    /// The version, with that of the package. `None` means that it is not known.
    version: Option<String>,
    devices: Vec<String>,
    /// The number of [`PLACES`] whose devices are known.
    places: usize,
}

impl Inventory {
    /// Begins the procedure: returns its first command.
    pub(super) fn begin<T>(&mut self, mark: Mark) -> procedure::Output<T> {
        if self.begin.is_some() {
            return procedure::Output::Execute(Err(Misuse::ProcedureReused));
        }
        self.begin = Some(mark);
        procedure::Output::execute(&"query-version")
    }

    /// Returns the position at which the procedure began.
    pub(super) fn mark(&self) -> Mark {
        self.begin.clone().unwrap_or_default()
    }

    /// Reads a reply, and returns the next command. `None` means that the inventory is complete.
    pub(super) fn next<T>(
        &mut self,
        reply: Result<Payload, CommandError>,
    ) -> Result<Option<procedure::Output<T>>, ProcedureError> {
        if self.version.is_none() {
            self.version = Some(version(reply?)?);
        } else {
            self.devices.extend(devices(reply)?);
            self.places += 1;
        }
        Ok(PLACES.get(self.places).map(|path| procedure::Output::execute(&("qom-list", json!({"path": path})))))
    }

    /// Returns the version. `None` means that it is not known.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns the version and the devices.
    pub(super) fn take(&mut self) -> (String, Vec<String>) {
        (self.version.take().unwrap_or_default(), core::mem::take(&mut self.devices))
    }
}

/// Returns the devices in a reply of `qom-list`, with their types. QEMU refuses the command where it has no such place.
fn devices(reply: Result<Payload, CommandError>) -> Result<Vec<String>, CommandError> {
    #[derive(Deserialize)]
    struct Item {
        name: String,
        r#type: String,
    }
    let items = match reply {
        Ok(reply) => reply.reply::<Vec<Item>>()?,
        Err(CommandError::Refused(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let child = |item: Item| {
        let kind = item.r#type.strip_prefix("child<")?.strip_suffix('>')?;
        Some(format!("{} ({kind})", item.name))
    };
    Ok(items.into_iter().filter_map(child).collect())
}

/// Returns the version in a reply of `query-version`, with that of the package.
fn version(reply: Payload) -> Result<String, CommandError> {
    #[derive(Deserialize)]
    struct Version {
        qemu: Numbers,
        package: String,
    }
    #[derive(Deserialize)]
    struct Numbers {
        major: u32,
        minor: u32,
        micro: u32,
    }
    let Version { qemu: Numbers { major, minor, micro }, package } = reply.reply()?;
    let package = if package.is_empty() { package } else { format!(" ({package})") };
    Ok(format!("{major}.{minor}.{micro}{package}"))
}

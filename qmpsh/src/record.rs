//! Record of a session (`--record`), with known secrets redacted.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use qemu_machine_blocking::record::Record;

use crate::client::Failure;

/// The members and options whose values are redacted: those of `set_password`, `object-add`, `-spice` and the like.
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// Redacts a record and writes it. Only its owner may read the file: other secrets may be in it.
///
/// # Errors
///
/// [`Failure::Lost`], if the file cannot be written.
pub(crate) fn write(record: Option<Record>, file: Option<&Path>) -> Result<(), Failure> {
    let (Some(mut record), Some(file)) = (record, file) else { return Ok(()) };
    for member in SECRET {
        record.redact_member(member);
    }
    save(&record, file).map_err(|error| Failure::Lost(format!("cannot write the record: {}: {error}", file.display())))
}

fn save(record: &Record, file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    // The mode of an existing file is not changed by opening it (`open(2)`).
    file.set_permissions(Permissions::from_mode(0o600))?;
    write!(file, "{record}")
}

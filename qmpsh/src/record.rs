//! Record of a session (`--record`), without what is known to be a password.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use qemu_machine_blocking::record::Record;

use crate::client::Failure;

/// The members and options whose texts are nobody's business: those of `set_password`, `object-add`, `-spice` and the like.
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// Writes a record for others to read: only its owner may, until he gives it away.
pub(crate) fn write(record: Option<Record>, file: Option<&Path>) -> Result<(), Failure> {
    let (Some(mut record), Some(file)) = (record, file) else { return Ok(()) };
    for member in SECRET {
        record.redact_member(member);
    }
    save(&record, file).map_err(|error| Failure::Lost(format!("{}: {error}", file.display())))
}

fn save(record: &Record, file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    // It may have been there.
    file.set_permissions(Permissions::from_mode(0o600))?;
    write!(file, "{record}")
}

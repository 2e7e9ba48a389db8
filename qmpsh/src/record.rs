//! Record of a session (`--record`), with known secrets redacted.

use std::path::Path;

use qemu_machine_blocking::record::Record;

use crate::failure::Failure;
use crate::private_file;
use crate::show::printable;

/// The members and options whose values are redacted: those of `set_password`, `object-add`, `-spice` and the like.
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// Checks whether a record can be written to a file, before there is anything to lose.
///
/// # Errors
///
/// [`Failure::Unclear`].
pub(crate) fn check(file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    private_file::check(file)
        .map(drop)
        .map_err(|error| Failure::Unclear(format!("--record {}: {error}", printable(file))))
}

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
    private_file::write(file, &record.to_string())
        .map_err(|error| Failure::Lost(format!("cannot write the record: {}: {error}", printable(file))))
}

//! Record of a session (`--record`, `--report`), with known secrets redacted.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use qemu_machine_blocking::record::Record;

use crate::failure::Failure;
use crate::private_file;
use crate::show::printable;

/// The members and options whose values are redacted: those of `set_password`, `object-add`, `-spice` and the like.
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// Held by the thread that writes the files for the last time, until the shell has ended.
static LAST: Mutex<()> = Mutex::new(());

/// The files that the record is written to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// The file for the record. `None` means that there is none.
    pub(crate) record: Option<PathBuf>,
    /// The file for the page of HTML. `None` means that there is none.
    pub(crate) report: Option<PathBuf>,
}

impl Files {
    /// Reports whether the session is recorded.
    pub(crate) fn are_wanted(&self) -> bool {
        self.record.is_some() || self.report.is_some()
    }

    /// Checks whether the files can be written, before there is anything to lose.
    ///
    /// # Errors
    ///
    /// [`Failure::Unclear`].
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (option, file) in [("--record", &self.record), ("--report", &self.report)] {
            let Some(file) = file else { continue };
            private_file::check(file)
                .map(drop)
                .map_err(|error| Failure::Unclear(format!("{option} {}: {error}", printable(file))))?;
        }
        match (&self.record, &self.report) {
            (Some(record), Some(report)) if private_file::is_same(record, report) => {
                Err(Failure::Unclear(format!("--record and --report would write one file: {}", printable(report))))
            }
            _ => Ok(()),
        }
    }

    /// Redacts a record and writes it. Only its owner may read the files: other secrets may be in them.
    ///
    /// # Errors
    ///
    /// [`Failure::Lost`], if a file cannot be written.
    pub(crate) fn write(&self, record: Option<Record>) -> Result<(), Failure> {
        let Some(mut record) = record.filter(|_| self.are_wanted()) else { return Ok(()) };
        for member in SECRET {
            record.redact_member(member);
        }
        let write = |what: &str, file: &Path, content: &str| {
            private_file::write(file, content)
                .map_err(|error| Failure::Lost(format!("cannot write the {what}: {}: {error}", printable(file))))
        };
        let recorded = self.record.as_ref().map_or(Ok(()), |file| write("record", file, &record.to_string()));
        let reported = self.report.as_ref().map_or(Ok(()), |file| write("report", file, &record.report().to_string()));
        recorded.and(reported)
    }

    /// Writes as [`write`](Self::write), as the last act of the shell. Another thread that would write meanwhile waits until
    /// this one ends the shell.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub(crate) fn write_last(&self, record: Option<Record>) -> Result<(), Failure> {
        mem::forget(LAST.lock().unwrap_or_else(PoisonError::into_inner));
        self.write(record)
    }
}

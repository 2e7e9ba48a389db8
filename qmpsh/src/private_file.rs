//! Files that only their owner may read: the record, the report and the history.
//!
//! The paths are options, so they may name anything: a device, a FIFO, a link that another user made in a directory for
//! all. Only regular files of this user are written, and only those get another mode.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// How many names of a temporary file are tried.
const ATTEMPTS: u32 = 1000;

/// Returns whether a file exists that can be replaced.
///
/// # Errors
///
/// When something else is at this path, or no file can be created in its directory.
pub(crate) fn check(path: &Path) -> io::Result<bool> {
    // A new file is created beside it first.
    access(directory(path), Access::WRITE_OK | Access::EXEC_OK)?;
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !there.is_file() {
        return Err(io::Error::other("it exists and is not a regular file, so it is not written"));
    }
    if there.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user, so it is not written"));
    }
    Ok(true)
}

/// Reports whether two paths that [`check`] accepts are one place: the same name in the same directory.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::canonicalize(directory(path)).ok().zip(path.file_name().map(OsString::from));
    place(one) == place(other)
}

/// Creates an empty file, unless there is one that [`check`] accepts.
///
/// # Errors
///
/// Those of [`check`], and when the file cannot be created.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    if check(path)? { Ok(()) } else { new(path).map(drop) }
}

/// Writes a file: a new one, which takes the place of a file that [`check`] accepts. Other links to that file, and
/// programs that have it open, keep its content.
///
/// # Errors
///
/// Those of [`check`], and when the file cannot be written. Then the path is as before.
pub(crate) fn write(path: &Path, content: &str) -> io::Result<()> {
    check(path)?;
    let (temporary, mut file) = beside(path)?;
    let written = file.write_all(content.as_bytes());
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Creates a file that does not exist, also not as a link (`open(2)`, O_EXCL).
fn new(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary file in the same directory, since a rename does not leave its file system. Names that are taken,
/// by a shell that was killed or by another user, are skipped.
fn beside(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut taken = ErrorKind::AlreadyExists.into();
    for attempt in 0..ATTEMPTS {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}-{attempt}", std::process::id()));
        let temporary = path.with_file_name(name);
        match new(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            file => return file.map(|file| (temporary, file)),
        }
    }
    Err(taken)
}

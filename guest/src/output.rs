//! Check of output files before a run, which writes them at its end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf, absolute};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::failure::Failure;

/// Checks that files can be written, and that no two of them are the same, also by links. Nothing is created or changed.
/// [`KernelTest::run`](crate::KernelTest::run) checks its [own files](crate::KernelTest::outputs) before the launch; a caller
/// with several runs, or with other files, checks all of them together.
///
/// # Errors
///
/// [`Failure::Host`]: a directory is missing, is no directory or permits no writing; a file is a directory, or permits no
/// writing; two paths lead to one file. Devices and pipes may occur twice.
pub fn check_outputs<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), Failure> {
    let mut files = BTreeSet::new();
    for path in paths {
        let is_new = writable(path)?.is_none_or(|file| files.insert(file));
        if !is_new {
            return Err(Failure::file(path, "two outputs would be written to this file"));
        }
    }
    Ok(())
}

/// Returns the path of a file that can be written, without links. `None` means a device or a pipe.
fn writable(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let failed = |error| Failure::file(path, error);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(failed(ErrorKind::IsADirectory.into())),
        Ok(found) => {
            permits(path, Access::WRITE_OK)?;
            found.is_file().then(|| fs::canonicalize(path).map_err(failed)).transpose()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = absolute(path).map_err(failed)?;
            let is_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
            let (Some(directory), Some(name), false) = (path.parent(), path.file_name(), is_directory) else {
                return Err(failed(ErrorKind::IsADirectory.into()));
            };
            // The target of a link does not exist yet. A loop of links is another error.
            if let Ok(target) = fs::read_link(&path) {
                return writable(&directory.join(target));
            }
            permits(directory, Access::WRITE_OK | Access::EXEC_OK)?;
            let directory = fs::canonicalize(directory).map_err(failed)?;
            Ok(Some(directory.join(name)))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Checks an access for the effective user, which opens the file later (`access(2)`).
fn permits(path: &Path, access: Access) -> Result<(), Failure> {
    accessat(CWD, path, access, AtFlags::EACCESS).map_err(|error| Failure::file(path, Error::from(error)))
}

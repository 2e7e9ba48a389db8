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
/// writing; two paths lead to one file. Devices, pipes and descriptors (`/dev/stdout`) may occur twice.
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

/// Returns the path of a file that can be written, without links. `None` means a device, a pipe, or what an open descriptor
/// leads to: its file has a position and other users, and is not replaced.
pub(crate) fn writable(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let failed = |error| Failure::file(path, error);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(failed(ErrorKind::IsADirectory.into())),
        Ok(found) => {
            permits(path, Access::WRITE_OK)?;
            let is_replaced = found.is_file() && !is_descriptor(path.to_owned());
            is_replaced.then(|| fs::canonicalize(path).map_err(failed)).transpose()
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

/// Reports whether a path, or a link that it leads through, is a descriptor of a process (`proc(5)`, `/proc/pid/fd`), as that
/// of `/dev/stdout`. The path leads to a file, so its links do not form a loop.
fn is_descriptor(mut path: PathBuf) -> bool {
    loop {
        let directory = path.parent().map(fs::canonicalize);
        if directory.is_some_and(|directory| directory.is_ok_and(|directory| directory.starts_with("/proc"))) {
            return true;
        }
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return false,
        }
    }
}

/// Checks an access for the effective user, which opens the file later (`access(2)`).
fn permits(path: &Path, access: Access) -> Result<(), Failure> {
    accessat(CWD, path, access, AtFlags::EACCESS).map_err(|error| Failure::file(path, Error::from(error)))
}

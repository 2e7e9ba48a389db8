//! Output file that takes its place when it is complete, so that a run that is interrupted leaves no part of one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchown, linkat, open};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::output::writable;

/// The permissions of a new file, before the umask: for everybody, or for its owner.
pub(crate) const FOR_ALL: u32 = 0o666;
pub(crate) const FOR_OWNER: u32 = 0o600;

/// How many names of a temporary file are tried.
const ATTEMPTS: u32 = 1000;

/// The most bytes of a file's name in that of its temporary file: a name has at most 255 (`path_resolution(7)`).
const LONGEST: usize = 200;

/// The directory through which a file without a name gets one (`open(2)`, `O_TMPFILE`). Some containers have no `/proc`.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Writes an output file. A regular file is complete before it takes the place of one that is there, and gets its
/// permissions and owner. Other links to that one keep its content. Where this user may create no such file beside it, or
/// the file is a mount point, it is written in place, and so are a device, a pipe, and a file that is named by a descriptor
/// (`/dev/stdout`), to which the content is appended.
///
/// # Errors
///
/// [`Failure::Host`], if the file cannot be written. Unless it is written in place, it is then as before.
pub fn write_output(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut output = Output::create(path, FOR_ALL)?;
    output.file.write_all(content).map_err(|error| Failure::file(path, error))?;
    output.finish()
}

/// A file that is being written. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    pub(crate) file: File,
    /// `None` means that the file is written in place.
    place: Option<Destination>,
}

/// A path without links, and the name of the file that takes it. `None` means that the file has no name yet.
#[derive(Debug)]
struct Destination {
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl Output {
    /// Creates the file. A new one gets this mode.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Self, Failure> {
        let failed = |error| Failure::file(path, error);
        let (file, place) = match writable(path)? {
            Some(place) => match beside(&place, mode).map_err(failed)? {
                Some((file, temporary)) => (file, Some(Destination { path: place, temporary })),
                None => (in_place(&place).map_err(failed)?, None),
            },
            // Only a file that is named by a descriptor can be long already.
            None => (OpenOptions::new().append(true).open(path).map_err(failed)?, None),
        };
        Ok(Self { path: path.to_owned(), file, place })
    }

    /// Ends the file, which takes its place.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let Some(Destination { path, temporary }) = &mut self.place else { return Ok(()) };
        let named = named(&self.file, path, temporary.as_deref());
        let placed = named.and_then(|name| fs::rename(temporary.insert(name), &*path));
        let placed = match placed {
            Ok(()) => {
                *temporary = None;
                Ok(())
            }
            // A mount point, or a file of another user in a directory for all (`rename(2)`, EBUSY and EPERM).
            Err(error) if is_permission(&error) || error.kind() == ErrorKind::ResourceBusy => {
                copy(&mut self.file, path)
            }
            Err(error) => Err(error),
        };
        placed.map_err(|error| Failure::file(&self.path, error))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(Destination { temporary: Some(temporary), .. }) = &self.place {
            // If it cannot be removed, there is no other way.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Creates a file in the same directory, since a rename does not leave its file system. It has no name where the file
/// system permits that (`open(2)`, `O_TMPFILE`), so that nothing is left of it if this program is killed. `None` means that
/// this user may create none, or none with the owner and the permissions of the one that is there.
fn beside(place: &Path, mode: u32) -> Result<Option<(File, Option<PathBuf>)>, Error> {
    let there = fs::metadata(place).ok();
    let directory = place.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let can_be_named = Path::new(DESCRIPTORS).exists();
    let unnamed =
        || if can_be_named { open(directory, flags, Mode::from_raw_mode(mode)) } else { Err(Errno::OPNOTSUPP) };
    let created = match unnamed() {
        Ok(file) => Ok((File::from(file), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let mut new = OpenOptions::new();
            new.read(true).write(true).create_new(true).mode(mode);
            free_name(place, |name| new.open(name)).map(|(file, name)| (file, Some(name)))
        }
        Err(error) => Err(error.into()),
    };
    let (file, temporary) = match created {
        Ok(created) => created,
        Err(error) if is_permission(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_alike = there.is_none_or(|there| make_alike(&file, &there).is_ok());
    if let (false, Some(name)) = (is_alike, &temporary) {
        fs::remove_file(name)?;
    }
    Ok(is_alike.then_some((file, temporary)))
}

/// Gives a file the owner and the permissions of another one.
fn make_alike(file: &File, there: &Metadata) -> Result<(), Error> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
        fchown(file, Some(Uid::from_raw(there.uid())), Some(Gid::from_raw(there.gid())))?;
    }
    file.set_permissions(there.permissions())
}

/// Returns a name of the file in the directory of its place, and gives it one if it has none.
fn named(file: &File, place: &Path, temporary: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(name) = temporary {
        return Ok(name.to_owned());
    }
    let descriptor = format!("{DESCRIPTORS}/{}", file.as_fd().as_raw_fd());
    let link = |name: &Path| Ok(linkat(CWD, &*descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW)?);
    free_name(place, link).map(|((), name)| name)
}

/// Creates something under a name beside a file that is free. Names that are taken are skipped.
fn free_name<T>(place: &Path, create: impl Fn(&Path) -> Result<T, Error>) -> Result<(T, PathBuf), Error> {
    let mut taken = ErrorKind::AlreadyExists.into();
    let own = place.file_name().unwrap_or_default().as_bytes();
    let own = OsStr::from_bytes(&own[..own.len().min(LONGEST)]);
    for attempt in 0..ATTEMPTS {
        let mut name = OsString::from(".");
        name.push(own);
        name.push(format!(".{}-{attempt}", process::id()));
        let name = place.with_file_name(name);
        match create(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            created => return created.map(|created| (created, name)),
        }
    }
    Err(taken)
}

/// Opens a file to write it where it is.
fn in_place(path: &Path) -> Result<File, Error> {
    OpenOptions::new().write(true).truncate(true).open(path)
}

fn copy(from: &mut File, to: &Path) -> Result<(), Error> {
    from.rewind()?;
    std::io::copy(from, &mut in_place(to)?).map(drop)
}

fn is_permission(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

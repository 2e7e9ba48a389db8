//! Decides where the files of one machine lie, and that they are private and go away.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qemu_machine_core::{HostFault, Preparation};
use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fault::fault;

/// The private directory, the log and the sockets of one machine.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    /// The first part of every name, with what nobody can guess.
    name: OsString,
    /// None when nothing lies in it.
    directory: Option<PathBuf>,
    base: Option<Vec<u8>>,
    log: Option<Log>,
    /// The sockets that we made.
    sockets: Vec<Made>,
    /// The files that we made and that stay when all goes well.
    files: Vec<PathBuf>,
    /// Whether another program says that the directory is ours: then nothing is removed but what is known to be in it.
    adopted: bool,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Stays readable when its name is gone.
    file: File,
}

/// A path that we made, with what tells it from another that took its scratch.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl ScratchDir {
    pub(crate) fn make(wanted: &Preparation) -> Result<Self, HostFault> {
        let name = unpredictable(&wanted.name).map_err(|error| fault("get random bytes".into(), &error))?;
        let mut scratch = Self {
            name,
            directory: None,
            base: wanted.base.clone(),
            log: None,
            sockets: Vec::new(),
            files: Vec::new(),
            adopted: false,
        };
        let made = if wanted.process { scratch.make_log(wanted) } else { Ok(()) };
        let made = made.and_then(|()| wanted.files.iter().try_for_each(|file| scratch.make_file(&path(file))));
        match made {
            Ok(()) => Ok(scratch),
            Err(fault) => Err(scratch.removed_after(fault)),
        }
    }

    fn make_log(&mut self, wanted: &Preparation) -> Result<(), HostFault> {
        let path = match &wanted.log_directory {
            Some(kept) => path(kept).join(self.named(".log")),
            None => self.private()?.join("log"),
        };
        match create_private(&path) {
            Ok(file) => {
                self.files.extend(wanted.log_directory.is_some().then(|| path.clone()));
                self.log = Some(Log { path, file });
            }
            Err(error) => return Err(fault(format!("make the log {}", path.display()), &error)),
        }
        Ok(())
    }

    /// An empty file that only its owner can open. One that was there before is emptied, and stays as open as it was.
    fn make_file(&mut self, path: &Path) -> Result<(), HostFault> {
        let failed = |error: io::Error| fault(format!("make the file {}", path.display()), &error);
        match create_private(path) {
            Ok(_) => self.files.push(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => empty(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    fn named(&self, suffix: &str) -> OsString {
        let mut file = self.name.clone();
        file.push(suffix);
        file
    }

    /// The private directory, made when it is first needed.
    fn private(&mut self) -> Result<&Path, HostFault> {
        if self.directory.is_none() {
            let directory = self.base.as_deref().map_or_else(std::env::temp_dir, path).join(&self.name);
            DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .map_err(|error| fault(format!("make the directory {}", directory.display()), &error))?;
            self.directory = Some(directory);
        }
        Ok(self.directory.as_deref().unwrap_or(Path::new("")))
    }

    /// Where a socket is to listen: under a name that nobody can guess, in this directory or in the private one.
    pub(crate) fn socket_path(&mut self, directory: Option<&[u8]>) -> Result<PathBuf, HostFault> {
        match directory {
            Some(directory) => Ok(path(directory).join(self.named("-monitor.sock"))),
            None => Ok(self.private()?.join("monitor.sock")),
        }
    }

    /// A socket was bound there: it is ours to remove.
    pub(crate) fn made_socket(&mut self, path: PathBuf) {
        // We may be somewhere else when it is removed.
        let path = std::path::absolute(&path).unwrap_or(path);
        if let Ok(metadata) = fs::symlink_metadata(&path) {
            self.sockets.push(Made { path, device: metadata.dev(), inode: metadata.ino() });
        }
    }

    pub(crate) fn directory(&self) -> Option<Vec<u8>> {
        self.directory.clone().map(|directory| directory.into_os_string().into_vec())
    }

    pub(crate) fn log_path(&self) -> Option<Vec<u8>> {
        self.log.as_ref().map(|log| log.path.as_os_str().as_bytes().to_vec())
    }

    /// A descriptor to write the log with.
    pub(crate) fn log(&self) -> io::Result<File> {
        self.log.as_ref().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |log| log.file.try_clone())
    }

    pub(crate) fn read_log(&self, limit: usize) -> io::Result<Vec<u8>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let length = log.file.metadata()?.len();
        let wanted = length.min(u64::try_from(limit).unwrap_or(u64::MAX));
        let mut tail = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
        log.file.read_exact_at(&mut tail, length - wanted)?;
        Ok(tail)
    }

    /// Cleans up after something failed. What cannot be removed is added to the fault.
    pub(crate) fn removed_after(mut self, fault: HostFault) -> HostFault {
        for file in &self.files {
            // Nothing was written to it yet.
            let _ = fs::remove_file(file);
        }
        match self.remove() {
            Ok(()) => fault,
            Err(left) => HostFault { reason: format!("{}; and {left}", fault.reason), ..fault },
        }
    }

    /// It is somebody else's by now: nothing of it is removed.
    pub(crate) fn release(&mut self) {
        self.directory = None;
        self.sockets.clear();
    }

    /// What another program made for a machine is ours, to be removed at its end.
    pub(crate) fn adopt(&mut self, directory: Option<&str>, socket: &str) {
        (self.directory, self.adopted) = (directory.map(PathBuf::from).filter(|path| is_named_by_us(path)), true);
        self.made_socket(PathBuf::from(socket));
    }

    pub(crate) fn remove(&mut self) -> Result<(), HostFault> {
        self.remove_sockets();
        let Some(directory) = self.directory.take() else { return Ok(()) };
        if let Some(log) = self.log.as_ref().filter(|log| log.path.starts_with(&directory)) {
            // This and the line behind it need no descriptor, of which there may be none.
            let _ = fs::remove_file(&log.path);
        }
        let removed = if self.adopted {
            let _ = fs::remove_file(directory.join("log"));
            fs::remove_dir(&directory)
        } else {
            fs::remove_dir(&directory).or_else(|_| fs::remove_dir_all(&directory))
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(fault(format!("remove {}", directory.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// A socket is removed as soon as it has served: it takes one connection. One that somebody else has put in its
    /// scratch stays.
    pub(crate) fn remove_sockets(&mut self) {
        for made in self.sockets.drain(..) {
            let there = fs::symlink_metadata(&made.path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (made.device, made.inode)) {
                let _ = fs::remove_file(&made.path);
            }
        }
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // The orderly end has removed it already; there is nobody left to tell about a failure.
        let _ = self.remove();
    }
}

/// Whether a directory has a name such as we give: what is stored as an identity may have been changed.
fn is_named_by_us(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = name.rsplit_once('-').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| suffix.len() == 16 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A name that nobody can guess or have put something under.
fn unpredictable(prefix: &[u8]) -> io::Result<OsString> {
    let mut random = [0_u8; 8];
    // Less than 256 bytes are given whole or not at all.
    getrandom(&mut random, GetRandomFlags::empty())?;
    let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(OsString::from_vec([prefix, b"-", suffix.as_bytes()].concat()))
}

/// A new file that only its owner can open. It is never one that was there, nor what a link points to.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
}

/// Empties a file that is there. A pipe would keep us waiting for a reader, and a link may lead anywhere: both are
/// refused.
fn empty(path: &Path) -> io::Result<()> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.set_len(0)
}

pub(crate) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

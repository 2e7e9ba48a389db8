//! Decides where the files of one machine lie, and that they are private and go away.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qemu_machine_core::{HostFault, Preparation};
use rustix::rand::{GetRandomFlags, getrandom};

use super::fault;

/// The private directory and the log of one machine.
#[derive(Debug)]
pub(super) struct Place {
    /// None when nothing lies in it: the log has a directory of its own.
    directory: Option<PathBuf>,
    log_path: PathBuf,
    /// Stays readable when its name is gone.
    log: Option<File>,
}

impl Place {
    pub(super) fn make(wanted: &Preparation) -> Result<Self, HostFault> {
        let name = unpredictable(&wanted.name).map_err(|error| fault("get random bytes".into(), &error))?;
        let mut place = match &wanted.log_directory {
            Some(kept) => {
                let log_path = path(kept).join({
                    let mut file = name;
                    file.push(".log");
                    file
                });
                Self { directory: None, log_path, log: None }
            }
            None => {
                let base = wanted.base.as_deref().map_or_else(std::env::temp_dir, path);
                let directory = base.join(name);
                DirBuilder::new()
                    .mode(0o700)
                    .create(&directory)
                    .map_err(|error| fault(format!("make the directory {}", directory.display()), &error))?;
                Self { log_path: directory.join("log"), directory: Some(directory), log: None }
            }
        };
        match create_private(&place.log_path) {
            Ok(log) => place.log = Some(log),
            Err(error) => {
                let made = fault(format!("make the log {}", place.log_path.display()), &error);
                return Err(place.removed_after(made));
            }
        }
        Ok(place)
    }

    pub(super) fn directory(&self) -> Option<Vec<u8>> {
        self.directory.clone().map(|directory| directory.into_os_string().into_vec())
    }

    pub(super) fn log_path(&self) -> Vec<u8> {
        self.log_path.as_os_str().as_bytes().to_vec()
    }

    /// A descriptor to write the log with.
    pub(super) fn log(&self) -> io::Result<File> {
        self.log.as_ref().map_or_else(|| Err(io::ErrorKind::NotFound.into()), File::try_clone)
    }

    pub(super) fn read_log(&self, limit: usize) -> io::Result<Vec<u8>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let length = log.metadata()?.len();
        let wanted = length.min(u64::try_from(limit).unwrap_or(u64::MAX));
        let mut tail = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
        log.read_exact_at(&mut tail, length - wanted)?;
        Ok(tail)
    }

    /// Cleans up after something failed. What cannot be removed is added to the fault.
    pub(super) fn removed_after(mut self, fault: HostFault) -> HostFault {
        match self.remove() {
            Ok(()) => fault,
            Err(left) => HostFault { reason: format!("{}; and {left}", fault.reason), ..fault },
        }
    }

    pub(super) fn remove(&mut self) -> Result<(), HostFault> {
        let Some(directory) = self.directory.take() else { return Ok(()) };
        // These two need no descriptor, of which there may be none.
        let _ = fs::remove_file(&self.log_path);
        let removed = fs::remove_dir(&directory).or_else(|_| fs::remove_dir_all(&directory));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(fault(format!("remove {}", directory.display()), &error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The orderly end has removed it already; there is nobody left to tell about a failure.
        let _ = self.remove();
    }
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

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

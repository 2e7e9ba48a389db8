//! Scratch directory of a machine, with its log and its sockets: private, and removed at the end of the machine.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qemu_machine_core::{HostFault, Preparation};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fault::fault;
use crate::sys::{GuardSpec, Guarded, Os, System};

/// The private directory, the log and the sockets of one machine.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    /// The first part of every file name: the name of the machine and an unpredictable suffix.
    name: OsString,
    /// `None` means that nothing needs a directory.
    directory: Option<PathBuf>,
    base: Option<Vec<u8>>,
    log: Option<Log>,
    /// The sockets that were created for the machine.
    sockets: Vec<Guarded>,
    /// The files that were created for the machine. They are removed unless the machine keeps them.
    files: Vec<PathBuf>,
    /// Whether the directory was named by an identity, which another program stored. Then only files with known names
    /// are removed: the stored path may have been changed, and could lead to any directory.
    adopted: bool,
}

#[derive(Debug)]
struct Log {
    /// `None` means that it has none, so that nothing of it can be left behind.
    path: Option<PathBuf>,
    /// The open log stays readable after its path was removed (`unlink(2)`).
    file: File,
}

impl ScratchDir {
    pub(crate) fn create(wanted: &Preparation) -> Result<Self, HostFault> {
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
        let created = if wanted.process { scratch.create_log(wanted) } else { Ok(()) };
        let created = created.and_then(|()| wanted.files.iter().try_for_each(|file| scratch.create_file(&path(file))));
        match created {
            Ok(()) => Ok(scratch),
            Err(fault) => Err(scratch.removed_after(fault)),
        }
    }

    fn create_log(&mut self, wanted: &Preparation) -> Result<(), HostFault> {
        let path = match &wanted.log_directory {
            Some(kept) => Some(path(kept).join(self.named(".log"))),
            None if wanted.has_log_path => Some(self.private()?.join("log")),
            None => None,
        };
        let base = self.base();
        let file = path.as_deref().map_or_else(|| create_unnamed(&base.join(self.named(".log"))), create_private);
        match file {
            Ok(file) => {
                self.files.extend(path.clone().filter(|_| wanted.log_directory.is_some()));
                self.log = Some(Log { path, file });
            }
            Err(error) => {
                let place = path.map_or_else(|| format!("in {}", base.display()), |path| path.display().to_string());
                return Err(fault(format!("create the log {place}"), &error));
            }
        }
        Ok(())
    }

    /// Returns the directory in which a private one is created.
    fn base(&self) -> PathBuf {
        self.base.as_deref().map_or_else(std::env::temp_dir, path)
    }

    /// Creates an empty file that only its owner can open. A file that exists is emptied, and keeps its mode.
    fn create_file(&mut self, path: &Path) -> Result<(), HostFault> {
        let failed = |error: io::Error| fault(format!("create the file {}", path.display()), &error);
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

    /// Returns the private directory, and creates it when it is first needed.
    fn private(&mut self) -> Result<&Path, HostFault> {
        if self.directory.is_none() {
            let directory = self.base().join(&self.name);
            DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .map_err(|error| fault(format!("create the directory {}", directory.display()), &error))?;
            self.directory = Some(directory);
        }
        Ok(self.directory.as_deref().unwrap_or(Path::new("")))
    }

    /// Returns an unpredictable path for a socket, in this directory or in the private one.
    pub(crate) fn socket_path(&mut self, directory: Option<&[u8]>) -> Result<PathBuf, HostFault> {
        match directory {
            Some(directory) => Ok(path(directory).join(self.named("-monitor.sock"))),
            None => Ok(self.private()?.join("monitor.sock")),
        }
    }

    /// Records that a socket was bound to this path, which must be removed at the end.
    pub(crate) fn made_socket(&mut self, path: PathBuf) {
        // The current directory may change before the path is removed.
        let path = std::path::absolute(&path).unwrap_or(path);
        self.sockets.extend(identified(path));
    }

    /// Returns what must be removed when this program ends before it removes that itself.
    pub(crate) fn guarded(&self) -> GuardSpec {
        let directory = self.directory.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let log = directory.as_ref().and_then(|directory| identified(directory.join("log")));
        GuardSpec { files: self.sockets.iter().cloned().chain(log).collect(), directory }
    }

    pub(crate) fn directory(&self) -> Option<Vec<u8>> {
        self.directory.clone().map(|directory| directory.into_os_string().into_vec())
    }

    pub(crate) fn log_path(&self) -> Option<Vec<u8>> {
        self.log.as_ref().and_then(|log| Some(log.path.as_ref()?.as_os_str().as_bytes().to_vec()))
    }

    /// Returns a descriptor for the standard output and error of the process.
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

    /// Removes everything after a failure, and returns the fault. A file that cannot be removed is added to the fault.
    pub(crate) fn removed_after(mut self, fault: HostFault) -> HostFault {
        match self.remove() {
            Ok(()) => fault,
            Err(left) => HostFault { reason: format!("{}; and {left}", fault.reason), ..fault },
        }
    }

    /// Keeps the files that were created for the machine: it uses them from now on.
    pub(crate) fn keep_files(&mut self) {
        self.files.clear();
    }

    /// Leaves the directory and the sockets to another program: none of them is removed.
    pub(crate) fn detach(&mut self) {
        self.directory = None;
        self.sockets.clear();
    }

    /// Adopts the directory and the socket that another program created for a machine: they are removed at the end of
    /// the machine.
    pub(crate) fn adopt(&mut self, directory: Option<&str>, socket: &str) {
        (self.directory, self.adopted) = (directory.map(PathBuf::from).filter(|path| is_scratch_name(path)), true);
        self.made_socket(PathBuf::from(socket));
    }

    fn remove(&mut self) -> Result<(), HostFault> {
        self.take_leftovers().map_or(Ok(()), Leftovers::remove)
    }

    /// Returns what is left to remove. `None` means that there is nothing. The log stays readable.
    pub(crate) fn take_leftovers(&mut self) -> Option<Leftovers> {
        let directory = self.directory.take();
        let sockets = std::mem::take(&mut self.sockets);
        if directory.is_none() && sockets.is_empty() {
            return None;
        }
        let log = self.log.as_ref().and_then(|log| log.path.clone());
        Some(Leftovers { directory, log, sockets, adopted: self.adopted })
    }

    /// Removes the sockets. Each accepts one connection, and is of no use after it.
    pub(crate) fn remove_sockets(&mut self) {
        remove_sockets(&std::mem::take(&mut self.sockets));
    }
}

/// The files of a machine that has ended.
#[derive(Debug)]
pub(crate) struct Leftovers {
    directory: Option<PathBuf>,
    log: Option<PathBuf>,
    sockets: Vec<Guarded>,
    adopted: bool,
}

impl Leftovers {
    pub(crate) fn remove(self) -> Result<(), HostFault> {
        remove_sockets(&self.sockets);
        let Some(directory) = self.directory else { return Ok(()) };
        if let Some(log) = self.log.filter(|log| log.starts_with(&directory)) {
            // Removing the log first leaves the directory empty, as `rmdir(2)` needs it. Removing a directory with
            // files needs a descriptor to list them, and the limit of descriptors may be reached.
            let _ = fs::remove_file(log);
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
}

/// Removes sockets. A file that another program put in the place of a socket is kept. The path of a socket that QEMU
/// listens on may be gone already: QEMU removes it when it ends cleanly (measured with QEMU 7.2.22).
fn remove_sockets(sockets: &[Guarded]) {
    for socket in sockets {
        let there = fs::symlink_metadata(&socket.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (socket.device, socket.inode)) {
            let _ = fs::remove_file(&socket.path);
        }
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // An orderly end has removed everything already. After any other, a failure cannot be reported any more.
        let _ = self.remove();
        for file in &self.files {
            // A file that cannot be removed is left empty: nothing was written to it yet.
            let _ = fs::remove_file(file);
        }
    }
}

fn identified(path: PathBuf) -> Option<Guarded> {
    let metadata = fs::symlink_metadata(&path).ok()?;
    Some(Guarded { path, device: metadata.dev(), inode: metadata.ino() })
}

/// Returns whether a path ends in a name as [`unpredictable`] returns it. A stored identity may have been changed, and
/// must not make this program remove another directory.
fn is_scratch_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = name.rsplit_once('-').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| suffix.len() == 16 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns a name that another program can neither guess nor have used. In a directory for all users it could otherwise
/// create the path first.
fn unpredictable(prefix: &[u8]) -> io::Result<OsString> {
    let mut random = [0_u8; 8];
    Os::random(&mut random)?;
    let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(OsString::from_vec([prefix, b"-", suffix.as_bytes()].concat()))
}

/// Creates a file that only its owner can open. Fails when the path exists, also as a dangling link (`open(2)`,
/// O_EXCL): another user could have put the link there.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
}

/// Creates a file that only its owner can open, and without a path (`open(2)`, O_TMPFILE). Where the file system does not
/// support that, the path exists for a moment.
fn create_unnamed(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE.bits() as i32;
    let unnamed = OpenOptions::new().read(true).append(true).mode(0o600).custom_flags(flags).open(directory);
    match unnamed {
        // A file system or a kernel that does not know the flag opens the directory itself (`open(2)`, BUGS).
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
            let file = create_private(path)?;
            fs::remove_file(path)?;
            Ok(file)
        }
        result => result,
    }
}

/// Empties a file that exists. Fails for a FIFO, on which a blocking open would wait for a reader (`fifo(7)`), and for
/// a symbolic link (`open(2)`, O_NOFOLLOW), which may lead to any file.
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

//! Scratch directory of a machine, with its log and its sockets: private, and removed at the end of the machine.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qemu_machine_core::{HostFault, Preparation};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fault::fault;
use crate::log_bound::{BoundedFile, LogBound};
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
    /// The limit of each log, in bytes. `None` means that they are not bounded.
    limit: Option<u64>,
    /// The bounds of the logs.
    bounds: Vec<LogBound>,
    /// Why a log has no bound, although it was configured.
    unbounded: Option<HostFault>,
    /// Whether the directory was named by an identity, which another program stored. Then only files with known names
    /// are removed: the stored path may have been changed, and could lead to any directory.
    adopted: bool,
}

#[derive(Debug)]
struct Log {
    /// `None` means that it has none, so that nothing of it can be left behind.
    path: Option<PathBuf>,
    /// The open log stays readable after its path was removed (`unlink(2)`).
    file: Arc<File>,
    /// `None` means that it is not bounded.
    bounded: Option<Arc<BoundedFile>>,
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
            limit: wanted.log_limit,
            bounds: Vec::new(),
            unbounded: None,
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
                let file = Arc::new(file);
                let bounded = self.bound(&file)?;
                self.log = Some(Log { path, file, bounded });
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
        let file = match create_private(path) {
            Ok(file) => {
                self.files.push(path.to_owned());
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => empty(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        self.bound(&Arc::new(file)).map(drop)
    }

    /// Begins to bound a log, which is empty, if the logs have a limit.
    fn bound(&mut self, file: &Arc<File>) -> Result<Option<Arc<BoundedFile>>, HostFault> {
        let Some(limit) = self.limit else { return Ok(None) };
        if let Err(error) = Os::can_remove_head(file.as_fd()) {
            self.unbounded = Some(fault("remove the head of a log, which is not bounded".into(), &error));
            return Ok(None);
        }
        let bounded = BoundedFile::new(Arc::clone(file), limit);
        let bound = LogBound::new(&bounded).map_err(|error| fault("watch the log for its limit".into(), &error))?;
        self.bounds.push(bound);
        Ok(Some(bounded))
    }

    /// Returns why a log has no bound, although it was configured. `None` means that each has, or needs none.
    pub(crate) fn unbounded(&self) -> Option<&HostFault> {
        self.unbounded.as_ref()
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
        match &log.bounded {
            Some(bounded) => bounded.with_start(|start| read_tail(&log.file, start, limit)),
            None => read_tail(&log.file, 0, limit),
        }
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
    ///
    /// Returns the bounds of the logs, which go on until the result is dropped.
    #[must_use]
    pub(crate) fn detach(&mut self) -> Vec<LogBound> {
        self.directory = None;
        self.sockets.clear();
        std::mem::take(&mut self.bounds)
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

    /// Returns whether anything was created.
    pub(crate) fn is_used(&self) -> bool {
        self.log.is_some() || self.directory.is_some() || !self.sockets.is_empty()
    }

    /// Returns what is left to remove. `None` means that there is nothing. The log stays readable.
    pub(crate) fn take_leftovers(&mut self) -> Option<Leftovers> {
        let directory = self.directory.take();
        let (sockets, bounds) = (std::mem::take(&mut self.sockets), std::mem::take(&mut self.bounds));
        if directory.is_none() && sockets.is_empty() && bounds.is_empty() {
            return None;
        }
        let log = self.log.as_ref().and_then(|log| log.path.clone());
        // A log without a path is of no use to another program.
        let bounded = self.log.as_ref().filter(|_| log.is_some()).and_then(|log| log.bounded.clone());
        Some(Leftovers { directory, log, sockets, bounds, bounded, adopted: self.adopted })
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
    bounds: Vec<LogBound>,
    /// The log, if it is bounded.
    bounded: Option<Arc<BoundedFile>>,
    adopted: bool,
}

impl Leftovers {
    pub(crate) fn remove(self) -> Result<(), HostFault> {
        remove_sockets(&self.sockets);
        // A log that is kept gets its final length. After a failure it stays as it is.
        self.bounded.filter(|_| !self.bounds.is_empty()).into_iter().for_each(|log| drop(log.apply()));
        drop(self.bounds);
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
fn empty(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.set_len(0)?;
    Ok(file)
}

/// Returns the last bytes of a file from `start` on, at most `limit`.
fn read_tail(file: &File, start: u64, limit: usize) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let wanted = length.saturating_sub(start).min(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut tail = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
    file.read_exact_at(&mut tail, length - wanted)?;
    Ok(tail)
}

pub(crate) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: usize = 64 * 1024;

    /// A directory, which is removed with its content when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn in_directory(directory: &Path) -> Self {
            let path = directory.join(unpredictable(b"scratch").unwrap());
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn bytes(path: &Path) -> Vec<u8> {
        path.as_os_str().as_bytes().to_vec()
    }

    fn wanted(base: &Path) -> Preparation {
        Preparation {
            name: b"vm".to_vec(),
            base: Some(bytes(base)),
            log_directory: None,
            log_limit: Some(u64::try_from(LIMIT).unwrap()),
            has_log_path: false,
            process: true,
            channels: Vec::new(),
            trusts_peer: false,
            services: Vec::new(),
            passed: Vec::new(),
            added: Vec::new(),
            files: Vec::new(),
        }
    }

    /// A hole in the file is not read as zeros, and the file has its final length when it is kept.
    #[test]
    fn the_end_of_a_bounded_log_is_read_exactly() {
        for directory in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let kept = Scratch::in_directory(&directory);
            let mut wanted = wanted(&directory);
            wanted.log_directory = Some(bytes(&kept.0));
            let mut scratch = ScratchDir::create(&wanted).unwrap();
            let text: Vec<u8> = (0..50_000).flat_map(|line: u32| format!("{line}\n").into_bytes()).collect();
            scratch.log().unwrap().write_all(&text).unwrap();
            // This removes the head, if the thread has not done that before.
            scratch.remove().unwrap();
            assert_eq!(scratch.bounds.len(), 0);
            let all = scratch.read_log(usize::MAX).unwrap();
            assert!(text.ends_with(&all) && (LIMIT / 2..=LIMIT).contains(&all.len()), "{}", all.len());
            assert_eq!(scratch.read_log(100).unwrap(), &text[text.len() - 100..]);
            let file = fs::metadata(scratch.log_path().map(|log| path(&log)).unwrap()).unwrap();
            assert!(file.blocks() * 512 <= 2 * u64::try_from(LIMIT).unwrap(), "{}", file.blocks());
        }
    }

    #[test]
    fn the_files_of_consoles_are_bounded_as_well() {
        let directory = Scratch::in_directory(&std::env::temp_dir());
        let mut wanted = wanted(&directory.0);
        let (new, old) = (directory.0.join("new"), directory.0.join("old"));
        fs::write(&old, "old").unwrap();
        wanted.files = vec![bytes(&new), bytes(&old)];
        let mut scratch = ScratchDir::create(&wanted).unwrap();
        assert_eq!((scratch.bounds.len(), scratch.unbounded()), (3, None));
        assert_eq!(scratch.detach().len(), 3, "the bounds go on after a detach");
        wanted.log_limit = None;
        assert_eq!(ScratchDir::create(&wanted).unwrap().bounds.len(), 0);
    }

    /// A file that the kernel makes no holes in stays without a bound, and the reason is kept.
    #[test]
    fn a_log_that_cannot_be_bounded_is_reported() {
        let directory = std::env::temp_dir();
        let mut scratch = ScratchDir::create(&wanted(&directory)).unwrap();
        let device = Arc::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
        assert!(scratch.bound(&device).unwrap().is_none());
        let fault = scratch.unbounded().unwrap();
        assert!(fault.operation.contains("not bounded"), "{fault}");
        assert_eq!(scratch.bounds.len(), 1);
    }
}

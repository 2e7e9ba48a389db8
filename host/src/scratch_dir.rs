//! Files of a machine: its log, its sockets, and the private directory, if it needs one. They are removed at the end of
//! the machine, except for a log in a directory of the caller.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, Mutex};

use qemu_machine_core::{ExtraMonitorSocket, FileId, HostFault, Identity, Preparation, Transport};
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;

use crate::background::begin_and_forget;
use crate::fault::fault;
use crate::file_id::file_id;
use crate::lock::lock;
use crate::log_bound::{BoundedFile, LogBound};
use crate::log_reader::LogReader;
use crate::registry::Registration;
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
    /// The log, if it is in the private directory.
    log_in_directory: Option<Guarded>,
    /// The sockets that were created for the machine.
    sockets: Vec<Guarded>,
    /// The sockets on which QEMU serves other programs. They are of use as long as it runs.
    monitor_sockets: Vec<Guarded>,
    /// Whether the sockets are removed. The lock is held by the one who removes them.
    sockets_removed: Arc<Mutex<bool>>,
    /// The paths of the sockets of companions, in the private directory.
    companion_sockets: Vec<PathBuf>,
    /// The files that were created for the machine. They are removed with the rest until this is taken over.
    files: Vec<Guarded>,
    /// What another program created for the machine. It is removed after this was taken over, and not before: the
    /// machine may run on.
    resumed: Option<Resumed>,
    /// The limit of each log, in bytes. `None` means that they are not bounded.
    limit: Option<u64>,
    /// The bounds of the logs.
    bounds: Vec<LogBound>,
    /// Why a log has no bound, although it was configured.
    unbounded: Option<HostFault>,
    /// The registration of a machine that outlives its parent.
    registration: Option<Registration>,
    /// Whether this program has resumed the machine that the adopted files belong to.
    is_owned: bool,
    /// Whether the log of a resumed machine has the name of one.
    is_log_ours: bool,
    /// Whether the directory was named by an identity, which another program stored. Then only files with known names
    /// are removed: the stored path may have been changed, and could lead to any directory.
    adopted: bool,
}

#[derive(Debug)]
struct Log {
    /// `None` means that the file has none (`open(2)`, O_TMPFILE).
    path: Option<PathBuf>,
    file: Arc<File>,
    reader: LogReader,
}

/// Files that the identity of a machine names.
#[derive(Debug)]
struct Resumed {
    identity: Identity,
    directory: Option<PathBuf>,
    socket: Option<Guarded>,
    monitor_sockets: Vec<Guarded>,
}

impl ScratchDir {
    pub(crate) fn create(wanted: &Preparation) -> Result<Self, HostFault> {
        let name = unpredictable(&wanted.name).map_err(|error| fault("get random bytes".into(), &error))?;
        let mut scratch = Self {
            name,
            directory: None,
            base: wanted.base.clone(),
            log: None,
            log_in_directory: None,
            sockets: Vec::new(),
            monitor_sockets: Vec::new(),
            sockets_removed: Arc::default(),
            companion_sockets: Vec::new(),
            files: Vec::new(),
            resumed: None,
            limit: wanted.log_limit,
            bounds: Vec::new(),
            unbounded: None,
            registration: None,
            is_owned: false,
            is_log_ours: false,
            adopted: false,
        };
        let prints_to_channel = wanted.channels.iter().any(|(_, transport)| *transport == Transport::Output);
        let has_log = wanted.process && !prints_to_channel;
        let created = if has_log { scratch.create_log(wanted) } else { Ok(()) };
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
        let file = path.as_deref().map_or_else(|| create_unnamed_log(&base.join(self.named(".log"))), create_private);
        match file {
            Ok(file) => {
                match (&path, &wanted.log_directory) {
                    (Some(path), Some(_)) => self.files.extend(identified(absolute(path.clone()))),
                    (Some(path), None) => self.log_in_directory = identified(absolute(path.clone())),
                    (None, _) => {}
                }
                let file = Arc::new(file);
                let bounded = self.bound(&file)?;
                let reader = LogReader::new(Arc::clone(&file), bounded);
                self.log = Some(Log { path, file, reader });
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
                self.files.extend(identified(absolute(path.to_owned())));
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
        self.watch_bound(BoundedFile::new(Arc::clone(file), limit)).map(Some)
    }

    /// Begins to bound a log that is not empty, if the logs have a limit.
    fn bound_again(&mut self, file: &Arc<File>) -> Result<Option<Arc<BoundedFile>>, HostFault> {
        let Some(limit) = self.limit else { return Ok(None) };
        // Its head may have been removed before (`lseek(2)`, SEEK_DATA).
        let start = seek(file, SeekFrom::Data(0)).unwrap_or_default();
        let bounded = BoundedFile::from(Arc::clone(file), limit, start);
        self.watch_bound(bounded).map(Some)
    }

    fn watch_bound(&mut self, bounded: Arc<BoundedFile>) -> Result<Arc<BoundedFile>, HostFault> {
        let bound = LogBound::new(&bounded).map_err(|error| fault("watch the log for its limit".into(), &error))?;
        self.bounds.push(bound);
        Ok(bounded)
    }

    /// Returns why a log has no bound, although it was configured. `None` means that no bound is missing.
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

    /// Returns the path for the socket of a companion. Whatever is there in the end is removed: no other user can create a
    /// file in the private directory.
    pub(crate) fn companion_socket(&mut self, companion: &str) -> Result<PathBuf, HostFault> {
        let path = absolute(self.private()?.join(format!("companion-{companion}.sock")));
        self.companion_sockets.push(path.clone());
        Ok(path)
    }

    /// Creates the log of a companion, which stays after the end if it is in a directory of the caller.
    pub(crate) fn companion_log(
        &mut self,
        companion: &str,
        kept_in: Option<&[u8]>,
    ) -> Result<(Arc<File>, LogReader), HostFault> {
        let name = self.named(&format!("-{companion}.log"));
        let path = kept_in.map(|directory| path(directory).join(&name));
        let unnamed = self.base().join(&name);
        let created = path.as_deref().map_or_else(|| create_unnamed_log(&unnamed), create_private);
        let failed = |error| fault(format!("create the log of the companion {companion}"), &error);
        let file = Arc::new(created.map_err(failed)?);
        self.files.extend(path.and_then(|path| identified(absolute(path))));
        let bounded = self.bound(&file)?;
        Ok((Arc::clone(&file), LogReader::new(file, bounded)))
    }

    /// Records that a socket was bound to this path, which must be removed at the end.
    pub(crate) fn made_socket(&mut self, path: PathBuf) {
        self.sockets.extend(identified(absolute(path)));
    }

    /// Records that a socket was bound to this path on which QEMU serves other programs.
    pub(crate) fn made_monitor_socket(&mut self, path: PathBuf) -> io::Result<()> {
        let id = file_id(&fs::symlink_metadata(&path)?);
        self.monitor_sockets.push(Guarded { path, id });
        Ok(())
    }

    /// Returns the sockets on which QEMU serves other programs, in the order in which they were created.
    pub(crate) fn monitor_sockets(&self) -> Vec<FileId> {
        self.monitor_sockets.iter().map(|socket| socket.id).collect()
    }

    /// Returns whether something must be removed when this program ends before it removes that itself.
    pub(crate) fn is_guarded(&self) -> bool {
        self.directory.is_some() || !self.sockets.is_empty() || !self.monitor_sockets.is_empty()
    }

    /// Returns what must be removed when this program ends before it removes that itself.
    pub(crate) fn guarded(&self) -> GuardSpec {
        let directory = self.directory.clone().map(absolute);
        let log = directory.as_ref().and(self.log_in_directory.clone());
        let sockets = self.companion_sockets.iter().flat_map(|path| [path.clone(), pid_file(path)]).collect();
        let files = self.sockets.iter().chain(&self.monitor_sockets).cloned().chain(log).collect();
        GuardSpec { files, sockets, directory }
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

    pub(crate) fn log_reader(&self) -> LogReader {
        self.log.as_ref().map(|log| log.reader.clone()).unwrap_or_default()
    }

    /// Removes everything after a failure, and returns the fault. A file that cannot be removed is added to the fault.
    pub(crate) fn removed_after(mut self, fault: HostFault) -> HostFault {
        match self.remove() {
            Ok(()) => fault,
            Err(left) => HostFault { reason: format!("{}; and {left}", fault.reason.as_str()).into(), ..fault },
        }
    }

    /// Takes over everything for the machine. From now on, the files that it writes are kept, and what another program
    /// created for it is removed at its end.
    pub(crate) fn take_over(&mut self) {
        self.files.clear();
        if let Some(Resumed { identity, directory, socket, monitor_sockets }) = self.resumed.take() {
            self.monitor_sockets.extend(monitor_sockets);
            (self.directory, self.adopted) = (directory, true);
            self.registration = Some(Registration::of_earlier(identity));
            self.sockets.extend(socket);
        }
    }

    /// Leaves the directory and the sockets to another program: none of them is removed.
    ///
    /// Returns the bounds of the logs, which go on until the result is dropped.
    #[must_use]
    pub(crate) fn detach(&mut self) -> Vec<LogBound> {
        self.directory = None;
        self.registration = None;
        self.sockets.clear();
        self.monitor_sockets.clear();
        mem::take(&mut self.bounds)
    }

    /// Registers the machine, which this program owns from now on.
    pub(crate) fn register(&mut self, identity: Identity) {
        self.registration = Some(Registration::begin(identity, self.registration.take()));
    }

    /// Records the directory and the socket that another program created for a machine, and opens its log. A stored
    /// identity may have been changed, so the log is bounded only if it has the name of one.
    pub(crate) fn resume(&mut self, identity: &Identity) -> Result<(), HostFault> {
        let directory = identity.directory.as_ref().map(PathBuf::from).filter(|path| is_scratch_name(path));
        let in_directory = directory.as_ref().map(|directory| directory.join("log"));
        let (path, (device, inode)) = (absolute(PathBuf::from(&identity.monitor)), identity.socket);
        let log = identity.log.as_ref().map(PathBuf::from).or_else(|| in_directory.clone());
        let guarded = |ExtraMonitorSocket { path, file, .. }: &ExtraMonitorSocket| Guarded {
            path: absolute(PathBuf::from(path)),
            id: *file,
        };
        let monitor_sockets = identity.extra_monitors.iter().map(guarded).collect();
        let (identity, socket) = (identity.clone(), Some(Guarded { path, id: FileId::new(device, inode, None) }));
        self.resumed = Some(Resumed { identity, directory, socket, monitor_sockets });
        let Some(path) = log else { return Ok(()) };
        let is_ours = in_directory.as_ref() == Some(&path) || is_scratch_name(&path.with_extension(""));
        // A log that was removed is empty.
        let Ok(file) = open_log(&path, is_ours && self.limit.is_some()).map(Arc::new) else { return Ok(()) };
        let reader = LogReader::new(Arc::clone(&file), None);
        self.log = Some(Log { path: Some(path), file, reader });
        self.is_log_ours = is_ours;
        Ok(())
    }

    /// Takes ownership of what another program created for a machine, which this one has resumed. From now on, dropping
    /// this removes it, and the log has its limit.
    pub(crate) fn own(&mut self) {
        self.is_owned = true;
        let file = self.log.as_ref().filter(|_| self.adopted && self.is_log_ours).map(|log| Arc::clone(&log.file));
        let Some(file) = file else { return };
        match self.bound_again(&file) {
            Ok(bounded) => {
                self.log.iter_mut().for_each(|log| log.reader = LogReader::new(Arc::clone(&file), bounded.clone()))
            }
            Err(fault) => self.unbounded = Some(fault),
        }
    }

    pub(crate) fn remove(&mut self) -> Result<(), HostFault> {
        self.take_leftovers().map_or(Ok(()), Leftovers::remove)
    }

    /// Returns whether anything was created.
    pub(crate) fn is_used(&self) -> bool {
        let has_sockets = !self.sockets.is_empty() || !self.monitor_sockets.is_empty();
        self.log.is_some() || self.directory.is_some() || has_sockets || !self.bounds.is_empty()
    }

    /// Returns what is left to remove. `None` means that there is nothing. The log stays readable.
    pub(crate) fn take_leftovers(&mut self) -> Option<Leftovers> {
        let directory = self.directory.take();
        let (sockets, bounds) = (mem::take(&mut self.sockets), mem::take(&mut self.bounds));
        let (files, monitor_sockets) = (mem::take(&mut self.files), mem::take(&mut self.monitor_sockets));
        let registration = self.registration.take();
        let companion_sockets = mem::take(&mut self.companion_sockets);
        let has_files =
            directory.is_some() || [&sockets, &monitor_sockets, &files].iter().any(|files| !files.is_empty());
        if !has_files && bounds.is_empty() && registration.is_none() {
            return None;
        }
        let log = self.log.as_ref().and_then(|log| log.path.clone());
        let sockets_removed = Arc::clone(&self.sockets_removed);
        Some(Leftovers {
            directory,
            log,
            sockets,
            monitor_sockets,
            sockets_removed,
            companion_sockets,
            files,
            bounds,
            registration,
            adopted: self.adopted,
        })
    }

    /// Removes the sockets on a thread. Each accepts one connection, and is of no use after it. They are removed at the
    /// end as well, unless that was completed by then.
    pub(crate) fn begin_to_remove_sockets(&self) {
        let (sockets, removed) = (self.sockets.clone(), Arc::clone(&self.sockets_removed));
        if !sockets.is_empty() {
            begin_and_forget(move || remove_sockets(&sockets, &removed));
        }
    }
}

/// The files of a machine that has ended.
#[derive(Debug)]
pub(crate) struct Leftovers {
    directory: Option<PathBuf>,
    log: Option<PathBuf>,
    sockets: Vec<Guarded>,
    monitor_sockets: Vec<Guarded>,
    sockets_removed: Arc<Mutex<bool>>,
    companion_sockets: Vec<PathBuf>,
    files: Vec<Guarded>,
    bounds: Vec<LogBound>,
    registration: Option<Registration>,
    adopted: bool,
}

impl Leftovers {
    pub(crate) fn remove(self) -> Result<(), HostFault> {
        remove_sockets(&self.sockets, &self.sockets_removed);
        // A companion may have removed its own.
        self.companion_sockets.iter().for_each(|path| drop(fs::remove_file(path)));
        remove_monitor_sockets(&self.monitor_sockets, self.adopted);
        // A file that is not empty is in use: by the next machine with this path, for example.
        remove_unchanged(&self.files, |file| file.len() == 0);
        // A log that is kept gets its final length. After a failure it stays as it is.
        self.bounds.iter().for_each(|bound| drop(bound.apply()));
        drop(self.bounds);
        let removed = self.directory.map_or(Ok(()), |directory| remove_directory(&directory, self.log, self.adopted));
        // Last, since it names what could not be removed.
        if removed.is_ok() {
            self.registration.iter().for_each(Registration::remove);
        }
        removed
    }
}

fn remove_directory(directory: &Path, log: Option<PathBuf>, is_adopted: bool) -> Result<(), HostFault> {
    let removed = if is_adopted {
        let _ = fs::remove_file(directory.join("log"));
        fs::remove_dir(directory)
    } else {
        if let Some(log) = log.filter(|log| log.starts_with(directory)) {
            // Removing the log first leaves the directory empty, as `rmdir(2)` needs it. Removing a directory with
            // files needs a descriptor to list them, and the limit of descriptors may be reached.
            let _ = fs::remove_file(log);
        }
        fs::remove_dir(directory).or_else(|_| fs::remove_dir_all(directory))
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fault(format!("remove {}", directory.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Removes sockets, once: when this returns, they are removed, and a path may have been bound again. The path of a socket
/// that QEMU listens on may be gone before: QEMU removes it when it ends cleanly (measured with QEMU 7.2.22).
fn remove_sockets(sockets: &[Guarded], removed: &Mutex<bool>) {
    let mut removed = lock(removed);
    if !mem::replace(&mut *removed, true) {
        remove_unchanged(sockets, |_| true);
    }
}

/// Removes the sockets on which QEMU has served other programs. The paths are the caller's, so another program may have bound
/// one since QEMU removed its own, also with the same inode. A socket on which a program listens is kept, if the
/// identity is a stored one, which may have been changed, or if the file system reports no times of creation.
fn remove_monitor_sockets(sockets: &[Guarded], is_adopted: bool) {
    for socket in sockets {
        let is_unused = || Os::has_listener(socket.path.as_os_str().as_bytes()) == Some(false);
        remove_unchanged(slice::from_ref(socket), |there| {
            let is_certain = !is_adopted && socket.id.created.is_some() && file_id(there).created.is_some();
            there.file_type().is_socket() && (is_certain || is_unused())
        });
    }
}

/// Removes files. One that another program put in the place of a file is kept.
fn remove_unchanged(files: &[Guarded], is_unused: impl Fn(&Metadata) -> bool) {
    for file in files {
        let there = fs::symlink_metadata(&file.path);
        if there.is_ok_and(|there| file_id(&there).matches(&file.id) && is_unused(&there)) {
            let _ = fs::remove_file(&file.path);
        }
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if self.adopted && !self.is_owned {
            // The machine runs on: it is not resumed yet.
            drop(self.detach());
        }
        // An orderly end has removed everything already. After any other, a failure cannot be reported any more.
        let _ = self.remove();
    }
}

/// Returns the path of the file in which a companion may have its process id, beside its socket: the newer virtiofsd creates
/// `SOCKET.pid` (virtiofsd 1.0, `src/main.rs`), and leaves it behind when it is killed.
fn pid_file(socket: &Path) -> PathBuf {
    let mut file = socket.as_os_str().to_owned();
    file.push(".pid");
    file.into()
}

fn identified(path: PathBuf) -> Option<Guarded> {
    let id = file_id(&fs::symlink_metadata(&path).ok()?);
    Some(Guarded { path, id })
}

/// Returns an absolute path: the current directory may change before the file is removed.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
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
pub(crate) fn unpredictable(prefix: &[u8]) -> io::Result<OsString> {
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

/// Creates a log as [`create_unnamed`] does.
fn create_unnamed_log(path: &Path) -> io::Result<File> {
    create_unnamed(path, OpenOptions::new().read(true).append(true))
}

/// Creates a file that only its owner can open, and without a path (`open(2)`, O_TMPFILE). Where the operating system or
/// the file system does not support that, the path exists for a moment.
pub(crate) fn create_unnamed(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("."));
    options.mode(0o600);
    match Os::open_unnamed(options.clone(), directory) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
            let file = options.create_new(true).open(path)?;
            fs::remove_file(path)?;
            Ok(file)
        }
        result => result,
    }
}

/// Opens the log of a machine that an earlier program started.
fn open_log(path: &Path, is_bounded: bool) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let file = OpenOptions::new().read(true).append(is_bounded).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
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

pub(crate) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

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
            monitor_sockets: Vec::new(),
            services: Vec::new(),
            passed: Vec::new(),
            added: Vec::new(),
            files: Vec::new(),
            companions: Vec::new(),
        }
    }

    /// A hole in the file is not read as zeros, and the file has its final length when it is kept.
    #[test]
    #[cfg_attr(
        any(not(target_os = "linux"), qemu_machine_portable),
        ignore = "POSIX has no call that removes the head of a file"
    )]
    fn the_end_of_a_bounded_log_is_read_exactly() {
        for directory in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let kept = Scratch::in_directory(&directory);
            let mut wanted = wanted(&directory);
            wanted.log_directory = Some(bytes(&kept.0));
            let mut scratch = ScratchDir::create(&wanted).unwrap();
            let text: Vec<u8> = (0..50_000).flat_map(|line: u32| format!("{line}\n").into_bytes()).collect();
            scratch.take_over();
            scratch.log().unwrap().write_all(&text).unwrap();
            // This removes the head, if the thread has not done that before.
            scratch.remove().unwrap();
            assert_eq!(scratch.bounds.len(), 0);
            let all = scratch.log_reader().read(usize::MAX).unwrap();
            assert!(text.ends_with(&all) && (LIMIT / 2..=LIMIT).contains(&all.len()), "{}", all.len());
            assert_eq!(scratch.log_reader().read(100).unwrap(), &text[text.len() - 100..]);
            let file = fs::metadata(scratch.log_path().map(|log| path(&log)).unwrap()).unwrap();
            assert!(file.blocks() * 512 <= 2 * u64::try_from(LIMIT).unwrap(), "{}", file.blocks());
        }
    }

    #[test]
    #[cfg_attr(
        any(not(target_os = "linux"), qemu_machine_portable),
        ignore = "POSIX has no call that removes the head of a file"
    )]
    fn the_files_of_consoles_are_bounded_as_well() {
        let directory = Scratch::in_directory(&std::env::temp_dir());
        let mut wanted = wanted(&directory.0);
        let (new, old) = (directory.0.join("new"), directory.0.join("old"));
        fs::write(&old, "old").unwrap();
        wanted.files = vec![bytes(&new), bytes(&old)];
        let mut scratch = ScratchDir::create(&wanted).unwrap();
        assert_eq!((scratch.bounds.len(), scratch.unbounded()), (3, None));
        assert_eq!(scratch.detach().len(), 3, "the bounds go on after a detach");
        // The thread may not have noticed the last bytes that QEMU wrote.
        let mut scratch = ScratchDir::create(&wanted).unwrap();
        scratch.take_over();
        fs::write(&new, vec![b'x'; LIMIT + 1]).unwrap();
        scratch.remove().unwrap();
        assert!(fs::metadata(&new).unwrap().blocks() * 512 <= u64::try_from(LIMIT).unwrap());
        wanted.log_limit = None;
        assert_eq!(ScratchDir::create(&wanted).unwrap().bounds.len(), 0);
    }

    /// Until a machine uses it, what was created for it is removed. What another program created stays until the machine is
    /// resumed.
    #[test]
    fn what_no_machine_has_taken_over_is_undone() {
        let directory = Scratch::in_directory(&std::env::temp_dir());
        let mut wanted = wanted(&directory.0);
        wanted.files = vec![bytes(&directory.0.join("console"))];
        wanted.log_directory = Some(bytes(&directory.0));
        let other = directory.0.join("vm-0123456789abcdef");
        let socket = other.join("monitor.sock");
        for (is_taken_over, is_owned) in [(false, false), (true, false), (true, true)] {
            fs::create_dir(&other).unwrap();
            fs::write(&socket, "").unwrap();
            let mut scratch = ScratchDir::create(&wanted).unwrap();
            let inode = identified(socket.clone()).unwrap();
            let path = socket.to_str().unwrap().to_owned();
            let mut identity = Identity::new(String::new(), (0, 0), path, (inode.id.device, inode.id.inode));
            identity.directory = other.to_str().map(str::to_owned);
            scratch.resume(&identity).unwrap();
            if is_taken_over {
                scratch.take_over();
            }
            if is_owned {
                scratch.own();
            }
            drop(scratch);
            let mut left: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path()).collect();
            left.sort();
            assert_eq!((other.exists(), socket.exists()), (!is_owned, !is_owned));
            left.retain(|path| *path != other);
            let kept = if is_taken_over { 2 } else { 0 };
            assert_eq!(left.len(), kept, "a log and the console: {left:?}");
            left.iter().for_each(|path| fs::remove_file(path).unwrap());
            if !is_owned {
                fs::remove_dir_all(&other).unwrap();
            }
        }
    }

    /// A file that the kernel makes no holes in stays without a bound, and the reason is kept.
    #[test]
    fn a_log_that_cannot_be_bounded_is_reported() {
        let directory = std::env::temp_dir();
        let mut scratch = ScratchDir::create(&wanted(&directory)).unwrap();
        let bounds = scratch.bounds.len();
        let device = Arc::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
        assert!(scratch.bound(&device).unwrap().is_none());
        let fault = scratch.unbounded().unwrap();
        assert!(fault.operation.contains("not bounded"), "{fault}");
        assert_eq!(scratch.bounds.len(), bounds);
    }
}

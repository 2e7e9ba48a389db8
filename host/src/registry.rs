//! Registry of the machines that outlive their programs: a file with the identity of each, in a private directory.
//!
//! The directory is `qemu-machine` in `$XDG_RUNTIME_DIR`, and without that variable `qemu-machine-UID` in the directory
//! for temporary files. The program that owns a machine has its file locked (`flock(2)`), until it ends, however it ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use qemu_machine_core::{FaultKind, HostFault, Identity};
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, fstat, mkdir, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::background::begin_and_forget;
use crate::fault::{fault, fault_because};
use crate::home::{Home, Local};
use crate::identity::{complete, find};
use crate::lock::{lock, try_lock};
use crate::sys::Earlier;

/// The most bytes of a file. An identity has some hundred.
const MOST_BYTES: u64 = 64 << 10;

/// A machine that was launched to [outlive its parent](qemu_machine_core::Config::outlive_parent), by any program of this
/// user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registered {
    /// Its identity, to resume it.
    pub identity: Identity,
    /// Whether it runs, and whether a program uses it.
    pub presence: Presence,
}

/// State of a registered machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// A program that launched or resumed it runs.
    InUse,
    /// It runs, and the program that had it is gone, or has detached from it.
    Left,
    /// It has ended. [Resuming](qemu_machine_core::Config::resume) it returns its last words, and removes its files.
    Ended,
    /// It is not known: the fault says why.
    Unknown(HostFault),
}

/// Returns the machines of this user that outlive their programs, those that were launched first at the beginning. It reads
/// files, and may block for as long as their file system does not answer.
///
/// # Errors
///
/// When the directory of the registry cannot be read, or is not a private one of this user: then another user may have
/// written what is in it.
pub fn registered() -> Result<Vec<Registered>, HostFault> {
    let failed = |error: io::Error| fault(format!("read the registry {}", place().display()), &error);
    let own: Vec<_> = KNOWN.lock().iter().filter_map(Weak::upgrade).collect();
    own.iter().for_each(|registration| registration.update());
    let Some(directory) = open(false)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that is not whole is being written or removed.
        let is_complete = name.ends_with(SUFFIX) && !name.starts_with('.');
        found.extend(is_complete.then(|| read(&directory, &name)).flatten());
    }
    found.sort_by_key(|registered| (registered.identity.started, registered.identity.pid));
    Ok(found)
}

const SUFFIX: &str = ".json";

fn name_of(identity: &Identity) -> String {
    format!("{}-{}{SUFFIX}", identity.pid, identity.started)
}

fn place() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    runtime.map_or_else(
        || std::env::temp_dir().join(OsString::from(format!("qemu-machine-{}", geteuid().as_raw()))),
        |runtime| runtime.join("qemu-machine"),
    )
}

/// Opens the directory, and creates it if that is wanted. `None` means that it does not exist.
fn open(is_created: bool) -> Result<Option<OwnedFd>, HostFault> {
    let place = place();
    let failed = |error: Errno| fault(format!("open the registry {}", place.display()), &error.into());
    if is_created {
        match mkdir(&place, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            result => result.map_err(failed)?,
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(CWD, &place, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let found = fstat(&directory).map_err(failed)?;
    if found.st_uid != geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        let reason = "it is not a private directory of this user (mode 0700)".to_owned();
        return Err(fault_because(format!("open the registry {}", place.display()), FaultKind::Denied, reason));
    }
    Ok(Some(directory))
}

fn open_file(directory: &OwnedFd, name: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).ok().map(File::from)
}

fn parse(file: &File) -> Option<Identity> {
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn read(directory: &OwnedFd, name: &str) -> Option<Registered> {
    let file = open_file(directory, name)?;
    let identity = parse(&file)?;
    let presence = match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Presence::InUse,
        _ => {
            // A child of this program that executes no program yet shares the descriptor, and would hold the lock.
            let _ = flock(&file, FlockOperation::Unlock);
            match find(&identity) {
                Ok(Earlier::Running(_)) => Presence::Left,
                Ok(Earlier::Ended(_)) => Presence::Ended,
                Err(fault) => Presence::Unknown(fault),
            }
        }
    };
    Some(Registered { identity, presence })
}

/// The registrations of this program, which [`registered`] updates first.
static KNOWN: LazyLock<Local<Vec<Weak<Shared>>>> = LazyLock::new(|| Local::new(Vec::new(), Vec::new));

/// Registration of one machine. Dropping it leaves the machine registered, without an owner.
#[derive(Debug)]
pub(crate) struct Registration {
    shared: Arc<Shared>,
    /// The identity under which an earlier program has registered the machine.
    earlier: Option<Identity>,
}

/// File of one machine. Operations on it may block, so they are on threads.
#[derive(Debug)]
struct Shared {
    entry: Mutex<OwnFile>,
    /// Whether this program has left the machine.
    is_released: AtomicBool,
}

#[derive(Debug)]
enum OwnFile {
    /// It is to be written.
    Pending(Identity),
    /// This program owns the machine.
    Locked(Locked),
    /// This program has not written it, has removed it, or has left the machine.
    None,
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
struct Locked {
    home: Home,
    file: File,
    identity: Identity,
}

impl Shared {
    /// Writes the file, if it is to be written, and unlocks it, if this program has left the machine.
    fn update(&self) {
        let mut entry = lock(&self.entry);
        let updated = match mem::replace(&mut *entry, OwnFile::None) {
            // A failure has no effect on the machine: it is not listed then.
            OwnFile::Pending(identity) => complete(identity).and_then(write).map_or(OwnFile::None, OwnFile::Locked),
            other => other,
        };
        if !self.is_released.load(Ordering::Acquire) {
            *entry = updated;
        }
    }
}

impl Registration {
    /// Registers a machine. `drafted` is its identity, which is completed on a thread. `before` is the registration of an
    /// earlier program, which this one replaces.
    pub(crate) fn begin(drafted: Identity, before: Option<Self>) -> Self {
        let registration = Self::with(OwnFile::Pending(drafted), before.and_then(|mut before| before.earlier.take()));
        let mut known = KNOWN.lock();
        known.retain(|other| other.strong_count() > 0);
        known.push(Arc::downgrade(&registration.shared));
        drop(known);
        registration.update_later();
        registration
    }

    /// Returns the registration that an earlier program has made.
    pub(crate) fn of_earlier(identity: Identity) -> Self {
        Self::with(OwnFile::None, Some(identity))
    }

    fn with(entry: OwnFile, earlier: Option<Identity>) -> Self {
        Self { shared: Arc::new(Shared { entry: Mutex::new(entry), is_released: AtomicBool::new(false) }), earlier }
    }

    fn update_later(&self) {
        let shared = Arc::clone(&self.shared);
        begin_and_forget(move || shared.update());
    }

    /// Removes the file, once the machine has ended. It may block.
    pub(crate) fn remove(&self) {
        let before = mem::replace(&mut *lock(&self.shared.entry), OwnFile::None);
        let own = if let OwnFile::Locked(locked) = &before { Some(&locked.identity) } else { None };
        own.or(self.earlier.as_ref()).into_iter().for_each(remove_file);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let is_written = !matches!(try_lock(&self.shared.entry).as_deref(), Some(OwnFile::None));
        if is_written && !self.shared.is_released.swap(true, Ordering::AcqRel) {
            self.update_later();
        }
    }
}

/// Writes the file of a machine, and locks it.
fn write(identity: Identity) -> Result<Locked, HostFault> {
    let failed = |error: io::Error| fault("register the machine".into(), &error);
    let directory = open(true)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let (name, temporary) = (name_of(&identity), format!(".{}", name_of(&identity)));
    let text = serde_json::to_vec(&identity).map_err(|error| failed(io::Error::other(error)))?;
    // A program that died here may have left it.
    let _ = unlinkat(&directory, &temporary, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let mut locked = Locked { home: Home::here(), file: File::from(file), identity };
    let written = flock(locked.file.as_fd(), FlockOperation::NonBlockingLockExclusive)
        .map_err(io::Error::from)
        .and_then(|()| locked.file.write_all(&text))
        .and_then(|()| Ok(renameat(&directory, &temporary, &directory, &name)?));
    if let Err(error) = written {
        let _ = unlinkat(&directory, &temporary, AtFlags::empty());
        return Err(failed(error));
    }
    Ok(locked)
}

/// Removes the file of a machine that has ended, unless another machine has its name by now.
fn remove_file(identity: &Identity) {
    let Ok(Some(directory)) = open(false) else { return };
    let name = name_of(identity);
    let found = open_file(&directory, &name).and_then(|file| parse(&file));
    if found.is_some_and(|found| (found.boot, found.socket) == (identity.boot.clone(), identity.socket)) {
        let _ = unlinkat(&directory, &name, AtFlags::empty());
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file is not enough: a child of this program that executes no program yet shares the descriptor. Such a
        // child must not unlock it in turn.
        if self.home.is_here() {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

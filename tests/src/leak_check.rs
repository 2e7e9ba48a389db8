//! Leak checks: processes, descriptors and files that a test leaves behind.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qemu_machine_blocking::{Config, Vm};
use qemu_machine_host::tasks::wait_for_dropped;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags, add_watch};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal, waitid,
};

use crate::{PATIENCE, bounded};

/// The descendants and the descriptors of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakCheck {
    processes: Vec<String>,
    descriptors: Vec<String>,
}

impl LeakCheck {
    /// Records the descendants and the descriptors, while a machine of its own is running.
    ///
    /// The supervisor, the thread that starts processes, handles its requests in turn. Once it has started this
    /// machine, the supervisor and its descriptors exist, and it has handled all earlier requests. The process of this
    /// machine is part of every check.
    #[must_use]
    pub fn take() -> Self {
        assert!(wait_for_dropped(PATIENCE), "machines that were dropped end");
        let sleeper = Config::new("sleep").arg("600").with_display().with_vga().without_monitor();
        let vm = Vm::launch(sleeper).unwrap_or_else(|error| panic!("{error}"));
        let mut processes: Vec<String> = descendants(std::process::id()).iter().map(Process::to_string).collect();
        processes.sort();
        let leak_check = Self { processes, descriptors: descriptors() };
        drop(vm);
        leak_check
    }

    /// Compares the present state with an earlier one.
    ///
    /// # Panics
    ///
    /// If they differ.
    pub fn assert_nothing_left(before: &Self) {
        assert_eq!(&Self::take(), before, "processes and descriptors now (left) and before (right)");
    }
}

/// Runs a test that must leave nothing behind, under the deadline of [`bounded`]. Such tests of one process run one at
/// a time. The test gets a directory, which must be empty at its end.
///
/// In a program that uses this function, all tests must use it: their processes and descriptors would count too.
///
/// # Panics
///
/// If the test panics, hangs, or leaves a process, a descriptor or a file behind.
pub fn leaving_nothing(test: impl FnOnce(&Path) + Send + 'static) {
    let _alone = alone();
    let scratch = Arc::new(Scratch::create());
    let before = bounded(LeakCheck::take);
    let inside = Arc::clone(&scratch);
    bounded(move || test(inside.path()));
    assert_eq!(scratch.entries(), [""; 0], "files left behind");
    bounded(move || LeakCheck::assert_nothing_left(&before));
}

/// Returns a guard that blocks the tests of [`leaving_nothing`] while it is held. It is for a test that starts
/// processes and checks something else.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process, as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The pid.
    pub pid: u32,
    /// The file name of the program, truncated by the kernel to 15 bytes (`proc_pid_stat(5)`).
    pub name: String,
    /// Whether the process has ended and was not reaped.
    pub zombie: bool,
    parent: u32,
}

/// Returns all descendants of a process.
#[must_use]
pub fn descendants(pid: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    // A process that has ended meanwhile is skipped.
    let all: Vec<Process> = pids.filter_map(Process::read).collect();
    let mut family = vec![pid];
    let mut found = Vec::new();
    while let Some(parent) = family.pop() {
        let children = all.iter().filter(|process| process.parent == parent);
        family.extend(children.clone().map(|process| process.pid));
        found.extend(children.cloned());
    }
    found
}

/// Returns an argument that no other process has, and which `sleep` takes for a time.
#[must_use]
pub fn mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("1000.{}{:04}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Returns the processes with this argument.
///
/// # Panics
///
/// If `/proc` cannot be read.
#[must_use]
pub fn marked(mark: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    };
    pids.filter(has_mark).collect()
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses, and may itself hold parentheses.
        let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
        let mut fields = stat[end + 1..].split_whitespace();
        let zombie = fields.next()? == "Z";
        let parent = fields.next()?.parse().ok()?;
        Some(Self { pid, name: stat[begin + 1..end].into(), zombie, parent })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.zombie { f.write_str(" (zombie)") } else { Ok(()) }
    }
}

/// Returns the targets of the descriptors of this process, without numbers and random names.
fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    // The descriptor for reading this directory is part of every check.
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut kinds: Vec<String> = targets.map(|target| kind(&target)).collect();
    kinds.sort();
    kinds
}

fn kind(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.split(":[").next().unwrap_or_default();
    // A file without a path has its inode as its name. On the host for any Unix it had a path, with a random name.
    if plain.starts_with('#') || (plain.starts_with("qemu-machine-") && plain.ends_with(".log (deleted)")) {
        return "unnamed".into();
    }
    if plain == "anon_inode" { name.into_owned() } else { plain.into() }
}

/// A directory with mode 0700. It is removed with its content when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates one in the directory for temporary files.
    ///
    /// # Panics
    ///
    /// If it cannot be created.
    #[must_use]
    pub fn create() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("qemu-machine-scratch-{}-{count}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the names of its entries, after the end of the machines that were dropped.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        assert!(wait_for_dropped(PATIENCE), "machines that were dropped end");
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Scratch {
    /// Waits until the directory is empty: a socket is removed on a thread after it has accepted its connection.
    ///
    /// # Panics
    ///
    /// If the directory cannot be watched.
    pub fn wait_until_empty(&self) {
        let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
        add_watch(&watch, &self.0, WatchFlags::DELETE).unwrap();
        let mut buffer = [MaybeUninit::uninit(); 512];
        let mut removals = Reader::new(&watch, &mut buffer);
        while !self.entries().is_empty() {
            removals.next().unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `drop` cannot report an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the bytes of a path, for a configuration.
#[must_use]
pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// A process that is watched without the library, by its pidfd. It is killed when dropped.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    descriptor: OwnedFd,
}

impl Watched {
    /// Starts to watch a process that has not ended.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn new(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, descriptor: pidfd_open(pid_of(pid), PidfdFlags::empty())? })
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it runs longer than `limit`.
    pub fn assert_ends_within(&self, limit: Duration) {
        let limit = Timespec { tv_sec: limit.as_secs().try_into().unwrap(), tv_nsec: limit.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&limit)).unwrap();
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert_eq!(ready, 1, "the process {} is still running: {}: {line}", self.pid, name.trim());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // This fails only if the process has ended, as it should have.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

/// Sends SIGSTOP to a child, and returns when it has stopped: the signal takes some time to stop all of its threads.
///
/// # Panics
///
/// If there is no such process.
pub fn stop(pid: u32) {
    send(pid, Signal::STOP);
    let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid_of(pid)), stopped).unwrap();
}

/// Sends a signal to a process that a test started and that was not reaped.
///
/// # Panics
///
/// If there is no such process.
pub fn send(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).unwrap();
}

fn pid_of(pid: u32) -> Pid {
    pid.try_into().ok().and_then(Pid::from_raw).unwrap()
}

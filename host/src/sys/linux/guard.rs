//! Guard on Linux: a process that outlives this program, however it ends, and then kills what belongs to a machine and
//! removes its files.
//!
//! It is a child that executes no program: a copy of this one that blocks in one system call. The end of a socket
//! notifies it of the end of this program. What it must kill it holds as pidfds, which never refer to another process,
//! and as a process group, of which it is a member, so that the kernel gives its id to no other group. Large private
//! mappings are unmapped, so that it does not keep the memory of this program in use.

use std::ffi::{CString, c_int};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Stat, statat, unlinkat};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_current_process_group, pidfd_send_signal, setpgid, setsid, waitid,
};

use super::clone::{Child, clone};
use super::spawn::borrowed;
use crate::sys::{GuardProcess, GuardSpec, Guarded};

/// Private mappings of at least this size are unmapped in the guard.
const LARGE: usize = 1 << 20;

/// How many seconds a guard may take to start. It takes some milliseconds.
const READY_WITHIN: i64 = 5;

/// How many descriptors are closed where the kernel has no call for that.
const MOST_DESCRIPTORS: u64 = 1 << 16;

/// How many processes a guard can be told of: the child, and QEMU behind a wrapper.
const MOST: usize = 4;

/// The numbers that the descriptors of the guard have there.
const SOCKET: RawFd = 3;
const CHILD: RawFd = 4;

/// A guard. Dropping it ends the guard, which then neither kills nor removes anything.
#[derive(Debug)]
pub(crate) struct Guard {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    /// The guard acts when this is closed.
    socket: OwnedFd,
}

impl Guard {
    /// Starts a guard for a process, its group if it leads one, and these files and directories.
    pub(crate) fn start(spec: &GuardSpec, child: &OwnedFd, group: Option<Pid>) -> io::Result<Self> {
        let (socket, told) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        if let Some(group) = group {
            // The child may not have created its group yet. If it executes its program already, it has.
            let _ = setpgid(Some(group), Some(group));
        }
        let files = spec.files.iter().map(File::new).chain(spec.sockets.iter().map(|path| File::any(path)));
        let plan = Plan {
            socket: told.as_raw_fd(),
            child: child.as_raw_fd(),
            group,
            files: files.collect::<io::Result<_>>()?,
            directory: spec.directory.as_deref().map(|path| c_string(path.as_os_str().as_bytes())).transpose()?,
            unmapped: large_mappings(),
        };
        let (pid, descriptor, memory) = clone(plan, false)?;
        // The guard has a copy.
        memory.free();
        // Otherwise the socket would not reach its end when the guard fails.
        drop(told);
        let guard = Self { pid, descriptor: Arc::new(descriptor), socket };
        guard.wait_until_ready()?;
        Ok(guard)
    }
}

impl Guard {
    /// Waits for the byte that the guard sends when it is ready, or for its end. It may block when it closes its copies
    /// of this program's files, if a file system does not answer.
    fn wait_until_ready(&self) -> io::Result<()> {
        let failed = |why| io::Error::other(format!("the guard {why}"));
        let limit = Timespec { tv_sec: READY_WITHIN, tv_nsec: 0 };
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&limit)))?;
        if ready == 0 {
            return Err(failed("did not start in time"));
        }
        match retry_on_intr(|| recv(&self.socket, &mut [0_u8; 1], RecvFlags::DONTWAIT))? {
            (_, 1) => Ok(()),
            _ => Err(failed("could not start")),
        }
    }
}

impl GuardProcess for Guard {
    fn outlive_group(&self) {
        // Permitted since it executes no program (`setpgid(2)`). If it has ended, it needs none.
        let _ = setpgid(Some(self.pid), Some(self.pid));
    }

    fn add(&self, process: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [process];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.socket, &[io::IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before the socket is closed, at which it would act. A child that was killed ends within a moment, since it
        // waits for nothing else, so it is reaped here.
        let _ = pidfd_send_signal(&*self.descriptor, Signal::KILL);
        let _ = retry_on_intr(|| waitid(WaitId::PidFd(self.descriptor.as_fd()), WaitIdOptions::EXITED));
    }
}

fn c_string(path: &[u8]) -> io::Result<CString> {
    CString::new(path).map_err(io::Error::other)
}

/// A file to remove.
struct File {
    path: CString,
    /// Device and inode; if another file has taken the path, that stays. `None` means that any file there is removed.
    identity: Option<(u64, u64)>,
}

impl File {
    fn new(file: &Guarded) -> io::Result<Self> {
        Ok(Self { path: c_string(file.path.as_os_str().as_bytes())?, identity: Some((file.id.device, file.id.inode)) })
    }

    fn any(path: &Path) -> io::Result<Self> {
        Ok(Self { path: c_string(path.as_os_str().as_bytes())?, identity: None })
    }

    fn remove(&self) {
        let found = statat(CWD, self.path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW);
        let is_meant = |found: Stat| self.identity.is_none_or(|identity| identity == (found.st_dev, found.st_ino));
        if found.is_ok_and(is_meant) {
            let _ = unlinkat(CWD, self.path.as_c_str(), AtFlags::empty());
        }
    }
}

/// Arguments of the guard, in the form of its system calls.
struct Plan {
    socket: RawFd,
    child: RawFd,
    group: Option<Pid>,
    files: Vec<File>,
    directory: Option<CString>,
    /// Address and length of the mappings that it does not need.
    unmapped: Vec<(usize, usize)>,
}

// SAFETY: the memory is a copy, so `errno` and everything else in it is the child's. It allocates nothing, takes no lock
// and cannot panic.
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see SAFETY")]
unsafe impl Child for Plan {
    fn run(&mut self) -> c_int {
        if self.prepare().is_err() || send(borrowed(SOCKET), &[0], SendFlags::NOSIGNAL).is_err() {
            return 1;
        }
        let mut processes: [Option<OwnedFd>; MOST] = [const { None }; MOST];
        while self.wait(&mut processes) {}
        let _ = pidfd_send_signal(borrowed(CHILD), Signal::KILL);
        for process in processes.iter().flatten() {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        self.files.iter().for_each(File::remove);
        if let Some(directory) = &self.directory {
            let _ = unlinkat(CWD, directory.as_c_str(), AtFlags::REMOVEDIR);
        }
        if self.group.is_some() {
            // Last, since the guard is a member.
            let _ = kill_current_process_group(Signal::KILL);
        }
        0
    }
}

impl Plan {
    /// Keeps the socket and the pidfd of the child, closes every other descriptor, and joins the group.
    fn prepare(&self) -> io::Result<()> {
        match self.group {
            Some(group) => setpgid(None, Some(group))?,
            // Signals of the terminal are blocked, but not SIGKILL for the group of this program.
            None => drop(setsid()?),
        }
        keep(self.socket, self.child)?;
        let _ = rustix::thread::set_name(c"qemu-guard");
        for (address, length) in &self.unmapped {
            if !self.is_used(*address..address.saturating_add(*length)) {
                unmap(*address, *length);
            }
        }
        Ok(())
    }

    /// Returns whether the guard uses one of these addresses: in its plan, its stack, or the storage of its thread.
    fn is_used(&self, addresses: Range<usize>) -> bool {
        let on_stack = 0_u8;
        let fixed = [
            ptr::from_ref(self).addr(),
            ptr::from_ref(&on_stack).addr(),
            errno().addr(),
            self.files.as_ptr().addr(),
            self.unmapped.as_ptr().addr(),
        ];
        let paths = self.files.iter().map(|file| &file.path).chain(&self.directory);
        fixed.into_iter().chain(paths.map(|path| path.as_ptr().addr())).any(|used| addresses.contains(&used))
    }

    /// Waits for another process to kill. `false` means that this program has ended.
    fn wait(&self, processes: &mut [Option<OwnedFd>; MOST]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let socket = borrowed(SOCKET);
        let parts = &mut [io::IoSliceMut::new(&mut byte)];
        match recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes > 0 => {}
            Err(rustix::io::Errno::INTR) => return true,
            _ => return false,
        }
        for message in control.drain() {
            let RecvAncillaryMessage::ScmRights(received) = message else { continue };
            for process in received {
                if let Some(free) = processes.iter_mut().find(|free| free.is_none()) {
                    *free = Some(process);
                }
            }
        }
        true
    }
}

/// Gives the descriptors their numbers, and closes all others. The table may be full, so they pass through the numbers of
/// the standard streams, which are closed then: a reader of the output of this program would wait for the guard.
fn keep(socket: RawFd, child: RawFd) -> io::Result<()> {
    let free = |used: [RawFd; 2]| (0..SOCKET).find(|number| !used.contains(number)).unwrap_or(0);
    let first = free([socket, child]);
    replace(socket, first)?;
    let second = free([first, child]);
    replace(child, second)?;
    replace(first, SOCKET)?;
    replace(second, CHILD)?;
    close_from(CHILD + 1);
    (0..SOCKET).for_each(close);
    Ok(())
}

#[allow(unsafe_code, reason = "the descriptors of a child are known by their numbers alone; see SAFETY")]
fn replace(number: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: the child has one thread and its own table of descriptors, and nothing in it owns `target`.
    if unsafe { libc::dup3(number, target, libc::O_CLOEXEC) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes all descriptors from this number on (`close_range(2)`, Linux 5.9), or up to the limit of open ones.
#[allow(unsafe_code, reason = "the descriptors of a child are known by their numbers alone; see SAFETY")]
fn close_from(first: RawFd) {
    // SAFETY: the child has one thread and its own table of descriptors, and uses none of these.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, RawFd::MAX, 0) };
    if closed != 0 {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(MOST_DESCRIPTORS);
        let limit = limit.min(MOST_DESCRIPTORS);
        (first..RawFd::try_from(limit).unwrap_or(RawFd::MAX)).for_each(close);
    }
}

#[allow(unsafe_code, reason = "the descriptors of a child are known by their numbers alone; see SAFETY")]
fn close(number: RawFd) {
    // SAFETY: as for `close_from`. A number that is not open is an error, which does not matter.
    unsafe { libc::close(number) };
}

#[allow(unsafe_code, reason = "a mapping of other code is known by its address alone; see SAFETY")]
fn unmap(address: usize, length: usize) {
    // SAFETY: the child does not use these mappings: `large_mappings` leaves out those of its stack, its plan, and the
    // storage of its thread. Its memory is a copy, so this program keeps its own.
    unsafe { libc::munmap(ptr::without_provenance_mut(address), length) };
}

/// Returns the address of `errno`, which is in the storage of the thread.
#[allow(unsafe_code, reason = "the storage of a thread has no safe interface; see SAFETY")]
fn errno() -> *const c_int {
    // SAFETY: the function has no precondition.
    unsafe { libc::__errno_location() }
}

/// Returns the private, writable mappings of this program that are large and that a guard does not need. There are none
/// without `/proc`. A mapping that is made later stays in the guard.
fn large_mappings() -> Vec<(usize, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let lines: Vec<_> = maps.lines().map(mapping).collect();
    // One that follows a mapping of a file holds the variables of that file, of a library for example.
    let pairs = lines.iter().zip(lines.iter().skip(1));
    let large = pairs.filter_map(|(before, mapping)| {
        let (before, mapping) = (before.as_ref()?, mapping.as_ref()?);
        let is_of_file = before.is_named && before.end == mapping.begin;
        Some(mapping).filter(|mapping| !is_of_file && mapping.is_large())
    });
    large.map(|mapping| (mapping.begin, mapping.end - mapping.begin)).collect()
}

/// A mapping of memory.
struct Mapping {
    begin: usize,
    end: usize,
    is_private: bool,
    /// Whether it is of a file, or has a name for its purpose: the heap, the stack of the first thread.
    is_named: bool,
}

impl Mapping {
    fn is_large(&self) -> bool {
        self.is_private && !self.is_named && self.end - self.begin >= LARGE
    }
}

/// Parses a line of `/proc/PID/maps` (`proc_pid_maps(5)`).
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let (begin, end) = range.split_once('-')?;
    let begin = usize::from_str_radix(begin, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok().filter(|end| *end >= begin)?;
    Some(Mapping { begin, end, is_private: permissions == "rw-p", is_named: fields.nth(3).is_some() })
}

//! Guard on any Unix: a process that outlives this program, however it ends, and then kills what belongs to a machine and
//! removes its files.
//!
//! It is a child that executes no program: a copy of this one that blocks in one system call. The end of a socket
//! notifies it of the end of this program. It kills the process by its id, unless this program has reaped that before; and
//! the process group of which it is a member, so that the kernel gives its id to no other group. It does not kill a
//! process that has left the group, except for the child itself. The memory of this program stays in use as far as this
//! program changes it afterwards.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Stat, lstat, rmdir, unlink};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, recv, send};
use rustix::process::{
    Pid, Signal, WaitOptions, getpgrp, kill_current_process_group, kill_process, setpgid, setsid, waitpid,
};

use super::descriptors::{SEND, socket_pair};
use super::fork::{Child, borrowed, close_from, fork, replace};
use super::waiter::is_child;
use crate::sys::{GuardProcess, GuardSpec, Guarded};

/// How many seconds a guard may take to start. It takes some milliseconds.
const READY_WITHIN: i64 = 5;

/// The number that the socket has in the guard.
const SOCKET: RawFd = 0;

/// The message that the child was reaped: its id may belong to another process.
pub(super) const REAPED: u8 = b'R';

/// A guard. Dropping it ends the guard, which then neither kills nor removes anything.
#[derive(Debug)]
pub(crate) struct Guard {
    pid: Pid,
    /// The guard acts when this is closed.
    socket: Arc<OwnedFd>,
}

impl Guard {
    /// Starts a guard for a process, its group if it leads one, and these files and directories.
    pub(super) fn start(spec: &GuardSpec, child: Pid, leads: bool) -> io::Result<Self> {
        let (socket, told) = socket_pair()?;
        if leads {
            // The child may not have created its group yet. If it executes its program already, it has.
            let _ = setpgid(Some(child), Some(child));
        }
        let files = spec.files.iter().map(File::new).chain(spec.sockets.iter().map(|path| File::any(path)));
        let mut plan = Plan {
            socket: told.as_raw_fd(),
            child,
            leads,
            files: files.collect::<io::Result<_>>()?,
            directory: spec.directory.as_deref().map(c_string).transpose()?,
        };
        let guard = Self { pid: fork(&mut plan)?, socket: Arc::new(socket) };
        // Otherwise the socket would not reach its end when the guard fails.
        drop(told);
        guard.wait_until_ready()?;
        Ok(guard)
    }

    /// Returns the socket to which messages are sent.
    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Waits for the byte that the guard sends when it is ready, or for its end. It may block when it closes its copies
    /// of this program's files, if a file system does not answer.
    fn wait_until_ready(&self) -> io::Result<()> {
        let failed = |why| io::Error::other(format!("the guard {why}"));
        let limit = Timespec { tv_sec: READY_WITHIN, tv_nsec: 0 };
        if retry_on_intr(|| poll(&mut [PollFd::new(&*self.socket, PollFlags::IN)], Some(&limit)))? == 0 {
            return Err(failed("did not start in time"));
        }
        match retry_on_intr(|| recv(&*self.socket, &mut [0_u8; 1], RecvFlags::DONTWAIT))? {
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

    fn add(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before the socket is closed, at which it would act. A child that was killed ends within a moment, since it
        // waits for nothing else, so it is reaped here.
        if is_child(self.pid) {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
        }
    }
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// A file to remove.
struct File {
    path: CString,
    /// Device and inode; if another file has taken the path, that stays. `None` means that any file there is removed.
    identity: Option<(u64, u64)>,
}

impl File {
    fn new(file: &Guarded) -> io::Result<Self> {
        Ok(Self { path: c_string(&file.path)?, identity: Some((file.id.device, file.id.inode)) })
    }

    fn any(path: &Path) -> io::Result<Self> {
        Ok(Self { path: c_string(path)?, identity: None })
    }

    #[allow(clippy::unnecessary_cast, reason = "the types of both numbers differ between operating systems")]
    fn remove(&self) {
        let found = lstat(self.path.as_c_str());
        let is_meant =
            |found: Stat| self.identity.is_none_or(|identity| identity == (found.st_dev as u64, found.st_ino as u64));
        if found.is_ok_and(is_meant) {
            let _ = unlink(self.path.as_c_str());
        }
    }
}

/// Arguments of the guard, in the form of its system calls.
struct Plan {
    socket: RawFd,
    child: Pid,
    leads: bool,
    files: Vec<File>,
    directory: Option<CString>,
}

// SAFETY: everything that it reads was prepared before, and it makes only system calls.
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see SAFETY")]
unsafe impl Child for Plan {
    fn run(&mut self) -> c_int {
        if self.prepare().is_err() || send(borrowed(self.socket), &[0], SEND).is_err() {
            return 1;
        }
        if !self.wait() {
            let _ = kill_process(self.child, Signal::KILL);
        }
        self.files.iter().for_each(File::remove);
        if let Some(directory) = &self.directory {
            let _ = rmdir(directory.as_c_str());
        }
        if self.leads && getpgrp() == self.child {
            // Last, since the guard is a member.
            let _ = kill_current_process_group(Signal::KILL);
        }
        0
    }
}

impl Plan {
    /// Keeps the socket, closes every other descriptor, and joins the group.
    fn prepare(&mut self) -> rustix::io::Result<()> {
        if self.leads {
            setpgid(None, Some(self.child))?;
        } else {
            // Signals of the terminal are blocked, but not SIGKILL for the group of this program.
            setsid()?;
        }
        // The standard streams are closed as well: a reader of the output of this program would wait for the guard. The
        // table may be full, so the socket gets a number that is in use.
        if self.socket != SOCKET {
            replace(borrowed(self.socket), SOCKET)?;
        }
        self.socket = SOCKET;
        close_from(SOCKET + 1);
        Ok(())
    }

    /// Waits until this program has ended, and returns whether it has reaped the child before.
    fn wait(&self) -> bool {
        let mut is_reaped = false;
        loop {
            let mut message = [0_u8; 1];
            match recv(borrowed(self.socket), &mut message, RecvFlags::empty()) {
                Ok((_, 1)) => is_reaped |= message[0] == REAPED,
                Err(Errno::INTR) => {}
                _ => return is_reaped,
            }
        }
    }
}

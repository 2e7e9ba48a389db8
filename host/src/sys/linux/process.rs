//! Processes on Linux, watched and reaped by pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use qemu_machine_core::{ExitStatus, Signal};
use rustix::process::{
    Pid, PidfdFlags, Signal as OsSignal, WaitId, WaitIdOptions, getpgid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::found::{self, Found};
use super::guard::Guard;
use super::pidfd_info;
use super::spawn::{self, Start};
use crate::lock::lock;
use crate::sys::wait_status::{decoded, exit_status, os_signal};
use crate::sys::{ChildProcess, Earlier, GuardSpec, OtherProcess, ProcessSpec, Progress};

/// A child process, or one that an earlier program started, and its pidfd, which is readable when the process has ended
/// (`pidfd_open(2)`).
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    /// Whether it leads a process group.
    leads: bool,
    /// The start time of a process that an earlier program started. `None` means that it is a child of this one.
    since: Option<u64>,
    /// `None` means that it has executed its program, or failed to.
    start: Mutex<Option<Start>>,
}

pub(super) fn start(spec: ProcessSpec) -> io::Result<Process> {
    let leads = !spec.share_terminal;
    let (pid, descriptor, start) = spawn::start(spec)?;
    Ok(Process { pid, descriptor: Arc::new(descriptor), leads, since: None, start: Mutex::new(Some(start)) })
}

/// Finds a process that an earlier program started.
pub(super) fn find(pid: u32, since: u64) -> io::Result<Earlier<Process>> {
    Ok(match found::find(pid, since)? {
        Found::Running(pid, descriptor) => {
            let (leads, since, start) = (getpgid(Some(pid)) == Ok(pid), Some(since), Mutex::new(None));
            Earlier::Running(Process { pid, descriptor: Arc::new(descriptor), leads, since, start })
        }
        Found::Ended(status) => Earlier::Ended(status),
    })
}

impl Process {
    /// Returns whether the process has ended, and leaves it to be reaped (`waitid(2)`, WNOWAIT). An error means that it
    /// is no longer a child of this program.
    fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::PidFd(self.descriptor.as_fd()), look)?.is_some())
    }

    /// Frees the memory of the start. The process has ended, so it no longer uses that memory: the kernel reports an end
    /// only after the process has left its memory (Linux, `kernel/exit.c`, `exit_mm` before `exit_notify`).
    fn free_start(&self) {
        lock(&self.start).take().into_iter().for_each(Start::free);
    }

    #[cfg(test)]
    pub(super) fn holds_its_start(&self) -> bool {
        lock(&self.start).is_some()
    }

    /// Returns how the process ended, after another part of the program reaped it.
    fn status_from_pidfd(&self) -> ExitStatus {
        exit_status(pidfd_info::wait_status(self.descriptor.as_fd()))
    }
}

impl ChildProcess for Process {
    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    fn start_descriptor(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.start).as_ref().map(|start| Arc::clone(start.descriptor()))
    }

    fn progress(&self) -> Progress {
        let mut start = lock(&self.start);
        let progress = start.as_ref().map_or(Progress::Executed, Start::progress);
        if matches!(progress, Progress::Executed) {
            start.take().into_iter().for_each(Start::free);
        }
        progress
    }

    fn guard(&self, spec: &GuardSpec) -> io::Result<Guard> {
        Guard::start(spec, &self.descriptor, self.leads.then_some(self.pid))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.since.is_some() {
            return if self.leads {
                found::signal(self.pid(), self.descriptor.as_fd(), signal)
            } else {
                Ok(pidfd_send_signal(&self.descriptor, os_signal(signal))?)
            };
        }
        let signal = os_signal(signal);
        match self.has_ended() {
            Ok(_) => {
                // The id of the group is that of the child, which no other process gets before the child is reaped. The
                // group may be empty: the child has not created it yet, or has moved to another one (`setpgid(2)`).
                let has_group = self.leads && kill_process_group(self.pid, signal).is_ok();
                if has_group && getpgid(Some(self.pid)) == Ok(self.pid) {
                    return Ok(());
                }
                // A pidfd never refers to another process that got the same id (`pidfd_send_signal(2)`, NOTES).
                Ok(pidfd_send_signal(&self.descriptor, signal)?)
            }
            // Another part of the program reaped it, so the id may belong to another process by now, which the signal
            // would hit.
            Err(_) => Ok(()),
        }
    }

    fn reap(&self) -> Option<ExitStatus> {
        if let Some(since) = self.since {
            return found::has_ended(self.descriptor.as_fd())
                .then(|| found::status(self.pid(), since, &self.descriptor));
        }
        match self.has_ended() {
            Ok(true) => {}
            Ok(false) => return None,
            // Another part of the program waits for all children, or SIGCHLD is ignored (`waitid(2)`, ECHILD).
            Err(_) => {
                self.free_start();
                return Some(self.status_from_pidfd());
            }
        }
        if self.leads {
            // Before reaping, which frees the id: later, the signal could hit another group. The group may be empty,
            // which is an error that does not matter (`kill(2)`, ESRCH).
            let _ = kill_process_group(self.pid, OsSignal::KILL);
        }
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        self.free_start();
        let Ok(Some(status)) = waitid(WaitId::PidFd(self.descriptor.as_fd()), ended) else {
            // Another part of the program reaped it meanwhile.
            return Some(self.status_from_pidfd());
        };
        Some(decoded(status.exit_status(), status.terminating_signal(), status.dumped()))
    }

    fn without_group(&self) -> Self {
        let (pid, descriptor, since) = (self.pid, Arc::clone(&self.descriptor), self.since);
        Self { pid, descriptor, leads: false, since, start: Mutex::new(None) }
    }
}

/// A process that is no child, by its pidfd.
#[derive(Debug)]
pub(crate) struct Other {
    pid: Pid,
    descriptor: OwnedFd,
}

impl Other {
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, descriptor: pidfd_open(pid, PidfdFlags::empty())? })
    }
}

impl OtherProcess for Other {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn group(&self) -> Option<u32> {
        getpgid(Some(self.pid)).ok().map(|group| group.as_raw_nonzero().get().unsigned_abs())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.descriptor, os_signal(signal))?)
    }
}

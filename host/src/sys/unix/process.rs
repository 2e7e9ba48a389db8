//! Processes on any Unix: signalled by id, which belongs to a child until that is reaped.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use qemu_machine_core::{ExitStatus, Signal};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::send;
use rustix::process::{Pid, Signal as OsSignal, WaitOptions, getpgid, kill_process, kill_process_group, waitpid};

use super::descriptors::SEND;
use super::guard::{Guard, REAPED};
use super::spawn;
use super::waiter::{Waiter, is_child};
use crate::lock::lock;
use crate::sys::step::{self, Step};
use crate::sys::wait_status::{exit_status, os_signal};
use crate::sys::{ChildProcess, GuardSpec, OtherProcess, ProcessSpec, Progress};

/// A child process.
#[derive(Debug)]
pub(crate) struct Process {
    shared: Arc<Shared>,
    /// Whether it leads a process group.
    leads: bool,
}

/// State of a child, for each of its owners.
#[derive(Debug)]
struct Shared {
    pid: Pid,
    waiter: Waiter,
    /// Reports the execution of the program. `None` means that it was reported.
    start: Mutex<Option<Arc<OwnedFd>>>,
    /// How it ended, once it is reaped. The lock is held while a signal is sent, so that the id is not reused meanwhile.
    reaped: Mutex<Option<ExitStatus>>,
    /// The sockets of its guards, which must not kill it by its id once it is reaped.
    guards: Mutex<Vec<Weak<OwnedFd>>>,
}

pub(super) fn start(spec: ProcessSpec) -> io::Result<Process> {
    let leads = !spec.share_terminal;
    // Before the child exists: at the limit of threads there is none to wait for.
    let (waiter, started) = Waiter::start()?;
    let (pid, start) = spawn::start(spec)?;
    // The thread waits for it.
    let _ = started.send(pid);
    let (start, reaped, guards) = (Mutex::new(Some(start)), Mutex::default(), Mutex::default());
    Ok(Process { shared: Arc::new(Shared { pid, waiter, start, reaped, guards }), leads })
}

impl Shared {
    /// Returns whether the process is a child that was not reaped. Another part of the program may wait for all children, and
    /// its id belong to another process then. POSIX has no call that checks that and sends a signal in one step.
    fn is_child(&self) -> bool {
        is_child(self.pid)
    }
}

impl ChildProcess for Process {
    fn pid(&self) -> u32 {
        self.shared.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        self.shared.waiter.descriptor()
    }

    fn start_descriptor(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.shared.start).clone()
    }

    fn progress(&self) -> Progress {
        let mut start = lock(&self.shared.start);
        let Some(report) = start.as_ref() else { return Progress::Executed };
        let progress = step::progress(report).map_or_else(
            |progress| progress,
            |(step, error): (Step, _)| Progress::Failed(step.text().to_owned(), error),
        );
        if matches!(progress, Progress::Executed) {
            *start = None;
        }
        progress
    }

    fn guard(&self, spec: &GuardSpec) -> io::Result<Guard> {
        let guard = Guard::start(spec, self.shared.pid, self.leads)?;
        lock(&self.shared.guards).push(Arc::downgrade(guard.socket()));
        Ok(guard)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let (pid, signal) = (self.shared.pid, os_signal(signal));
        let reaped = lock(&self.shared.reaped);
        if reaped.is_some() || !self.shared.is_child() {
            return Ok(());
        }
        // The group may be empty: the child has not created it yet, or has moved to another one (`setpgid(2)`).
        let has_group = self.leads && kill_process_group(pid, signal).is_ok();
        if has_group && getpgid(Some(pid)) == Ok(pid) {
            return Ok(());
        }
        match kill_process(pid, signal) {
            // Some systems do not find a process that has ended and was not reaped.
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    fn reap(&self) -> Option<ExitStatus> {
        let Shared { pid, waiter, reaped, guards, .. } = &*self.shared;
        if !waiter.has_ended() {
            return None;
        }
        let mut reaped = lock(reaped);
        if reaped.is_none() {
            if self.leads && self.shared.is_child() {
                // Before reaping, which frees the id: later, the signal could hit another group. The group may be empty,
                // which is an error that does not matter (`kill(2)`, ESRCH).
                let _ = kill_process_group(*pid, OsSignal::KILL);
            }
            for guard in lock(guards).drain(..).filter_map(|guard| guard.upgrade()) {
                // This fails only for a guard that has ended.
                let _ = send(&*guard, &[REAPED], SEND);
            }
            // Without a status, another part of the program has reaped it.
            let ended = retry_on_intr(|| waitpid(Some(*pid), WaitOptions::NOHANG)).ok().flatten();
            *reaped = Some(exit_status(ended.map(|(_, status)| status.as_raw())));
        }
        *reaped
    }

    fn without_group(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), leads: false }
    }
}

/// A process that is no child. There is none: its id may belong to another process at any time.
#[derive(Debug)]
pub(crate) enum Other {}

impl OtherProcess for Other {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    fn group(&self) -> Option<u32> {
        match *self {}
    }

    fn signal(&self, _: Signal) -> io::Result<()> {
        match *self {}
    }
}

//! Processes on Linux, watched and reaped by pidfd. This is the only file of the project with `unsafe` code.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use qemu_machine_core::{ExitStatus, Signal};
use rustix::fs::{Mode, OFlags, RawDir, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal as OsSignal, WaitId, WaitIdOptions, getpid, getppid, kill_process, kill_process_group,
    pidfd_open, pidfd_send_signal, set_parent_process_death_signal, waitid,
};

use crate::signal_name::signal_name;
use crate::sys::{ChildProcess, ProcessSpec};

/// A child process and its pidfd, which is readable when the process has ended (`pidfd_open(2)`).
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    /// Whether it leads a process group.
    leads: bool,
}

pub(super) fn start(spec: ProcessSpec) -> io::Result<Process> {
    let mut arguments = spec.arguments.into_iter().map(OsString::from_vec);
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command.args(arguments).stdin(Stdio::null());
    if !spec.share_terminal {
        // The process leads a group with its own id (`setpgid(2)`). Keys of the terminal then do not reach it, and one
        // signal ends it together with a wrapper.
        command.process_group(0);
    }
    if let Some(log) = spec.log {
        command.stdout(log.try_clone()?).stderr(log);
    }
    set_up_inheritance(&mut command, spec.inherited, spec.outlives);
    let child = command.spawn()?;
    // The process is a child that was not reaped, so the kernel gave its id to no other process (`pidfd_open(2)`,
    // NOTES).
    let pid = Pid::from_child(&child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Process { pid, descriptor: Arc::new(descriptor), leads: !spec.share_terminal }),
        Err(error) => {
            kill_process(pid, OsSignal::KILL)?;
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
            Err(error.into())
        }
    }
}

/// Makes the process inherit these descriptors and no others, and end when this program ends, unless it is to outlive
/// it. The kernel drops that signal when the process executes a set-user-ID program or one with capabilities
/// (`prctl(2)`, PR_SET_PDEATHSIG).
#[allow(unsafe_code, reason = "a hook between fork and exec has no safe form; see SAFETY")]
fn set_up_inheritance(command: &mut Command, inherited: Vec<OwnedFd>, outlives: bool) {
    let parent = getpid();
    let hook = move || {
        if !outlives {
            set_parent_process_death_signal(Some(OsSignal::KILL))?;
        }
        if !outlives && getppid() != Some(parent) {
            // The parent ended before the signal was set, and so no signal would be sent (`prctl(2)`,
            // PR_SET_PDEATHSIG).
            return Err(Errno::SRCH.into());
        }
        close_others();
        inherited.iter().try_for_each(|descriptor| Ok(fcntl_setfd(descriptor, FdFlags::empty())?))
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed (`fork(2)`). The hook makes system calls
    // directly (prctl, getppid, openat, getdents64, fcntl, close; `signal-safety(7)` lists those of POSIX) and iterates
    // over a vector that was filled before the fork and over a buffer on its stack. It takes no lock and allocates
    // nothing, also not in its errors, which are bare numbers.
    unsafe { command.pre_exec(hook) };
}

/// Marks every other descriptor to be closed at exec (`fcntl(2)`, FD_CLOEXEC). Otherwise the process keeps open what
/// another part of the program left inheritable: a pipe, for example, whose reader then never sees the end. Without
/// `/proc`, or without a free descriptor to read it, the others are inherited.
#[allow(unsafe_code, reason = "descriptors of other parts of the program are known by their numbers alone; see SAFETY")]
fn close_others() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = open(c"/proc/self/fd", flags, Mode::empty()) else { return };
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: the child of a fork has one thread (`fork(2)`), so a descriptor that was listed just now is still
            // open, and the borrow ends with the line below.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            // This fails only for a descriptor that is not open.
            let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}

impl Process {
    /// Returns whether the process has ended, and leaves it to be reaped (`waitid(2)`, WNOWAIT). An error means that it
    /// is no longer a child of this program.
    fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::PidFd(self.descriptor.as_fd()), look)?.is_some())
    }
}

impl ChildProcess for Process {
    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => OsSignal::TERM,
            Signal::Kill => OsSignal::KILL,
        };
        match self.has_ended() {
            // The id of the group is that of the child, which no other process gets before the child is reaped.
            Ok(_) if self.leads => Ok(kill_process_group(self.pid, signal)?),
            // A pidfd never refers to another process that got the same id (`pidfd_send_signal(2)`, NOTES).
            Ok(_) => Ok(pidfd_send_signal(&self.descriptor, signal)?),
            // Another part of the program reaped it, so the id may belong to another process by now, which the signal
            // would hit.
            Err(_) => Ok(()),
        }
    }

    fn reap(&self) -> Option<ExitStatus> {
        match self.has_ended() {
            Ok(true) => {}
            Ok(false) => return None,
            // Another part of the program waits for all children, or SIGCHLD is ignored (`waitid(2)`, ECHILD): the
            // status is lost.
            Err(_) => return Some(ExitStatus::Unknown),
        }
        if self.leads {
            // Before reaping, which frees the id: later, the signal could hit another group. The group may be empty,
            // which is an error that does not matter (`kill(2)`, ESRCH).
            let _ = kill_process_group(self.pid, OsSignal::KILL);
        }
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::PidFd(self.descriptor.as_fd()), ended) else {
            return Some(ExitStatus::Unknown);
        };
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(number)) => {
                ExitStatus::Signal { number, name: signal_name(number), core_dumped: status.dumped() }
            }
            (None, None) => ExitStatus::Unknown,
        })
    }

    fn without_group(&self) -> Self {
        Self { pid: self.pid, descriptor: Arc::clone(&self.descriptor), leads: false }
    }
}

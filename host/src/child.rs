//! Decides how the process is started, signalled and reaped. The one file of the project with `unsafe` in it.

use std::ffi::OsString;
use std::fs::File;
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
use crate::supervisor::{Kept, Next, Supervisor, Wake};

/// How to start a process.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) arguments: Vec<Vec<u8>>,
    /// The descriptors that it inherits, under the numbers that they have here.
    pub(crate) inherited: Vec<OwnedFd>,
    /// What takes its standard output and error.
    pub(crate) log: Option<File>,
    /// Whether it stays in our process group.
    pub(crate) share_terminal: bool,
    /// Whether it lives on when we die.
    pub(crate) outlives: bool,
}

/// A process that we started, from its start until it is reaped. Dropped before that, it is killed, and the supervisor
/// reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Process>,
    reaped: bool,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    /// Whether it leads a process group.
    leads: bool,
}

impl Request {
    /// Starts the process. To be called on the supervisor's thread: the kernel ends the process when the *thread* that
    /// started it ends, and that one lives as long as we do.
    pub(crate) fn start(self) -> io::Result<Child> {
        let mut arguments = self.arguments.into_iter().map(OsString::from_vec);
        let mut command = Command::new(arguments.next().unwrap_or_default());
        command.args(arguments).stdin(Stdio::null());
        if !self.share_terminal {
            command.process_group(0);
        }
        if let Some(log) = self.log {
            command.stdout(log.try_clone()?).stderr(log);
        }
        hand_over(&mut command, self.inherited, self.outlives);
        let child = command.spawn()?;
        // The process is ours and not reaped, so its id cannot have gone to another.
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => {
                let process = Process { pid, descriptor: Arc::new(descriptor), leads: !self.share_terminal };
                Ok(Child { process: Arc::new(process), reaped: false })
            }
            Err(error) => {
                kill_process(pid, OsSignal::KILL)?;
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
                Err(error.into())
            }
        }
    }
}

/// Has the process inherit these descriptors and no others, and end when we end, unless it is to outlive us.
#[allow(unsafe_code, reason = "a hook between fork and exec has no safe form; see SAFETY")]
fn hand_over(command: &mut Command, inherited: Vec<OwnedFd>, outlives: bool) {
    let parent = getpid();
    let hook = move || {
        if !outlives {
            set_parent_process_death_signal(Some(OsSignal::KILL))?;
        }
        if !outlives && getppid() != Some(parent) {
            // We ended before the line above: nobody would end the process.
            return Err(Errno::SRCH.into());
        }
        close_others();
        inherited.iter().try_for_each(|descriptor| Ok(fcntl_setfd(descriptor, FdFlags::empty())?))
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The hook makes system calls directly
    // (prctl, getppid, openat, getdents64, fcntl, close) and iterates over a vector that was filled before the fork
    // and over a buffer on its stack; it takes no lock and allocates nothing, also not in its errors, which are bare
    // numbers.
    unsafe { command.pre_exec(hook) };
}

/// Has everything closed at exec that somebody left open for children: a pipe whose end others wait for, say. Without
/// `/proc`, and without a descriptor to read it, they are inherited.
#[allow(unsafe_code, reason = "descriptors of others are known by their numbers alone; see SAFETY")]
fn close_others() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = open(c"/proc/self/fd", flags, Mode::empty()) else { return };
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: between fork and exec there is one thread, so what was listed just now is open, and the borrow
            // ends with the line below.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            // It fails only for one that is not open.
            let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Readable when the process has ended.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.process.descriptor
    }

    /// Signals the whole process group, so that a wrapper does not die alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.signal(match signal {
            Signal::Terminate => OsSignal::TERM,
            Signal::Kill => OsSignal::KILL,
        })
    }

    /// Leaves the process as it is. The supervisor reaps it, if it ends before us; what is left of its group stays.
    pub(crate) fn release(mut self) {
        self.reaped = true;
        let Process { pid, ref descriptor, .. } = *self.process;
        keep(Arc::new(Process { pid, descriptor: Arc::clone(descriptor), leads: false }));
    }

    /// How the process ended, if it did. What is left of its group ends with it.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.process.reap()?;
        self.reaped = true;
        Some(status)
    }
}

impl Process {
    /// The group has our child as its leader, and an id that is not reaped is not given to anybody else.
    fn signal(&self, signal: OsSignal) -> io::Result<()> {
        match self.peek() {
            Ok(_) if self.leads => Ok(kill_process_group(self.pid, signal)?),
            Ok(_) => Ok(pidfd_send_signal(&self.descriptor, signal)?),
            // Somebody else reaped it: its id may be anybody's by now.
            Err(_) => Ok(()),
        }
    }

    /// Whether it has ended. An error: it is no child of ours any more.
    fn peek(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::PidFd(self.descriptor.as_fd()), look)?.is_some())
    }

    fn reap(&self) -> Option<ExitStatus> {
        match self.peek() {
            Ok(true) => {}
            Ok(false) => return None,
            // Another part of the program waits for all children, or SIGCHLD is ignored.
            Err(_) => return Some(ExitStatus::Unknown),
        }
        if self.leads {
            // Before the id is free again. There may be nobody left to signal.
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
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let _ = self.process.signal(OsSignal::KILL);
        keep(Arc::clone(&self.process));
    }
}

/// Has the supervisor reap a process. Without it, it stays a zombie until we end.
fn keep(process: Arc<Process>) {
    let Ok(supervisor) = Supervisor::get() else { return };
    if let Ok(token) = supervisor.keep(Arc::clone(&process) as Arc<dyn Kept>) {
        supervisor.arm(token, process.descriptor.as_fd());
    }
}

/// A process that nobody waits for any more.
impl Kept for Process {
    fn source(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn turn(&self, _: Wake) -> Next {
        self.reap().map_or(Next::Watch(None), |_| Next::Drop)
    }
}

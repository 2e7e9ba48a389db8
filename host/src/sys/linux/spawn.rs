//! Start of a process on Linux, in memory that parent and child share until the child executes its program.
//!
//! `fork(2)` copies the page tables of this program: milliseconds for a program of some gigabytes. So the child shares
//! the memory (`clone(2)`, CLONE_VM), as with `vfork(2)`; but the parent goes on at once, since the execution of the
//! program may block for as long as a file system does not answer. The consequences:
//!
//! - *The child has a stack of its own*, and everything that it reads is prepared before. The parent frees neither
//!   before the child has executed its program or ended ([`Start`]).
//! - *The child writes no memory of the parent*: it allocates nothing, takes no lock, cannot panic, and makes its system
//!   calls directly. The wrappers of libc write `errno`, which would be that of the parent's thread, so those that can
//!   fail are not used ([`execute`]).
//! - *All signals are blocked* until the child has reset their handlers: a handler of the program would run in the
//!   shared memory.
//! - *A child that changes its credentials gets a copy of the memory*: the kernel makes shared memory undumpable when
//!   they change (Linux, `kernel/cred.c`, `commit_creds`), and so this program undebuggable.

use std::ffi::{CString, OsString, c_int};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use qemu_machine_core::ProcessAttributes;
use rustix::fs::{Mode, OFlags, RawDir, open};
use rustix::io::{DupFlags, Errno, FdFlags, dup3, fcntl_dupfd_cloexec, fcntl_setfd, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Gid, Pid, Resource, Rlimit, Signal as OsSignal, Uid, chdir, getpid, getppid, getrlimit,
    set_parent_process_death_signal, setpgid, setrlimit, umask,
};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::cgroup::enter_cgroup;
use super::clone::{Child, Memory, clone};
use super::execute::{MAY_SHARE_MEMORY, execute};
use crate::sys::attributes::{Streams, Strings, c_string, environment, execute_first, groups, limit, programs};
use crate::sys::step::{self, Step};
use crate::sys::{ProcessSpec, Progress};

/// Without `/proc`, the descriptors up to this number, or up to the limit of open descriptors if that is lower, are closed
/// when the program is executed.
const MOST_DESCRIPTORS: u64 = 1 << 16;

/// A process that was started and may not have executed its program yet.
#[derive(Debug)]
pub(super) struct Start {
    /// Reaches its end when the child executes its program, since it is closed then, or when the child ends.
    report: Arc<OwnedFd>,
    memory: Memory<Plan>,
    /// The cgroup to name when the child cannot enter it.
    cgroup: Option<PathBuf>,
}

/// Everything that the child needs, in the form of its system calls.
#[derive(Debug)]
struct Plan {
    parent: Pid,
    leads: bool,
    outlives: bool,
    /// The paths to execute, in this order: one, or one for each directory of the `PATH`.
    programs: Vec<CString>,
    arguments: Strings,
    environment: Strings,
    /// The descriptors to inherit, each with its number in the process.
    descriptors: Vec<(RawFd, RawFd)>,
    report: RawFd,
    /// The file `cgroup.procs` of the cgroup to enter.
    cgroup: Option<CString>,
    namespace: Option<RawFd>,
    limits: Vec<(Resource, Rlimit)>,
    umask: Option<Mode>,
    groups: Option<Vec<Gid>>,
    gid: Option<Gid>,
    uid: Option<Uid>,
    working_directory: Option<CString>,
}

/// A step that failed, and its error.
type Failed = (Step, Errno);

/// Starts a process, and returns its id, its pidfd and the start in progress.
pub(super) fn start(spec: ProcessSpec) -> io::Result<(Pid, OwnedFd, Start)> {
    let (report, sent) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let streams = Streams::new(&spec.attributes)?;
    let shares = *MAY_SHARE_MEMORY && !changes_credentials(&spec.attributes);
    // The descriptors of `spec` and `streams` are closed here when the child has copies of them.
    let (pid, descriptor, memory) = clone(Plan::new(&spec, &streams, sent.as_fd())?, shares)?;
    let cgroup = spec.attributes.cgroup.clone().map(|path| OsString::from_vec(path).into());
    Ok((pid, descriptor, Start { report: Arc::new(report), memory, cgroup }))
}

fn changes_credentials(attributes: &ProcessAttributes) -> bool {
    attributes.uid.is_some() || attributes.gid.is_some() || attributes.groups.is_some()
}

impl Start {
    /// Returns the descriptor that is readable when there is progress.
    pub(super) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.report
    }

    /// Frees the memory of a child that was reaped, or whose progress is `Executed`: the kernel closes its descriptors
    /// after it has left the memory (Linux, `fs/exec.c`, `begin_new_exec`; `kernel/exit.c`, `do_exit`).
    pub(super) fn free(self) {
        self.memory.free();
    }

    /// Returns how far the child is.
    pub(super) fn progress(&self) -> Progress {
        match step::progress(&self.report) {
            Ok((Step::Cgroup, error)) if self.cgroup.is_some() => {
                let cgroup = self.cgroup.as_deref().unwrap_or(Path::new("")).display();
                Progress::Failed(format!("enter the cgroup {cgroup} for"), error)
            }
            Ok((step, error)) => Progress::Failed(step.text().to_owned(), error),
            Err(progress) => progress,
        }
    }
}

impl Plan {
    fn new(spec: &ProcessSpec, streams: &Streams, report: BorrowedFd<'_>) -> io::Result<Self> {
        let ProcessSpec { arguments, inherited, namespace, log, share_terminal, outlives, attributes } = spec;
        // Each member is named, so that a new one is a compile error until it is applied.
        let ProcessAttributes {
            uid,
            gid,
            groups: _,
            umask,
            limits,
            working_directory,
            environment_is_empty: _,
            environment: _,
            network_namespace: _,
            inherits_stdin: _,
            inherits_stdout: _,
            cgroup,
        } = attributes;
        let environment = environment(attributes);
        let program = arguments.first().cloned().unwrap_or_default();
        let log = log.as_ref().map(AsRawFd::as_raw_fd);
        let output = streams.output.as_ref().map(AsRawFd::as_raw_fd).or(log);
        let mut descriptors = vec![(streams.input.as_raw_fd(), 0)];
        descriptors.extend(output.map(|output| (output, 1)));
        descriptors.extend(log.map(|log| (log, 2)));
        descriptors.extend(inherited.iter().map(AsRawFd::as_raw_fd).zip(3..));
        let variables =
            environment.iter().map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Self {
            parent: getpid(),
            leads: !share_terminal,
            outlives: *outlives,
            programs: programs(&program, &environment)?,
            arguments: Strings::new(arguments.iter().cloned().map(c_string).collect::<io::Result<_>>()?),
            environment: Strings::new(variables.collect::<io::Result<_>>()?),
            descriptors,
            report: report.as_raw_fd(),
            cgroup: cgroup.as_ref().map(|path| c_string([path, b"/cgroup.procs".as_slice()].concat())).transpose()?,
            namespace: namespace.as_ref().map(AsRawFd::as_raw_fd),
            limits: limits.iter().copied().map(limit).collect(),
            umask: umask.map(|mask| Mode::from_bits_truncate(mask & 0o777)),
            groups: groups(attributes),
            gid: gid.map(Gid::from_raw),
            uid: uid.map(Uid::from_raw),
            working_directory: working_directory.clone().map(c_string).transpose()?,
        })
    }

    /// Sets up the child, and executes its program. Returns only when a step failed.
    fn carry_out(&mut self) -> Failed {
        match self.set_up() {
            Ok(()) => (
                Step::Execute,
                execute_first(&self.programs, |program| execute(program, &self.arguments, &self.environment)),
            ),
            Err(failed) => failed,
        }
    }

    fn set_up(&mut self) -> Result<(), Failed> {
        let failed = |step| move |errno| (step, errno);
        reset_signals();
        if self.leads {
            // The process leads a group with its own id (`setpgid(2)`). Keys of the terminal then do not reach it, and
            // one signal ends it together with a wrapper.
            setpgid(None, None).map_err(failed(Step::Group))?;
        }
        if let Some(processes) = &self.cgroup {
            // Before the credentials, which may lack the permission.
            enter_cgroup(processes).map_err(failed(Step::Cgroup))?;
        }
        if let Some(namespace) = self.namespace {
            let namespace = borrowed(namespace);
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(failed(Step::Namespace))?;
        }
        let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit).map_err(failed(Step::Limits))?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        self.set_credentials().map_err(failed(Step::Credentials))?;
        if let Some(path) = &self.working_directory {
            chdir(path.as_c_str()).map_err(failed(Step::WorkingDirectory))?;
        }
        self.map_descriptors().map_err(failed(Step::Descriptors))?;
        let above = self.descriptors.iter().map(|(_, target)| target + 1).max().unwrap_or(0);
        close_others(above, open_files);
        if !self.outlives {
            // After the credentials, since a change clears it (`prctl(2)`, PR_SET_PDEATHSIG).
            set_parent_process_death_signal(Some(OsSignal::KILL)).map_err(failed(Step::Parent))?;
            if getppid() != Some(self.parent) {
                // The parent ended before the signal was set, and so no signal would be sent.
                return Err((Step::Parent, Errno::SRCH));
            }
        }
        Ok(())
    }

    /// Sets the groups first: without the privileges of the old user that is not permitted (`setgroups(2)`).
    fn set_credentials(&self) -> rustix::io::Result<()> {
        if let Some(groups) = &self.groups {
            set_thread_groups(groups)?;
        }
        if let Some(gid) = self.gid {
            set_thread_res_gid(gid, gid, gid)?;
        }
        if let Some(uid) = self.uid {
            set_thread_res_uid(uid, uid, uid)?;
        }
        Ok(())
    }

    /// Gives each inherited descriptor its number. Those whose number another one is to have are first
    /// duplicated above all of these numbers.
    fn map_descriptors(&mut self) -> rustix::io::Result<()> {
        let above = self.descriptors.iter().map(|(_, target)| target + 1).max().unwrap_or(0);
        let moved = |number: RawFd| {
            // A copy that is made here is closed when the program is executed.
            if number < above { fcntl_dupfd_cloexec(borrowed(number), above).map(into_raw) } else { Ok(number) }
        };
        self.report = moved(self.report)?;
        for (source, _) in &mut self.descriptors {
            *source = moved(*source)?;
        }
        for (source, target) in &self.descriptors {
            dup3(borrowed(*source), &mut replaced(*target), DupFlags::empty())?;
        }
        Ok(())
    }
}

// SAFETY: everything that it reads was prepared before. Its system calls are made by rustix, by `execute`, or by
// functions of libc that do not fail. Where the first two write `errno`, the child has a copy of the memory
// (`MAY_SHARE_MEMORY`).
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see SAFETY")]
unsafe impl Child for Plan {
    fn run(&mut self) -> c_int {
        let (step, errno) = self.carry_out();
        // If the parent is gone, no process needs the report.
        let _ = write(borrowed(self.report), &step::report(step, errno));
        127
    }
}

// SAFETY: the pointers of its lists lead to strings that it owns.
#[allow(unsafe_code, reason = "raw pointers are not Send by themselves; see SAFETY")]
unsafe impl Send for Plan {}

/// Resets the handlers of all signals, and then unblocks all. A process begins with the signal mask of its parent
/// (`execve(2)`), and Rust programs ignore SIGPIPE, which QEMU does not expect.
#[allow(unsafe_code, reason = "signal handlers have no safe interface; see SAFETY")]
fn reset_signals() {
    // Other numbers belong to libc, or cannot be caught. For SIGABRT libc takes a lock (glibc 2.41, `sysdeps/nptl/`,
    // `__abort_lock_wrlock`); `execve(2)` resets its handler. If a process sends it before that, the handler of this
    // program runs in the child.
    let left_out = [libc::SIGKILL, libc::SIGSTOP, libc::SIGABRT];
    let standard = (1..32).filter(|number| !left_out.contains(number));
    for number in standard.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        // SAFETY: the action is filled by libc before it is read, and for these numbers neither call fails, so that
        // `errno` is not written. Handlers of the child are its own (`clone(2)`, CLONE_SIGHAND is not set).
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            libc::sigaction(number, ptr::null(), action.as_mut_ptr());
            let mut action = action.assume_init();
            if action.sa_sigaction != libc::SIG_IGN || number == libc::SIGPIPE {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(number, &raw const action, ptr::null_mut());
            }
        }
    }
    // SAFETY: the set is filled by libc before it is read. `pthread_sigmask` returns its error, and does not write
    // `errno`.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Marks every descriptor behind the inherited ones to be closed when the program is executed (`fcntl(2)`, FD_CLOEXEC).
/// Otherwise the process keeps open what another part of this program left inheritable: a pipe, for example, whose
/// reader then never sees the end.
fn close_others(above: RawFd, limit: u64) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let first = above.max(3);
    // This fails only for a descriptor that is not open.
    let close = |number| {
        let _ = fcntl_setfd(borrowed(number), FdFlags::CLOEXEC);
    };
    let Ok(directory) = open(c"/proc/self/fd", flags, Mode::empty()) else {
        let last = RawFd::try_from(limit.min(MOST_DESCRIPTORS)).unwrap_or(RawFd::MAX);
        return (first..last).for_each(close);
    };
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        number.filter(|number| *number >= first).into_iter().for_each(close);
    }
}

/// Borrows a descriptor of the child by its number.
#[allow(unsafe_code, reason = "the descriptors of the child are known by their numbers alone; see SAFETY")]
pub(super) fn borrowed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the child has one thread and its own table of descriptors, and closes none.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Returns a number of the child as a descriptor that `dup3` replaces.
#[allow(unsafe_code, reason = "the descriptors of the child are known by their numbers alone; see SAFETY")]
fn replaced(number: RawFd) -> ManuallyDrop<OwnedFd> {
    // SAFETY: it is not dropped, so that it closes nothing. `dup3` accepts a number that is not open.
    ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) })
}

fn into_raw(descriptor: OwnedFd) -> RawFd {
    std::os::fd::IntoRawFd::into_raw_fd(descriptor)
}

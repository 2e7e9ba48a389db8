//! Start of a process by `fork(2)` and `execve(2)`.
//!
//! The parent goes on when the child exists: the execution of the program may block for as long as a file system does not
//! answer. The end of a pipe reports it. `fork(2)` copies the page tables of this program, which takes milliseconds for a
//! program of some gigabytes.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use qemu_machine_core::ProcessAttributes;
use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, write};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid, chdir, getpid, getppid, setpgid, setrlimit, umask};

use super::descriptors::pipe;
use super::fork::{Child, borrowed, execute, fork, open_numbers, replace, reset_signals, set_credentials};
use crate::sys::ProcessSpec;
use crate::sys::attributes::{Streams, Strings, c_string, environment, execute_first, groups, limit, programs};
use crate::sys::step::{self, Step};

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
    limits: Vec<(Resource, Rlimit)>,
    umask: Option<Mode>,
    groups: Option<Vec<Gid>>,
    gid: Option<Gid>,
    uid: Option<Uid>,
    working_directory: Option<CString>,
}

/// A step that failed, and its error.
type Failed = (Step, Errno);

/// Starts a process, and returns its id and the pipe that reports the execution of its program.
pub(super) fn start(spec: ProcessSpec) -> io::Result<(Pid, Arc<OwnedFd>)> {
    let (report, sent) = pipe()?;
    rustix::io::ioctl_fionbio(&report, true)?;
    let streams = Streams::new(&spec.attributes)?;
    // The descriptors of `spec` and `streams` are closed here when the child has copies of them.
    let pid = fork(&mut Plan::new(&spec, &streams, sent.as_fd())?)?;
    Ok((pid, Arc::new(report)))
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
        let missing = |what: &str| io::Error::new(io::ErrorKind::Unsupported, format!("this host has no {what}"));
        if namespace.is_some() {
            return Err(missing("network namespaces"));
        }
        if cgroup.is_some() {
            return Err(missing("cgroups"));
        }
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
            limits: limits.iter().copied().map(limit).collect(),
            umask: umask.map(|mask| Mode::from_raw_mode((mask & 0o777) as _)),
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
            // Keys of the terminal then do not reach it, and one signal ends it together with a wrapper (`setpgid(2)`).
            setpgid(None, None).map_err(failed(Step::Group))?;
        }
        let all = open_numbers(0);
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit).map_err(failed(Step::Limits))?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        set_credentials(self.groups.as_deref(), self.gid, self.uid).map_err(failed(Step::Credentials))?;
        if let Some(path) = &self.working_directory {
            chdir(path.as_c_str()).map_err(failed(Step::WorkingDirectory))?;
        }
        let above = self.map_descriptors().map_err(failed(Step::Descriptors))?;
        for number in above.max(3)..all.end {
            // Otherwise the process keeps open what another part of this program left inheritable: a pipe, for example,
            // whose reader then never sees the end. This fails only for a descriptor that is not open.
            let _ = fcntl_setfd(borrowed(number), FdFlags::CLOEXEC);
        }
        if !self.outlives && getppid() != Some(self.parent) {
            // The parent has ended, and no guard knows of this child.
            return Err((Step::Parent, Errno::SRCH));
        }
        Ok(())
    }

    /// Gives each inherited descriptor its number, and returns the number above all of these. Those whose number another
    /// one is to have are first duplicated above.
    fn map_descriptors(&mut self) -> rustix::io::Result<RawFd> {
        let above = self.descriptors.iter().map(|(_, target)| target + 1).max().unwrap_or(0);
        let moved = |number: RawFd| {
            // A copy that is made here is closed when the program is executed.
            let copy = || fcntl_dupfd_cloexec(borrowed(number), above).map(std::os::fd::IntoRawFd::into_raw_fd);
            if number < above { copy() } else { Ok(number) }
        };
        self.report = moved(self.report)?;
        for (source, _) in &mut self.descriptors {
            *source = moved(*source)?;
        }
        for (source, target) in &self.descriptors {
            replace(borrowed(*source), *target)?;
        }
        Ok(above)
    }
}

// SAFETY: everything that it reads was prepared before, and it makes only system calls.
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see SAFETY")]
unsafe impl Child for Plan {
    fn run(&mut self) -> c_int {
        let (step, errno) = self.carry_out();
        // If the parent is gone, no process needs the report.
        let _ = write(borrowed(self.report), &step::report(step, errno));
        127
    }
}

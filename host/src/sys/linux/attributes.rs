//! Attributes of a process on Linux, in the form of the system calls that apply them.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use qemu_machine_core::{ProcessAttributes, Resource as Limited, ResourceLimit};
use rustix::fs::{FsWord, Mode, OFlags, fstatfs, open};
use rustix::io::{Errno, write};
use rustix::process::{Gid, Resource, Rlimit};

/// The standard streams that are not the log.
pub(super) struct Streams {
    pub(super) input: OwnedFd,
    /// `None` means that the standard output is the log.
    pub(super) output: Option<OwnedFd>,
}

impl Streams {
    pub(super) fn new(attributes: &ProcessAttributes) -> io::Result<Self> {
        // Copies, so that a stream of this program which is closed is an error here.
        let input = if attributes.inherits_stdin {
            io::stdin().as_fd().try_clone_to_owned()?
        } else {
            open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?
        };
        let output = attributes.inherits_stdout.then(|| io::stdout().as_fd().try_clone_to_owned()).transpose()?;
        Ok(Self { input, output })
    }
}

pub(super) fn changes_credentials(attributes: &ProcessAttributes) -> bool {
    attributes.uid.is_some() || attributes.gid.is_some() || attributes.groups.is_some()
}

/// Returns the paths at which a program may be: itself, or in the directories of the `PATH`.
pub(super) fn programs(program: &[u8], environment: &[(OsString, OsString)]) -> io::Result<Vec<CString>> {
    // As `execvp(3)` without a `PATH`.
    const DEFAULT: &[u8] = b"/bin:/usr/bin";
    if program.contains(&b'/') {
        return Ok(vec![c_string(program.to_vec())?]);
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT, |(_, path)| path.as_bytes());
    // An empty entry means the working directory.
    let in_directory = |directory: &[u8]| match directory {
        b"" => c_string([b"./", program].concat()),
        directory => c_string([directory, b"/", program].concat()),
    };
    path.split(|byte| *byte == b':').map(in_directory).collect()
}

pub(super) fn environment(attributes: &ProcessAttributes) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> =
        if attributes.environment_is_empty { Vec::new() } else { std::env::vars_os().collect() };
    for variable in &attributes.environment {
        let name = OsString::from_vec(variable.name.clone());
        environment.retain(|(other, _)| *other != name);
        environment.extend(variable.value.clone().map(|value| (name, OsString::from_vec(value))));
    }
    environment
}

/// A process with another user id keeps no group of this program, unless it is given one.
pub(super) fn groups(attributes: &ProcessAttributes) -> Option<Vec<Gid>> {
    let groups = attributes.groups.clone().or_else(|| attributes.uid.map(|_| Vec::new()))?;
    Some(groups.into_iter().map(Gid::from_raw).collect())
}

pub(super) fn limit(limit: ResourceLimit) -> (Resource, Rlimit) {
    let resource = match limit.resource {
        Limited::AddressSpace => Resource::As,
        Limited::CoreDump => Resource::Core,
        Limited::ProcessorTime => Resource::Cpu,
        Limited::FileSize => Resource::Fsize,
        Limited::LockedMemory => Resource::Memlock,
        Limited::OpenFiles => Resource::Nofile,
        Limited::Processes => Resource::Nproc,
    };
    (resource, Rlimit { current: Some(limit.value), maximum: Some(limit.value) })
}

pub(super) fn c_string(bytes: Vec<u8>) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Moves the child to a cgroup, by the file `cgroup.procs` of that: 0 is the process that writes (Linux,
/// `Documentation/admin-guide/cgroup-v2.rst`, `cgroup.procs`; `kernel/cgroup/cgroup.c`, `cgroup_procs_write_start`).
pub(super) fn enter_cgroup(processes: &CString) -> rustix::io::Result<()> {
    /// `CGROUP2_SUPER_MAGIC` in `linux/magic.h`.
    const CGROUP2: FsWord = 0x6367_7270;
    let processes = open(processes.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Any other file could be written to as well, and the process would run without the limits.
    if fstatfs(&processes)?.f_type != CGROUP2 {
        return Err(Errno::OPNOTSUPP);
    }
    write(&processes, b"0").map(drop)
}

//! Attributes of a process, in the form of the system calls that apply them.

use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use qemu_machine_core::{ProcessAttributes, Resource as Limited, ResourceLimit};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
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

/// Strings, and the pointers to them that `execve(2)` takes, with a null pointer at the end.
#[derive(Debug)]
pub(super) struct Strings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// Executes the first program that can be, in the order of the `PATH`, as `execvp(3)`: a directory without the program, or
/// without the permission, is passed over. `execute` returns only when it failed.
pub(super) fn execute_first(programs: &[CString], execute: impl Fn(&CString) -> Errno) -> Errno {
    let mut denied = false;
    for program in programs {
        match execute(program) {
            Errno::ACCESS => denied = true,
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::STALE | Errno::TIMEDOUT => {}
            other => return other,
        }
    }
    if denied { Errno::ACCESS } else { Errno::NOENT }
}

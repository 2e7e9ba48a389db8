//! Identity of a machine that outlives its parent: how it is determined, and how its process is found.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use qemu_machine_core::{Address, ExitStatus, ExtraMonitorSocket, FaultKind, HostFault, Identity, Machine, Misuse};
use rustix::io::Errno;

use crate::child::Child;
use crate::fault::{fault, fault_because};
use crate::file_id::file_id;
use crate::sys::{Earlier, Os, ProcessState, System};

/// Why a machine has no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The machine does not run, or was not configured to outlive its parent.
    Misuse(Misuse),
    /// The operating system does not report what identifies the process or its socket.
    Host(HostFault),
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Host(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for IdentityError {}

impl From<HostFault> for IdentityError {
    fn from(fault: HostFault) -> Self {
        Self::Host(fault)
    }
}

/// Returns the identity of a machine that was configured to outlive its parent.
///
/// # Errors
///
/// [`IdentityError::Misuse`] with [`Misuse::NotDetachable`] when the machine was not configured to outlive its parent,
/// and with [`Misuse::NotRunning`] before its launch is complete and after its end has begun. [`IdentityError::Host`]
/// when the operating system does not report what identifies the process or its socket.
pub fn identity(machine: &Machine) -> Result<Identity, IdentityError> {
    machine.check_detachable().map_err(IdentityError::Misuse)?;
    let drafted = drafted(machine)?.ok_or(IdentityError::Misuse(Misuse::NotDetachable))?;
    Ok(complete(drafted)?)
}

/// Returns what the machine itself knows of its identity. [`complete`] adds the rest. `None` means that its monitor is at no
/// path.
pub(crate) fn drafted(machine: &Machine) -> Result<Option<Identity>, HostFault> {
    let (prepared, pid) = (machine.prepared(), machine.pid().unwrap_or_default());
    let Some(Address::Unix(monitor)) = &prepared.monitor else { return Ok(None) };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| fault("store a path that is not UTF-8".into(), &Errno::ILSEQ.into()))
    };
    let mut identity = Identity::new(String::new(), (pid, 0), text(monitor)?, (0, 0));
    machine.name().clone_into(&mut identity.name);
    identity.directory = prepared.directory.as_deref().map(text).transpose()?;
    identity.log = prepared.log.as_deref().map(text).transpose()?;
    let logs = machine.console_logs().map(|(console, path)| Ok((console.to_owned(), text(path)?)));
    identity.console_logs = logs.collect::<Result<_, HostFault>>()?;
    let monitors = machine.extra_monitor_files().map(|(path, file)| Ok(ExtraMonitorSocket::new(text(path)?, file)));
    identity.extra_monitors = monitors.collect::<Result<_, HostFault>>()?;
    Ok(Some(identity))
}

/// Adds what identifies the process and the socket. It looks at files, and may block.
pub(crate) fn complete(mut identity: Identity) -> Result<Identity, HostFault> {
    let pid = identity.pid;
    let failed = |error: io::Error| fault(format!("identify process {pid}"), &error);
    identity.socket = socket_at(Path::new(&identity.monitor)).map_err(failed)?;
    // Another program may have removed a socket, and bound its own to the path: that one is never removed.
    identity.extra_monitors.retain(|socket| {
        fs::symlink_metadata(&socket.path)
            .is_ok_and(|found| found.file_type().is_socket() && file_id(&found).matches(&socket.file))
    });
    identity.boot = Os::boot_id().ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
    identity.pid_namespace = Os::pid_namespace();
    identity.started = match Os::process_state(pid) {
        Some(ProcessState::Running { since }) => since,
        Some(ProcessState::Gone) => return Err(failed(Errno::SRCH.into())),
        None => return Err(failed(io::ErrorKind::Unsupported.into())),
    };
    Ok(identity)
}

/// Finds the process of this identity, and checks that the socket is its own. A process id alone is not enough, since the
/// kernel gives it to another process later (`pidfd_send_signal(2)`, NOTES). Commands and signals would then reach a
/// process of another program.
///
/// # Errors
///
/// When the process runs, and another socket has the path; when the system does not report which process this is.
pub(crate) fn find(identity: &Identity) -> Result<Earlier<Child>, HostFault> {
    let Identity { boot, pid, started, monitor, socket, .. } = identity;
    let gone = |why: &str| {
        let reason = format!("{why}; it is not verified as the machine of this identity, and was left alone");
        fault_because(format!("resume process {pid}"), FaultKind::Gone, reason)
    };
    let unknown = || gone("the system does not report which process this is");
    let found = if Os::boot_id().ok_or_else(unknown)? != *boot {
        // No process of that boot runs any more.
        Earlier::Ended(ExitStatus::Unknown)
    } else if identity.pid_namespace.is_some_and(|namespace| Os::pid_namespace() != Some(namespace)) {
        return Err(gone("its id is one of another pid namespace"));
    } else {
        match Child::find(*pid, *started) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(unknown()),
            found => found.map_err(|error| fault(format!("find process {pid}"), &error))?,
        }
    };
    let at_path = socket_at(Path::new(monitor));
    match (&found, at_path) {
        (Earlier::Running(_), Ok(at_path)) if at_path == *socket => Ok(found),
        (Earlier::Running(_), Ok(_)) => Err(gone(&format!("another socket is at {monitor} by now"))),
        (Earlier::Running(_), Err(error)) => Err(gone(&format!("{monitor}: {error}"))),
        // A wrapper may have ended, and QEMU not; or the start times are those of another time namespace
        // (`time_namespaces(7)`).
        (Earlier::Ended(_), Ok(at_path)) if at_path == *socket => match Os::has_listener(monitor.as_bytes()) {
            Some(false) => Ok(found),
            Some(true) => Err(gone("it has ended, and another process listens on its monitor")),
            None => Err(gone("it has ended, and it is not known whether another process listens on its monitor")),
        },
        (Earlier::Ended(_), _) => Ok(found),
    }
}

/// Returns the device and the inode of the socket at a path. An inode number is unique only within one file system
/// (`inode(7)`), so both are needed.
fn socket_at(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("it is not a socket"));
    }
    Ok((found.dev(), found.ino()))
}

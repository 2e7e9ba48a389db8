//! Identity of a machine that outlives its parent: how it is determined, and how it is verified.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use qemu_machine_core::{Address, FaultKind, HostFault, Identity, Machine, Misuse};
use rustix::io::Errno;

use crate::fault::{fault, fault_because};
use crate::sys::{Os, ProcessState, System};

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
    let (prepared, pid) = (machine.prepared(), machine.pid().unwrap_or_default());
    let Some(Address::Unix(path)) = &prepared.monitor else { return Err(IdentityError::Misuse(Misuse::NotDetachable)) };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| fault("store a path that is not UTF-8".into(), &Errno::ILSEQ.into()))
    };
    let monitor = text(path)?;
    let failed = |error: io::Error| fault(format!("identify process {pid}"), &error);
    let socket = socket_at(Path::new(&monitor)).map_err(failed)?;
    let directory = prepared.directory.as_deref().map(text).transpose()?;
    let boot = Os::boot_id().ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
    let started = match Os::process_state(pid) {
        Some(ProcessState::Running { since }) => since,
        Some(ProcessState::Gone) => return Err(failed(Errno::SRCH.into()).into()),
        None => return Err(failed(io::ErrorKind::Unsupported.into()).into()),
    };
    Ok(Identity { boot, pid, started, monitor, socket, directory })
}

/// Checks that the machine of this identity still runs: the same process, with the same socket. A process id alone is
/// not enough, since the kernel gives it to another process later (`pidfd_send_signal(2)`, NOTES). Commands would then
/// reach a machine of another program.
pub(crate) fn verify(identity: &Identity) -> Result<(), HostFault> {
    let Identity { boot, pid, started, monitor, socket, .. } = identity;
    let gone = |why: &str| {
        let reason = format!("{why}; it is not verified as the machine of this identity, and was left alone");
        fault_because(format!("resume process {pid}"), FaultKind::Gone, reason)
    };
    match (Os::boot_id(), Os::process_state(*pid)) {
        (Some(now), _) if now != *boot => return Err(gone("the system was booted since")),
        (Some(_), Some(ProcessState::Running { since })) if since == *started => {}
        (Some(_), Some(ProcessState::Running { .. })) => return Err(gone("another process has this id by now")),
        (Some(_), Some(ProcessState::Gone)) => return Err(gone("there is no such process any more")),
        (None, _) | (_, None) => return Err(gone("the system does not report which process this is")),
    }
    match socket_at(Path::new(monitor)) {
        Ok(found) if found == *socket => Ok(()),
        Ok(_) => Err(gone(&format!("another socket is at {monitor} by now"))),
        Err(error) => Err(gone(&format!("{monitor}: {error}"))),
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

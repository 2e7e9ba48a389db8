//! Decides whether a machine that was kept is the one that is meant, and what one of ours is known by.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use qemu_machine_core::{Address, FaultKind, HostFault, Identity, Machine, Misuse};
use rustix::io::Errno;

use crate::fault::fault;

/// Why there is no identity to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The caller's fault: the machine does not run, or was not launched to be kept.
    Misuse(Misuse),
    /// The host does not say what is needed.
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

/// What a machine of ours is known by, which was launched to be kept.
///
/// # Errors
///
/// [`Misuse::NotDetachable`], [`Misuse::NotRunning`], and what the host does not say.
pub fn identity(machine: &Machine) -> Result<Identity, IdentityError> {
    machine.check_detachable().map_err(IdentityError::Misuse)?;
    let (prepared, pid) = (machine.prepared(), machine.pid().unwrap_or_default());
    let Some(Address::Unix(path)) = &prepared.monitor else { return Err(IdentityError::Misuse(Misuse::NotDetachable)) };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| fault("name a path that is no text".into(), &Errno::ILSEQ.into()))
    };
    let monitor = text(path)?;
    let failed = |error: io::Error| fault(format!("tell what process {pid} is known by"), &error);
    let socket = socket_at(Path::new(&monitor)).map_err(failed)?;
    let directory = prepared.directory.as_deref().map(text).transpose()?;
    let (boot, started) = (boot().map_err(failed)?, started(pid).map_err(failed)?);
    Ok(Identity { boot, pid, started, monitor, socket, directory })
}

/// Whether the machine lives on that this is the identity of: the very same process, with the very same socket.
pub(crate) fn verify(identity: &Identity) -> Result<(), HostFault> {
    let Identity { boot: wanted, pid, started: since, monitor, socket, .. } = identity;
    let gone = |why: &str| {
        let reason = format!("{why}; it is not the machine that was kept");
        HostFault { operation: format!("go on with process {pid}"), kind: FaultKind::Gone, errno: None, reason }
    };
    match (boot(), started(*pid)) {
        (Ok(boot), _) if boot != *wanted => Err(gone("the system was booted since")),
        (Ok(_), Ok(started)) if started == *since => Ok(()),
        (Ok(_), Ok(_)) => Err(gone("another process has this id by now")),
        _ => Err(gone("there is no such process any more")),
    }?;
    match socket_at(Path::new(monitor)) {
        Ok(found) if found == *socket => Ok(()),
        Ok(_) => Err(gone(&format!("another socket is at {monitor} by now"))),
        Err(error) => Err(gone(&format!("{monitor}: {error}"))),
    }
}

fn boot() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// When a process was started, in ticks since the boot. One that has ended and was not reaped is none any more.
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Err(io::ErrorKind::NotFound.into());
    }
    fields.nth(18).and_then(|ticks| ticks.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn socket_at(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("it is no socket"));
    }
    Ok((found.dev(), found.ino()))
}

//! Conversion of errors of the operating system to faults of the host.

use std::io::{self, ErrorKind};

use qemu_machine_core::{FaultKind, HostFault};
use rustix::io::Errno;

/// Converts an error of the operating system to a fault. `operation` completes the sentence "cannot …".
#[must_use]
pub fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault {
        operation: operation.into(),
        kind: kind(error),
        errno: error.raw_os_error(),
        reason: error.to_string().into(),
    }
}

/// Returns the kind of an error of the operating system: by the kind that std assigns, or by its number where std has
/// none.
fn kind(error: &io::Error) -> FaultKind {
    match error.kind() {
        ErrorKind::NotFound => FaultKind::NotFound,
        ErrorKind::AlreadyExists | ErrorKind::AddrInUse | ErrorKind::DirectoryNotEmpty => FaultKind::Exists,
        ErrorKind::ConnectionRefused => FaultKind::Refused,
        ErrorKind::ResourceBusy | ErrorKind::ExecutableFileBusy => FaultKind::Busy,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        // EAGAIN means here that a limit of processes or threads is reached (`fork(2)`, `pthread_create(3)`). Sockets
        // return it as well, but only that of `connect(2)` becomes a fault: see `dial::refused`.
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory
        | ErrorKind::WouldBlock => FaultKind::Full,
        ErrorKind::Unsupported => FaultKind::Unsupported,
        ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::ArgumentListTooLong => FaultKind::Invalid,
        _ => Errno::from_io_error(error).map_or(FaultKind::Other, kind_of_number),
    }
}

fn kind_of_number(number: Errno) -> FaultKind {
    match number {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS => FaultKind::Full,
        Errno::SRCH | Errno::CHILD => FaultKind::Gone,
        Errno::NAMETOOLONG | Errno::LOOP | Errno::ILSEQ | Errno::NOEXEC => FaultKind::Invalid,
        Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => FaultKind::Unsupported,
        _ => FaultKind::Other,
    }
}

/// Returns a fault that is not an error of the operating system, with its kind and its reason.
pub(crate) fn fault_because(operation: String, kind: FaultKind, reason: String) -> HostFault {
    HostFault { operation: operation.into(), kind, errno: None, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_maps_to_its_fault_kind() {
        for (number, expected) in [
            (Errno::NOENT, FaultKind::NotFound),
            (Errno::EXIST, FaultKind::Exists),
            (Errno::ADDRINUSE, FaultKind::Exists),
            (Errno::CONNREFUSED, FaultKind::Refused),
            (Errno::BUSY, FaultKind::Busy),
            (Errno::TXTBSY, FaultKind::Busy),
            (Errno::ACCESS, FaultKind::Denied),
            (Errno::PERM, FaultKind::Denied),
            (Errno::ROFS, FaultKind::Denied),
            (Errno::NOSPC, FaultKind::Full),
            (Errno::DQUOT, FaultKind::Full),
            (Errno::NOMEM, FaultKind::Full),
            (Errno::AGAIN, FaultKind::Full),
            (Errno::MFILE, FaultKind::Full),
            (Errno::NFILE, FaultKind::Full),
            (Errno::SRCH, FaultKind::Gone),
            (Errno::NOSYS, FaultKind::Unsupported),
            (Errno::AFNOSUPPORT, FaultKind::Unsupported),
            (Errno::INVAL, FaultKind::Invalid),
            (Errno::NOTDIR, FaultKind::Invalid),
            (Errno::NAMETOOLONG, FaultKind::Invalid),
            (Errno::NOEXEC, FaultKind::Invalid),
            (Errno::IO, FaultKind::Other),
        ] {
            let fault = fault("try".into(), &number.into());
            assert_eq!((fault.kind, fault.errno), (expected, Some(number.raw_os_error())), "{fault}");
        }
        assert_eq!(fault("try".into(), &io::Error::other("no")).errno, None);
    }
}

//! Faults of the host, from errors of the operating system.

use std::io;

use qemu_machine_core::HostFault;
use rustix::io::Errno;

/// Returns the fault for an error of the operating system. `operation` follows the word "cannot".
#[must_use]
pub fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault { operation, errno: error.raw_os_error().unwrap_or_default(), reason: error.to_string() }
}

/// Returns a fault whose reason is ours: the operating system has no words for it.
pub(crate) fn fault_because(operation: String, errno: Errno, reason: String) -> HostFault {
    HostFault { operation, errno: errno.raw_os_error(), reason }
}

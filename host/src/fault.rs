//! Faults of the host, made of what the operating system reports.

use std::io;

use qemu_machine_core::HostFault;

/// What the operating system says about an operation, which reads behind "cannot".
#[must_use]
pub fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault { operation, errno: error.raw_os_error().unwrap_or_default(), reason: error.to_string() }
}

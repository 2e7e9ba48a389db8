//! Wait statuses and signals of the operating system, converted from and to those of the core.

use std::os::unix::process::ExitStatusExt;

use qemu_machine_core::{ExitStatus, Signal};
use rustix::process::Signal as OsSignal;

use crate::signal_name::signal_name;

/// Decodes a status in the encoding of `wait(2)`. `None` means that it is lost.
pub(super) fn exit_status(wait_status: Option<i32>) -> ExitStatus {
    wait_status
        .map(std::process::ExitStatus::from_raw)
        .map_or(ExitStatus::Unknown, |status| decoded(status.code(), status.signal(), status.core_dumped()))
}

pub(super) fn decoded(code: Option<i32>, signal: Option<i32>, core_dumped: bool) -> ExitStatus {
    match (code, signal) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(number)) => ExitStatus::Signal { number, name: signal_name(number), core_dumped },
        (None, None) => ExitStatus::Unknown,
    }
}

pub(super) fn os_signal(signal: Signal) -> OsSignal {
    match signal {
        Signal::Terminate => OsSignal::TERM,
        Signal::Kill => OsSignal::KILL,
    }
}

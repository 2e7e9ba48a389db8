//! Check whether KVM executes a guest, by what the guest does in its first seconds.
//!
//! On some hosts, mostly those that are guests themselves, KVM emulates each instruction, or does not return from the guest.
//! Such a guest is still in its firmware after seconds, while the firmware takes a fraction of a second elsewhere (SeaBIOS
//! on a nested KVM that emulates: 15 seconds; with TCG half a second, QEMU 7.2.22). A kernel that is slow is not restarted.

use std::time::Duration;

use qemu_machine_blocking::core::commands::{HumanMonitorCommand, QueryStatus};
use qemu_machine_blocking::{Cause, Found, Mark, UntrustedText, Vm, Wait};

/// The time in which a guest prints something or leaves its firmware.
const FIRMWARE: Duration = Duration::from_secs(5);

/// The time in which QEMU replies: milliseconds, unless a processor does not return from KVM.
const REPLY: Duration = Duration::from_secs(5);

/// The time in which QEMU replies after it has stopped the guest, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of QEMU's log in a failure: the registers of a processor are a KiB.
const LOG: usize = 8 << 10;

/// The run state after KVM has failed (QEMU, `accel/kvm/kvm-all.c`, `kvm_cpu_exec`).
const INTERNAL_ERROR: &str = "internal-error";

/// The bit of CR0 that turns paging on (Intel SDM, volume 3, 2.5). SeaBIOS leaves it off, and a kernel sets it before it is
/// decompressed.
const PAGING: u32 = 1 << 31;

/// Waits until it is known that KVM executes the guest: it has printed something, left its firmware, or ended the machine.
/// `consoles` are its serial ports, and `limit` bounds the wait.
///
/// # Errors
///
/// Why KVM does not execute it.
pub(crate) fn executes(vm: &Vm, consoles: &[&str], limit: Duration) -> Result<(), String> {
    let output = consoles.iter().copied().map(Wait::output);
    let signs = output.chain([Wait::event("STOP"), Wait::end()]);
    let within = FIRMWARE.min(limit);
    match vm.wait_any(&Mark::default(), signs, within).map(|hit| hit.found) {
        Ok(Found::End(outcome)) if !is_of_guest(&outcome.cause) => Err(outcome.cause.to_string()),
        Ok(Found::Event(_)) if status(vm, REPLY).as_deref() == Some(INTERNAL_ERROR) => Err("KVM internal error".into()),
        Ok(_) => Ok(()),
        Err(_) => match vm.execute_by(HumanMonitorCommand::new("info registers"), REPLY) {
            Ok(registers) if has_paging(registers.as_str()) => Ok(()),
            Ok(_) => Err(format!("the guest did not leave its firmware within {within:?}")),
            // The monitor waits for the processor.
            Err(error) => Err(format!("its registers cannot be read: {error}")),
        },
    }
}

/// Returns the run state and QEMU's log if QEMU has stopped the guest for good: KVM failed, or a disk did, as when that of
/// the host is full (`qemu(1)`, `werror`). A guest that gdb or a dump stops continues.
pub(crate) fn stopped(vm: &Vm) -> Option<(UntrustedText, UntrustedText)> {
    let status = status(vm, PATIENCE).filter(|status| [INTERNAL_ERROR, "io-error"].contains(&&**status))?;
    let log = vm.log(LOG).unwrap_or_default();
    Some((status.into(), UntrustedText::from_utf8_lossy(&log)))
}

/// Returns the run state (QEMU, `qapi/run-state.json`, `RunState`). `None` means that QEMU does not reply.
fn status(vm: &Vm, within: Duration) -> Option<String> {
    vm.execute_by(QueryStatus, within).ok().map(|status| status.status)
}

/// Reports whether the guest ended the machine. A reset may be a triple fault, which is a result of the kernel.
fn is_of_guest(cause: &Cause) -> bool {
    matches!(cause, Cause::Reset | Cause::PowerOff | Cause::PowerButton | Cause::Panic | Cause::DebugExit(_))
}

/// Reports whether paging is on in the output of `info registers` (QEMU, `target/i386/cpu-dump.c`, `x86_cpu_dump_state`).
/// Text that cannot be read, such as that of another QEMU, is no reason to leave KVM.
fn has_paging(registers: &str) -> bool {
    let digits = registers.split_once("CR0=").and_then(|(_, after)| after.get(..8));
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).is_none_or(|cr0| cr0 & PAGING != 0)
}

#[cfg(test)]
mod tests {
    use qemu_machine_blocking::Cause;

    use super::{has_paging, is_of_guest};

    #[test]
    fn paging_is_read_from_the_registers() {
        assert!(!has_paging("GDT=     000f6180\r\nCR0=00000011 CR2=00000000"));
        assert!(has_paging("CR0=80050033 CR2=00000000"));
        assert!(has_paging("no such command"));
    }

    #[test]
    fn an_end_comes_from_the_guest_or_from_qemu() {
        assert!(is_of_guest(&Cause::Reset) && is_of_guest(&Cause::PowerOff));
        assert!(!is_of_guest(&Cause::Exit(1)) && !is_of_guest(&Cause::Signal { number: Some(6), sender: None }));
    }
}

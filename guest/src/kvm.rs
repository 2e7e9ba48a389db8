//! Check whether KVM works, by a guest that only counts.
//!
//! On some hosts, mostly those that are guests themselves, KVM emulates each instruction, or does not return from the guest.
//! A kernel hangs there in its decompression, silent or after its first line, so that its output says nothing about KVM.
//! The guest that counts takes 0.4 seconds with TCG, with the start of QEMU, and a minute where KVM emulates (measured on
//! such a host, QEMU 7.2.22). A KVM that works executes its two hundred million instructions faster than TCG.

use std::ffi::OsStr;
use std::time::Duration;

use qemu_machine_blocking::core::commands::QueryStatus;
use qemu_machine_blocking::{Cause, Config, Found, LaunchError, Mark, UntrustedText, Vm, Wait};

use crate::failure::Failure;
use crate::unnamed::{path_of, unnamed};

/// The time in which the guest counts.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);

/// The time in which QEMU replies: milliseconds, unless a processor does not return from KVM.
const REPLY: Duration = Duration::from_secs(5);

/// The time in which QEMU replies after it has stopped the guest, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of QEMU's log in a failure: the registers of a processor are a KiB.
const LOG: usize = 8 << 10;

/// The run state after KVM has failed (QEMU, `accel/kvm/kvm-all.c`, `kvm_cpu_exec`).
const INTERNAL_ERROR: &str = "internal-error";

/// The size of the firmware: 64 KiB, the least that QEMU loads (QEMU, `hw/i386/x86.c`, `x86_bios_rom_init`).
const SIZE: usize = 64 << 10;

/// The place of the first instruction that a processor executes (Intel SDM, volume 3, 10.1.4), which jumps to the beginning.
const RESET: usize = SIZE - 16;

/// The value that the guest writes when it is done.
const DONE: u8 = 42;

/// The code of the firmware: counts down from a hundred million, in real mode, and ends the machine (`isa-debug-exit`).
const COUNTS: [u8; 16] = [
    0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05, // mov $100000000, %ecx
    0x66, 0x49, //                         dec %ecx
    0x75, 0xfc, //                         jnz to the line before
    0xb0, DONE, //                         mov $DONE, %al
    0xe6, 0xf4, //                         out %al, $0xf4
    0xeb, 0xfe, //                         jmp .
];

/// Why a guest is not run with KVM.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// QEMU did not start.
    NotStarted(Box<LaunchError>),
    /// KVM does not execute the guest, for this reason.
    Fails(String),
    /// The firmware could not be written.
    Host(Failure),
}

/// Runs the guest that counts, with KVM and this QEMU, which must start within this time.
///
/// # Errors
///
/// [`Refusal`]: why KVM is not used.
pub(crate) fn check(qemu: &OsStr, launch_within: Duration) -> Result<(), Refusal> {
    let firmware = unnamed("the firmware that counts", &firmware()).map_err(Refusal::Host)?;
    let config = Config::new(qemu.as_encoded_bytes())
        .launch_within(launch_within)
        .args(["-accel", "kvm", "-cpu", "max", "-nodefaults", "-no-user-config", "-m", "2M"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios"])
        .arg(path_of(&firmware).as_os_str().as_encoded_bytes());
    let vm = Vm::launch(config).map_err(|error| Refusal::NotStarted(Box::new(error)))?;
    let signs = [Wait::event("STOP"), Wait::end()];
    let why = match vm.wait_any(&Mark::default(), signs, COUNTED_WITHIN).map(|hit| hit.found) {
        Ok(Found::End(outcome)) if outcome.cause == Cause::DebugExit(DONE.into()) => return Ok(()),
        Ok(Found::End(outcome)) => outcome.cause.to_string(),
        Ok(_) if status(&vm, REPLY).as_deref() == Some(INTERNAL_ERROR) => "KVM internal error".into(),
        Ok(_) => "the guest was stopped".into(),
        Err(_) => format!("a guest that counts to a hundred million was not done within {COUNTED_WITHIN:?}"),
    };
    drop(vm.kill());
    Err(Refusal::Fails(why))
}

/// Returns the firmware of the guest that counts.
fn firmware() -> Vec<u8> {
    let mut firmware = vec![0; SIZE];
    firmware[..COUNTS.len()].copy_from_slice(&COUNTS);
    // A far jump, `ljmp $0xf000, $0`, as that of SeaBIOS. Before it, the base of the code segment is above 4 GiB - 64 KiB,
    // and a KVM without unrestricted guests would emulate.
    firmware[RESET..RESET + 5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    firmware
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

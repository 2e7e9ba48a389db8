//! Example: unplugs a device from a running Linux, and then shows the error for a device that is already gone.
//!
//! `cargo run --package qemu-machine-tests --example unplug`, after `tests/setup`, which unpacks Debian's kernel.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use qemu_machine_blocking::procedure::{ProcedureError, Unplug, UnplugError};
use qemu_machine_blocking::{CommandError, Mark, Shutdown, Vm, Wait, json};
use qemu_machine_tests::linux::{AGENT, Linux};

const WITHIN: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let tmp = tmp().ok_or("no Linux is unpacked here: run tests/setup")?;
    let vm = Vm::launch(Linux::in_directory(&tmp).config())?;
    // Before its kernel is up, the guest does not react to the request, and the device stays.
    vm.wait_any(&Mark::default(), [Wait::text("tty", AGENT), Wait::end()], WITHIN)?;

    vm.execute(("device_add", json!({"driver": "virtio-rng-pci", "id": "rng"})))?;
    println!("plugged:   {}", devices(&vm)?);
    vm.run(Unplug::device("rng"), WITHIN)?;
    println!("unplugged: {}", devices(&vm)?);

    match vm.run(Unplug::device("rng"), WITHIN) {
        // QEMU refuses the command, so the guest is not asked.
        Err(UnplugError::Procedure(ProcedureError::Command(CommandError::Refused(refusal)))) => {
            println!("again:     {refusal}")
        }
        // The guest refused, or the deadline passed: then the device may still go later.
        other => other?,
    }
    println!("{}", vm.shutdown(Shutdown::default())?);
    Ok(())
}

/// Returns the ids of the devices that have one.
fn devices(vm: &Vm) -> Result<String, CommandError> {
    let listed = vm.execute(("qom-list", json!({"path": "/machine/peripheral"})))?;
    let names = listed.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
    Ok(names.filter(|name| *name != "type").collect::<Vec<_>>().join(", "))
}

/// Returns the directory into which `tests/setup` unpacks. It is in cargo's target directory, as is this program.
/// `None` means that nothing was unpacked.
fn tmp() -> Option<String> {
    let program: PathBuf = std::env::current_exe().ok()?;
    let tmp = program.ancestors().map(|directory| directory.join("tmp")).find(|tmp| tmp.join("linux-parts").is_dir());
    tmp?.to_str().map(str::to_owned)
}

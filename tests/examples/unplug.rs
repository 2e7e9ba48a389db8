//! Takes a device away from a Linux that runs: first one that it lets go of, then one that is gone.
//!
//! `cargo run --package qemu-machine-tests --example unplug`, where `tests/setup` has unpacked Debian's kernel.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use qemu_machine_blocking::procedure::{ProcedureError, Unplug, UnplugError};
use qemu_machine_blocking::{CommandError, Mark, Shutdown, Vm, Wait, json};
use qemu_machine_tests::linux::{AGENT, Linux};

const WITHIN: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let tmp = tmp().ok_or("there is no Linux here: run tests/setup")?;
    let vm = Vm::launch(Linux::in_directory(&tmp).config())?;
    // A guest that is not so far does not hear that it is asked for a device.
    vm.wait_any(&Mark::default(), [Wait::text("tty", AGENT), Wait::end()], WITHIN)?;

    vm.execute(("device_add", json!({"driver": "virtio-rng-pci", "id": "rng"})))?;
    println!("plugged:   {}", devices(&vm)?);
    vm.run(Unplug::device("rng"), WITHIN)?;
    println!("unplugged: {}", devices(&vm)?);

    match vm.run(Unplug::device("rng"), WITHIN) {
        // What QEMU refuses, the guest is not asked for.
        Err(UnplugError::Procedure(ProcedureError::Command(CommandError::Refused(refusal)))) => {
            println!("again:     {refusal}")
        }
        // The guest does not want to, or the deadline passed: it may still go later.
        other => other?,
    }
    println!("{}", vm.shutdown(Shutdown::default())?);
    Ok(())
}

/// The devices that have an id.
fn devices(vm: &Vm) -> Result<String, CommandError> {
    let listed = vm.execute(("qom-list", json!({"path": "/machine/peripheral"})))?;
    let names = listed.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
    Ok(names.filter(|name| *name != "type").collect::<Vec<_>>().join(", "))
}

/// Where `tests/setup` unpacks: below cargo's target directory, where this program is as well.
fn tmp() -> Option<String> {
    let program: PathBuf = std::env::current_exe().ok()?;
    let tmp = program.ancestors().map(|directory| directory.join("tmp")).find(|tmp| tmp.join("linux-parts").is_dir());
    tmp?.to_str().map(str::to_owned)
}

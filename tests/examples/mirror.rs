//! Example: mirrors a disk while QEMU has it open, reports the progress, and switches QEMU to the copy.
//!
//! `cargo run --package qemu-machine-tests --example mirror`

use std::error::Error;
use std::fs;
use std::time::Duration;

use qemu_machine_blocking::procedure::FollowJob;
use qemu_machine_blocking::{Config, Shutdown, Vm, json};

const MIB: usize = 1 << 20;

/// The size of the disk, in bytes.
const SIZE: usize = 8 * MIB;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let [disk, copy] = ["disk", "copy"].map(|name| directory.path().join(name));
    fs::write(&disk, (0..SIZE).map(|byte| (byte / 4096) as u8).collect::<Vec<_>>())?;
    fs::write(&copy, vec![0; SIZE])?;

    let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none", "-nodefaults"]))?;
    for (node, path) in [("disk", &disk), ("copy", &copy)] {
        vm.execute(("blockdev-add", json!({"driver": "file", "node-name": node, "filename": path.to_str()})))?;
    }

    // A mirror job also copies what the guest writes, until it is completed; then QEMU continues on the copy. A low
    // speed and a small buffer make it slow enough here to have progress to report.
    let mirror = json!({
        "job-id": "mirror", "device": "disk", "target": "copy", "sync": "full",
        "speed": 16 * MIB, "buf-size": MIB,
    });
    let follow = FollowJob::of(&("blockdev-mirror", mirror), "mirror")
        .complete_when_ready()
        .report(Duration::from_millis(100), |job| {
            println!("{}: {} of {} KiB", job.status, job.current_progress >> 10, job.total_progress >> 10)
        });
    // A job that failed is an error. A cancelled one is another `JobEnd`.
    println!("the mirror: {:?}", vm.run(follow, Duration::from_secs(60))?);

    println!("{}", vm.shutdown(Shutdown::default())?);
    println!("the copy is {}", if fs::read(&disk)? == fs::read(&copy)? { "the same" } else { "different" });
    Ok(())
}

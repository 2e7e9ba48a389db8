//! Example: plugs a processor, memory, a disk and a network into a running machine, from four tasks at once, while another
//! task watches for the end of QEMU.
//!
//! `cargo run --package qemu-machine-tests --example hotplug`. A container runtime does the same for each container that
//! grows. The disk and the network are descriptors, so QEMU needs no access to their paths.

use std::error::Error;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use qemu_machine_tokio::procedure::{FollowJob, OpenNode};
use qemu_machine_tokio::{Config, Outcome, Shutdown, Value, Vm, descriptor, json};
use tokio::task::JoinHandle;

const WITHIN: Duration = Duration::from_secs(60);

/// An error that a task can return.
type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // One processor and 128 MB, with room for another processor and another slot of memory.
    let config = Config::new("qemu-system-x86_64").args(["-machine", "pc", "-accel", "tcg", "-nodefaults"]).args([
        "-smp",
        "1,maxcpus=2",
        "-m",
        "128M,slots=1,maxmem=256M",
    ]);
    let mut driving = None;
    let vm = Vm::launch_with(config, |driver| driving = Some(tokio::spawn(driver))).await?;
    let end = driving.map(|driving| tokio::spawn(watch(vm.clone(), driving))).ok_or("the launch has a driver")?;

    // The commands of the tasks are on the wire together.
    let processor = tokio::spawn(plug_processor(vm.clone()));
    let memory = tokio::spawn(plug_memory(vm.clone()));
    let disk = tokio::spawn(plug_disk(vm.clone()));
    let network = tokio::spawn(plug_network(vm.clone()));
    println!("processor: {}", processor.await??);
    println!("memory:    {} MiB more", memory.await??);
    println!("disk:      {}", disk.await??);
    let (device, near_end) = network.await??;
    println!("network:   {device}");

    vm.shutdown(Shutdown::default()).await?;
    println!("watched:   {}", end.await?);
    drop(near_end);
    Ok(())
}

/// Waits until the driver is done, which it is when QEMU has ended. `Vm::wait` waits for the end as well; a task that watches
/// the driver also notices that the driver was dropped or has panicked.
async fn watch(vm: Vm, driving: JoinHandle<()>) -> String {
    let driven = driving.await;
    match (driven, vm.outcome()) {
        (Ok(()), Some(Outcome { cause, .. })) => format!("QEMU {cause}"),
        (driven, _) => format!("the driver stopped: {driven:?}"),
    }
}

/// Plugs the first processor that is not there, and returns its type and place.
async fn plug_processor(vm: Vm) -> Result<String, Failure> {
    let slots = vm.execute("query-hotpluggable-cpus").await?;
    let free = slots.as_array().into_iter().flatten().find(|slot| slot["qom-path"].is_null());
    let free = free.ok_or("all processors are plugged")?;
    let mut device = free["props"].clone();
    (device["driver"], device["id"]) = (free["type"].clone(), "cpu1".into());
    vm.execute(("device_add", device)).await?;
    Ok(format!("{} {}", free["type"].as_str().unwrap_or_default(), free["props"]))
}

/// Plugs memory, and returns how many MiB QEMU reports for it.
async fn plug_memory(vm: Vm) -> Result<u64, Failure> {
    vm.execute(("object-add", json!({"qom-type": "memory-backend-ram", "id": "more", "size": 128 << 20}))).await?;
    vm.execute(("device_add", json!({"driver": "pc-dimm", "id": "dimm", "memdev": "more"}))).await?;
    let summary = vm.execute("query-memory-size-summary").await?;
    Ok(summary["plugged-memory"].as_u64().unwrap_or_default() >> 20)
}

/// Plugs a disk of which QEMU gets the descriptor, and returns what QEMU lists.
async fn plug_disk(vm: Vm) -> Result<Value, Failure> {
    let file = tempfile::tempfile()?;
    File::set_len(&file, 64 << 20)?;
    let open = OpenNode::new(
        "disk",
        descriptor(file),
        |path| json!({"driver": "raw", "file": {"driver": "file", "filename": path}}),
    );
    vm.run(open, WITHIN).await?;
    vm.execute(("device_add", json!({"driver": "virtio-blk-pci", "id": "disk0", "drive": "disk"}))).await?;
    // A job works on it at once.
    let target = json!({"driver": "null-co", "node-name": "copy", "size": 64 << 20});
    vm.execute(("blockdev-add", target)).await?;
    let backup = json!({"job-id": "backup", "device": "disk", "target": "copy", "sync": "full"});
    vm.run(FollowJob::of(&("blockdev-backup", backup), "backup"), WITHIN).await?;
    let nodes = vm.execute(("query-named-block-nodes", json!({"flat": true}))).await?;
    let node = nodes.as_array().into_iter().flatten().find(|node| node["node-name"] == "disk");
    Ok(node.map(|node| node["image"]["virtual-size"].clone()).unwrap_or_default())
}

/// Plugs a network whose other end is a socket of this program. Returns the type of the device, and that socket: QEMU loses
/// the link when it is closed.
async fn plug_network(vm: Vm) -> Result<(Value, UnixStream), Failure> {
    let (near_end, far_end) = UnixStream::pair()?;
    vm.execute_with_fd(("getfd", json!({"fdname": "net"})), far_end).await?;
    let backend = json!({"type": "stream", "id": "net0", "addr": {"type": "fd", "str": "net"}});
    vm.execute(("netdev_add", backend)).await?;
    vm.execute(("device_add", json!({"driver": "virtio-net-pci", "id": "nic0", "netdev": "net0"}))).await?;
    let devices = vm.execute(("qom-list", json!({"path": "/machine/peripheral"}))).await?;
    let nic = devices.as_array().into_iter().flatten().find(|device| device["name"] == "nic0");
    Ok((nic.map(|nic| nic["type"].clone()).unwrap_or_default(), near_end))
}

//! Workload of launches: start QEMU, connect to its monitor, send `quit`, and wait for the exit.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use qemu_machine_core::{Config, Shutdown};
use qemu_machine_mio::EventLoop;

use crate::clients::other;
use crate::clients::raw::{Mode, Raw};
use crate::clients::tasks::{Executor, OnCurrentThread, OnSmol, OnWorkers};
use crate::meter::measure;

const ARGUMENTS: [&str; 4] = ["-machine", "none", "-nodefaults", "-S"];

pub fn act(name: &str, times: usize, memory: usize) -> io::Result<()> {
    // A fork of this program copies the page tables of this memory, which is in use.
    let memory = black_box(vec![1_u8; memory << 20]);
    let launch = match name {
        "raw" => raw,
        "blocking" => blocking,
        "mio" => in_a_loop,
        "smol" => in_a_task::<OnSmol>,
        "tokio current" => in_a_task::<OnCurrentThread>,
        "tokio multi" => in_a_task::<OnWorkers>,
        _ => return Err(other(format!("{name} launches nothing"))),
    };
    launch()?;
    measure(|| (0..times).try_for_each(|_| launch()).map(|()| 0.0))?;
    drop(black_box(memory));
    Ok(())
}

/// The minimum that every client must do.
fn raw() -> io::Result<()> {
    let (ours, inherited) = UnixStream::pair()?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-display", "none", "-vga", "none", "-chardev", "socket,fd=0,id=mon", "-qmp", "chardev:mon"])
        .args(ARGUMENTS)
        .stdin(Stdio::from(OwnedFd::from(inherited)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut raw = Raw::over(ours, Mode::Blind)?;
    raw.send(br#"{"execute":"quit","id":1}"#)?;
    raw.line(|_| ())?;
    qemu.wait().map(drop)
}

fn config() -> Config {
    Config::new("qemu-system-x86_64").args(ARGUMENTS)
}

fn blocking() -> io::Result<()> {
    let vm = qemu_machine_blocking::Vm::launch(config()).map_err(other)?;
    vm.shutdown(Shutdown::default()).map(drop).map_err(other)
}

fn in_a_loop() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let (registry, tokens) = event_loop.parts();
    let mut vm = qemu_machine_mio::Vm::launch(config(), registry, tokens).map_err(other)?;
    let vms = std::slice::from_mut(&mut vm);
    event_loop.run(vms, |vms| vms[0].launched())?.map_err(other)?;
    vms[0].shutdown(Shutdown::default()).map_err(other)?;
    event_loop.run(vms, |vms| vms[0].outcome().map(drop))
}

fn in_a_task<E: Executor>() -> io::Result<()> {
    let executor = E::new()?;
    let vm = executor.launch(config())?;
    executor.run(async move { vm.shutdown(Shutdown::default()).await.map(drop).map_err(other) })
}

//! Example: a manager of virtual machines that is replaced by `exec`, killed, and started again, while its machines run on.
//!
//! `cargo run --package qemu-machine-tests --example manager`. It starts itself as each manager: the first launches two
//! machines and becomes the second, which is killed; the third finds what they have left.

use std::error::Error;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io};

use indicatif::{ProgressBar, ProgressStyle};
use qemu_machine_blocking::procedure::{Backup, CopyTarget, JobProgress, Snapshot, Unplug};
use qemu_machine_blocking::{Config, Identity, Presence, Registered, Shutdown, Vm, json, registered};
use rustix::process::{Pid, Signal, getpid, kill_process};

type Failure = Box<dyn Error>;

const WITHIN: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => whole(),
        ["first", place] => first(Path::new(place)),
        ["second", place] => second(Path::new(place)),
        ["third", place] => third(Path::new(place)),
        _ => Err("unknown arguments".into()),
    }
}

/// Runs the managers one after the other.
fn whole() -> Result<(), Failure> {
    let place = Workplace(tempfile::tempdir()?.keep());
    for disk in ["web", "db"] {
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2"]).arg(place.0.join(disk)).arg("64M");
        if !create.status()?.success() {
            return Err("qemu-img failed".into());
        }
    }
    let status = manager("first", &place.0)?.status()?;
    println!("the manager has ended: {status}");
    if status.signal() != Some(Signal::KILL.as_raw()) || !manager("third", &place.0)?.status()?.success() {
        return Err("a manager failed".into());
    }
    let mut left: Vec<_> = fs::read_dir(&place.0)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    left.sort();
    println!("files:     {left:?}");
    Ok(())
}

fn manager(name: &str, place: &Path) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(name).arg(place);
    Ok(command)
}

/// The first manager: launches both machines, plugs a disk, makes a snapshot, and is replaced by its successor.
fn first(place: &Path) -> Result<(), Failure> {
    let (web, db) = (launch("web", place)?, launch("db", place)?);

    web.execute(("blockdev-add", json!({"driver": "null-co", "node-name": "data", "size": 64 * MIB})))?;
    web.execute(("device_add", json!({"driver": "virtio-blk-pci", "id": "data", "drive": "data", "bus": "free"})))?;
    let disks = web.execute("query-block")?;
    println!("web:       {} disks", disks.as_array().map_or(0, Vec::len));

    let bar = bar("snapshot");
    let save = Snapshot::save("fresh", ["disk"]).progress(Duration::from_millis(50), show(&bar));
    db.run(save, WITHIN)?;
    bar.finish();
    println!("db:        snapshot saved, {} of {}", bar.position(), bar.length().unwrap_or_default());

    // A crash leaves no time to store this later. `registered` finds the machines as well.
    let identities = [web.identity()?, db.identity()?];
    fs::write(place.join("state.json"), serde_json::to_vec(&identities)?)?;
    web.detach()?;
    db.detach()?;
    println!("the manager is replaced");
    io::stdout().flush()?;
    Err(manager("second", place)?.exec().into())
}

/// The second manager: resumes both machines by their stored identities, backs one up, and is killed.
fn second(place: &Path) -> Result<(), Failure> {
    let state = place.join("state.json");
    let identities: Vec<Identity> = serde_json::from_slice(&fs::read(&state)?)?;
    fs::remove_file(state)?;
    let mut machines = Vec::new();
    for identity in identities {
        let (vm, gap) = Vm::resume(identity, WITHIN)?;
        // No events of the time in between: what they would have announced is asked for.
        let situation = vm.run(gap.resync(), WITHIN)?;
        let status = situation.status.ok_or("QEMU reports its status")?.status;
        println!(
            "{:<10} resumed, {status}, {} failing disks",
            format!("{}:", vm.name()),
            situation.failing_disks.len()
        );
        machines.push(vm);
    }
    let [web, _db] = &machines[..] else { return Err("two machines were stored".into()) };

    let bar = bar("backup");
    let target = CopyTarget::file("copy", place.join("web.backup").display().to_string(), "qcow2");
    // Slow enough to have progress to report.
    let backup = Backup::of("disk", target).arguments(json!({"speed": 128 * MIB}));
    web.run(backup.progress(Duration::from_millis(50), show(&bar)), WITHIN)?;
    bar.finish();
    println!("web:       {} of {} MiB backed up", bar.position() / MIB, bar.length().unwrap_or_default() / MIB);

    let picture = place.join("web.ppm");
    web.execute(("screendump", json!({"filename": picture.display().to_string()})))?;
    println!("web:       screenshot of {} KiB", fs::metadata(picture)?.len() >> 10);
    io::stdout().flush()?;
    kill_process(getpid(), Signal::KILL)?;
    unreachable!("the signal cannot be handled")
}

/// The third manager: has nothing but the registry, and ends what it finds there.
fn third(place: &Path) -> Result<(), Failure> {
    let found = list(place)?;
    let mut machines = Vec::new();
    for Registered { identity, .. } in found {
        machines.push(Vm::resume(identity, WITHIN)?.0);
    }
    let [web, db] = &machines[..] else { return Err("two machines were left".into()) };

    db.execute("query-status")?;
    web.run(Unplug::device("data"), Duration::from_millis(200))
        .map_or_else(|error| println!("web:       {error}"), |_| println!("web:       unplugged"));
    let pid = web.pid().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).ok_or("it runs")?;
    kill_process(pid, Signal::SEGV)?;
    println!("web:       {}", web.wait(WITHIN)?.cause);
    list(place)?;
    println!("db:        {}", db.shutdown(Shutdown::default())?.cause);
    list(place)?;
    Ok(())
}

fn launch(name: &str, place: &Path) -> Result<Vm, Failure> {
    let disk = format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={}", place.join(name).display());
    let config = Config::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-accel", "tcg", "-m", "64", "-vga", "std", "-nodefaults"])
        .args(["-blockdev", &disk, "-device", "virtio-blk-pci,drive=disk", "-device", "pcie-root-port,id=free"])
        .name(name)
        .temporary_directory(place.display().to_string())
        .outlive_parent();
    let vm = Vm::launch(config)?;
    println!("{:<10} launched", format!("{name}:"));
    Ok(vm)
}

/// Prints the machines in the registry that are of this example, and returns them.
fn list(place: &Path) -> Result<Vec<Registered>, Failure> {
    let mut machines = of(place)?;
    machines.sort_by(|one, other| other.identity.name.cmp(&one.identity.name));
    let states = machines.iter().map(|machine| match &machine.presence {
        Presence::Left => format!("{} left", machine.identity.name),
        Presence::InUse => format!("{} in use", machine.identity.name),
        other => format!("{} {other:?}", machine.identity.name),
    });
    let states: Vec<_> = states.collect();
    println!("list:      {}", if states.is_empty() { "none".into() } else { states.join(", ") });
    Ok(machines)
}

fn of(place: &Path) -> Result<Vec<Registered>, Failure> {
    let mut machines = registered()?;
    let is_here = |directory: &String| Path::new(directory).starts_with(place);
    machines.retain(|machine| machine.identity.directory.as_ref().is_some_and(is_here));
    Ok(machines)
}

/// Returns a progress bar, which is drawn if standard error is a terminal.
fn bar(name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:9} {bar:40} {percent:>3} %")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(name)
}

fn show(bar: &ProgressBar) -> impl FnMut(JobProgress) + Send + 'static {
    let bar = bar.clone();
    move |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        let left = progress.left.map(|left| format!("{left:?} left"));
        bar.set_prefix(left.unwrap_or_default());
    }
}

/// Directory of the example. Dropping it ends the machines that a manager that failed has left, and removes it.
struct Workplace(PathBuf);

impl Drop for Workplace {
    fn drop(&mut self) {
        for machine in of(&self.0).into_iter().flatten() {
            // One that has ended has nothing to kill.
            let _ = Vm::resume(machine.identity, WITHIN).map(|(vm, _)| vm.kill());
        }
        // What cannot be removed is below the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

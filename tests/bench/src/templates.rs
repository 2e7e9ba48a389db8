//! Workloads of templates: the first answer of a booted guest and of a clone, resets of a guest, and the memory of many.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

use qemu_machine_blocking::commands::{HumanMonitorCommand, QueryStatus};
use qemu_machine_blocking::procedure::{LoadTemplate, SaveTemplate};
use qemu_machine_blocking::{Config, Found, Mark, Template, TemplateConfig, Vm, Wait, template_clone, template_source};
use qemu_machine_tests::linux::Linux;
use qemu_machine_tests::pss;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clients::{LONG, other};
use crate::meter::{Taken, measure, print};

/// The memory of the guest, in MiB.
const MEMORY_MIB: u64 = 128;

/// Where `tests/setup` has put the parts of the guest.
const PARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tmp");

/// Measures one client so many times: `boot` and `clone` launch a machine and wait for the first answer of its guest, `load`
/// waits until the guest runs, `launch` loads nothing, and `command` asks a running machine for its status. The machines
/// end after the measurement.
pub fn act(name: &str, times: usize) -> io::Result<()> {
    let directory = Directory::prepare()?;
    let mut kept = Vec::new();
    if name == "boot" {
        return measure(|| {
            for index in 0..times {
                kept.push(directory.booted(index)?.0);
            }
            Ok(0.0)
        });
    }
    let template = directory.template()?;
    let first = answering(&template)?;
    measure(|| {
        for _ in 0..times {
            match name {
                "launch" => kept.push(launched(&template)?.0),
                "load" => kept.push(loaded(&template)?),
                "clone" => kept.push(answering(&template)?),
                _ => drop(first.execute(QueryStatus).map_err(other)?),
            }
        }
        Ok(0.0)
    })
}

/// Measures resets of a guest to a point after its boot, each up to its first answer, a number of times.
pub fn reset(name: &str, times: usize) -> io::Result<()> {
    let directory = Directory::prepare()?;
    let processors = if name.ends_with("processor") { available_parallelism()?.get() } else { 1 };
    if name.starts_with("clone") {
        let template = directory.template()?;
        answering(&template)?;
        return in_turn(vec![(); processors], times, |()| answering(&template)?.kill().map(drop).map_err(other));
    }
    let machines = (0..processors).map(|index| directory.with_snapshot(index)).collect::<io::Result<Vec<_>>>()?;
    in_turn(machines, times, |vm| {
        human(vm, "loadvm booted")?;
        answer(vm)
    })
}

/// Measures the memory of the guests of machines that have answered once each. The count is their PSS in all, in KiB; the
/// peak is the memory that the file of the template occupies, in KiB, or 0 without one. Clones map the file privately: the
/// PSS has the pages that they use, each once, and those that they have changed. A page of the file that no clone uses is in
/// the peak alone.
pub fn memory(name: &str, machines: usize) -> io::Result<()> {
    let directory = Directory::prepare()?;
    let held = |vm: &Vm, index: usize| {
        let pid = vm.pid().ok_or_else(|| other("a machine has ended"))?;
        io::Result::Ok(pss::of_file(pid, &directory.of(index).join("memory")))
    };
    let (sizes, file) = if name == "boots" {
        // They boot at the same time.
        let vms = (0..machines).map(|index| directory.begin(index)).collect::<io::Result<Vec<_>>>()?;
        vms.iter().try_for_each(|(vm, _)| first_answer(vm))?;
        (vms.iter().enumerate().map(|(index, (vm, _))| held(vm, index)).collect::<io::Result<Vec<_>>>()?, 0)
    } else {
        let template = directory.template()?;
        let vms = (0..machines).map(|_| answering(&template)).collect::<io::Result<Vec<_>>>()?;
        // The unit of this number is 512 bytes (`inode(7)`).
        let blocks = fs::metadata(directory.of(0).join("memory"))?.blocks();
        (vms.iter().map(|vm| held(vm, 0)).collect::<io::Result<Vec<_>>>()?, blocks / 2)
    };
    print(Taken { peak: file as f64, count: sizes.iter().sum::<u64>() as f64, ..Taken::default() });
    Ok(())
}

/// Repeats work so many times in all, on a thread for each of the states.
fn in_turn<S: Sync>(states: Vec<S>, times: usize, work: impl Fn(&S) -> io::Result<()> + Sync) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let more = || next.fetch_add(1, Ordering::Relaxed) < times;
    measure(|| {
        scope(|scope| {
            let until_done = |state: &S| -> io::Result<()> {
                while more() {
                    work(state)?;
                }
                Ok(())
            };
            let threads: Vec<_> = states.iter().map(|state| scope.spawn(move || until_done(state))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| other("a thread panicked"))?)
        })?;
        Ok(0.0)
    })
}

/// The directory with the files of the templates. It is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    /// Creates it, and allows this process and its machines every processor: a guest and its client run at once.
    fn prepare() -> io::Result<Self> {
        let mut processors = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|processor| processors.set(processor));
        sched_setaffinity(None, &processors)?;
        // A tmpfs, as the guide recommends.
        let path = PathBuf::from(format!("/dev/shm/qemu-machine-bench-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn of(&self, index: usize) -> PathBuf {
        self.0.join(index.to_string())
    }

    /// Launches a guest that becomes a template.
    fn begin(&self, index: usize) -> io::Result<(Vm, SaveTemplate)> {
        fs::create_dir(self.of(index))?;
        let template = TemplateConfig::new(guest(), self.of(index), MEMORY_MIB);
        let (config, save) = template_source(&template).map_err(other)?;
        Ok((Vm::launch(config).map_err(other)?, save))
    }

    /// Launches one, and waits for its first answer.
    fn booted(&self, index: usize) -> io::Result<(Vm, SaveTemplate)> {
        let begun = self.begin(index)?;
        first_answer(&begun.0)?;
        Ok(begun)
    }

    fn template(&self) -> io::Result<Template> {
        let (vm, save) = self.booted(0)?;
        vm.run(save, LONG).map_err(other)
    }

    /// Boots the guest, and saves a snapshot inside of an image.
    fn with_snapshot(&self, index: usize) -> io::Result<Vm> {
        let image = self.0.join(format!("{index}.qcow2"));
        let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1G").status()?;
        if !created.success() {
            return Err(other(format!("qemu-img create: {created}")));
        }
        let node = format!("driver=qcow2,node-name=image,file.driver=file,file.filename={}", image.display());
        let memory = format!("{MEMORY_MIB}M");
        let vm = Vm::launch(guest().args(["-m", &memory, "-blockdev", &node])).map_err(other)?;
        first_answer(&vm)?;
        human(&vm, "savevm booted")?;
        Ok(vm)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // `drop` cannot report an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the configuration of the guest, without its memory.
fn guest() -> Config {
    Linux::in_directory(PARTS).config_without_memory()
}

/// Launches a clone that has loaded nothing.
fn launched(template: &Template) -> io::Result<(Vm, LoadTemplate)> {
    let (config, load) = template_clone(template).map_err(other)?;
    Ok((Vm::launch(config).map_err(other)?, load))
}

/// Launches a clone, whose guest runs then.
fn loaded(template: &Template) -> io::Result<Vm> {
    let (vm, load) = launched(template)?;
    vm.run(load, LONG).map_err(other)?;
    Ok(vm)
}

/// Launches a clone, and waits for its first answer.
fn answering(template: &Template) -> io::Result<Vm> {
    let vm = loaded(template)?;
    answer(&vm)?;
    Ok(vm)
}

/// Waits for the prompt of a guest that boots, and for its first answer.
fn first_answer(vm: &Vm) -> io::Result<()> {
    vm.wait_any(&Mark::default(), [Wait::text("tty", "# "), Wait::end()], LONG).map_err(other)?;
    answer(vm)
}

/// Types a letter at the prompt, and waits for its echo by the guest.
fn answer(vm: &Vm) -> io::Result<()> {
    let mark = vm.mark();
    vm.console_write("tty", "Q").map_err(other)?;
    let hit = vm.wait_any(&mark, [Wait::text("tty", "Q"), Wait::end()], LONG).map_err(other)?;
    matches!(hit.found, Found::Text(_)).then_some(()).ok_or_else(|| other("the guest has ended"))
}

/// Executes a command of the human monitor that prints nothing when it succeeds.
fn human(vm: &Vm, command: &str) -> io::Result<()> {
    vm.execute_by(HumanMonitorCommand::new(command), LONG).map_err(other)?.check_empty().map_err(other)
}

//! Example: runs many real QEMUs from one thread, on mio and then on smol, and prints the cost.
//!
//! `cargo run --release --package qemu-machine-tests --example scale [MACHINES]`; the default is 100.

use std::error::Error;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use qemu_machine_core::{Config, FOREVER, Mark, Outcome, Shutdown, Wait};
use qemu_machine_mio::{EventLoop, Vm as Source};
use qemu_machine_smol::Vm as Handle;
use smol::LocalExecutor;

/// The number of commands for each machine.
const COMMANDS: usize = 50;

/// The deadline of a launch: a hundred machines that start at once keep two processors busy for a while.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Box<dyn Error>> {
    let machines = std::env::args().nth(1).map_or(Ok(100), |argument| argument.parse())?;
    println!("{machines} machines in one thread, {COMMANDS} commands for each");
    on_mio(machines)?;
    on_smol(machines)
}

fn config() -> Config {
    Config::new("qemu-system-x86_64").args(["-machine", "none", "-nodefaults", "-S"]).launch_within(PATIENCE)
}

fn on_mio(machines: usize) -> Result<(), Box<dyn Error>> {
    let mut report = Report::new("mio", machines);
    let mut event_loop = EventLoop::new()?;
    let mut vms = Vec::new();
    for _ in 0..machines {
        let (registry, tokens) = event_loop.parts();
        vms.push(Source::launch(config(), registry, tokens)?);
    }
    event_loop.run(&mut vms, |vms| report.counted(vms.iter().filter(|vm| vm.launched().is_some()).count()))?;
    vms.iter().try_for_each(|vm| vm.launched().unwrap_or(Ok(())))?;
    report.launched();

    for _ in 0..COMMANDS {
        let tickets = vms.iter_mut().map(|vm| vm.execute("query-status")).collect::<Result<Vec<_>, _>>()?;
        let mut replies = 0;
        event_loop.run(&mut vms, |vms| {
            let claims = vms.iter_mut().zip(&tickets).filter_map(|(vm, ticket)| vm.claim(ticket));
            replies += claims.filter(Result::is_ok).count();
            (replies == machines).then_some(())
        })?;
        report.commanded(machines);
    }
    report.memory();

    vms.iter_mut().try_for_each(|vm| vm.shutdown(Shutdown::default()))?;
    event_loop.run(&mut vms, |vms| report.counted(vms.iter().filter(|vm| vm.outcome().is_some()).count()))?;
    report.ended(vms.iter().filter_map(|vm| vm.outcome().cloned()))
}

fn on_smol(machines: usize) -> Result<(), Box<dyn Error>> {
    let mut report = Report::new("smol", machines);
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        let launches: Vec<_> = (0..machines)
            .map(|_| {
                let drivers = Rc::clone(&executor);
                executor.spawn(Handle::launch_with(config(), move |driver| drivers.spawn(driver).detach()))
            })
            .collect();
        let mut vms = Vec::new();
        for launch in launches {
            vms.push(launch.await?);
            report.counted(vms.len());
        }
        report.launched();

        all(&executor, &vms, |vm| async move {
            for _ in 0..COMMANDS {
                vm.execute("query-status").await?;
            }
            Ok::<_, qemu_machine_core::CommandError>(())
        })
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        report.commanded(machines * COMMANDS);
        report.memory();

        let ended = all(&executor, &vms, |vm| async move {
            let end = vm.shutdown(Shutdown::default()).await;
            // A second wait for each machine: every caller can wait for the end.
            vm.wait_any(&Mark::default(), [Wait::end()], FOREVER).await.ok();
            end
        });
        let outcomes = ended.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        report.ended(outcomes.into_iter())
    }))
}

/// Runs the same future for all machines at once, and returns the results in their order.
async fn all<T: 'static, F: Future<Output = T> + 'static>(
    executor: &LocalExecutor<'static>,
    vms: &[Handle],
    what: impl Fn(Handle) -> F,
) -> Vec<T> {
    let tasks: Vec<_> = vms.iter().map(|vm| executor.spawn(what(vm.clone()))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await);
    }
    results
}

/// Progress bar and results of one runtime.
struct Report {
    name: &'static str,
    machines: usize,
    bar: ProgressBar,
    since: Instant,
    memory: u64,
}

impl Report {
    fn new(name: &'static str, machines: usize) -> Self {
        let bar = ProgressBar::new(machines as u64);
        let style = ProgressStyle::with_template("{msg:>16} {wide_bar} {pos}/{len}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{name}: launching"));
        Self { name, machines, bar, since: Instant::now(), memory: resident() }
    }

    /// Shows how many machines are done. `None` means that some are not.
    fn counted(&self, done: usize) -> Option<()> {
        self.bar.set_position(done as u64);
        (done == self.machines).then_some(())
    }

    fn launched(&mut self) {
        let rate = self.machines as f64 / self.since.elapsed().as_secs_f64();
        self.bar.suspend(|| println!("{:<5} {rate:>10.0} launches per second", self.name));
        self.bar.set_length((self.machines * COMMANDS) as u64);
        self.bar.set_position(0);
        self.bar.set_message(format!("{}: commanding", self.name));
        self.since = Instant::now();
    }

    fn commanded(&self, more: usize) {
        self.bar.inc(more as u64);
    }

    fn memory(&mut self) {
        let rate = (self.machines * COMMANDS) as f64 / self.since.elapsed().as_secs_f64();
        let grown = resident().saturating_sub(self.memory) / self.machines as u64;
        self.bar.suspend(|| println!("{:<5} {rate:>10.0} commands per second", self.name));
        self.bar.suspend(|| println!("{:<5} {grown:>10} bytes of memory in this process for each machine", self.name));
        self.bar.set_length(self.machines as u64);
        self.bar.set_message(format!("{}: ending", self.name));
    }

    fn ended(&self, outcomes: impl Iterator<Item = Outcome>) -> Result<(), Box<dyn Error>> {
        self.bar.finish_and_clear();
        let orderly = outcomes.filter(|outcome| outcome.exit == Some(qemu_machine_core::ExitStatus::Code(0))).count();
        println!("{:<5} {orderly:>10} of {} exited with status 0", self.name, self.machines);
        if orderly == self.machines { Ok(()) } else { Err("some machines did not exit with status 0".into()) }
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

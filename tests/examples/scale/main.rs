//! Example: runs many real QEMUs in one program, on each runtime, and prints what they cost.
//!
//! `cargo run --release --package qemu-machine-tests --example scale [MACHINES] [RUNTIME]`; the defaults are 100 machines,
//! and each runtime after the other: blocking, mio, tokio, smol.

mod report;

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use qemu_machine_blocking::LaunchError;
use qemu_machine_core::{CommandError, Shutdown};
use qemu_machine_host::tasks::{Reactor, Vm};
use qemu_machine_mio::EventLoop;
use report::Report;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use smol::LocalExecutor;
use smol::channel::unbounded;
use tokio::task::{LocalSet, spawn_local};

/// The number of commands for each machine.
const COMMANDS: usize = 50;

/// The time in which all machines end. A thousand that end at once keep two processors busy for a while.
const STOP_WITHIN: Duration = Duration::from_secs(180);

/// The threads that launch on the runtime of blocking calls. The launches share the processors with QEMU, so a few keep
/// them busy. No other runtime needs a thread for that.
const LAUNCHERS: usize = 8;

/// A run of all machines on one runtime.
type Run = fn(Report) -> Result<(), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let machines: usize = arguments.next().map_or(Ok(100), |machines| machines.parse())?;
    let runtime = arguments.next();
    let all: [(&str, Run); 4] = [("blocking", on_threads), ("mio", on_mio), ("tokio", on_tokio), ("smol", on_smol)];
    let Some(runtime) = runtime else {
        // Each in a process of its own: a second one would reuse the memory of the first.
        return all.iter().try_for_each(|(name, _)| {
            let status = Command::new(std::env::current_exe()?).args([&machines.to_string(), *name]).status()?;
            if status.success() { Ok(()) } else { Err(format!("{name}: {status}").into()) }
        });
    };
    let chosen = all.iter().find(|(name, _)| *name == runtime);
    let (name, run) = chosen.ok_or("the runtimes are blocking, mio, tokio and smol")?;
    raise_limit(machines)?;
    println!("{machines} machines in one program, {COMMANDS} commands for each");
    run(Report::new(name, machines))
}

/// Raises the limit of open descriptors as far as this program may. By default it is 1,024 (systemd,
/// `DefaultLimitNOFILE`), which suffices for some 200 machines. QEMU inherits the limit.
fn raise_limit(machines: usize) -> Result<(), Box<dyn Error>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let needed = 200 + 8 * machines as u64;
    match limit.maximum {
        Some(most) if most < needed => Err(format!(
            "{machines} machines need up to {needed} descriptors, and this program may open {most}: raise the hard limit \
             (`ulimit -Hn`, or `LimitNOFILE=` of systemd)"
        )
        .into()),
        _ => Ok(()),
    }
}

fn policy() -> Shutdown {
    Shutdown::within(STOP_WITHIN)
}

fn on_threads(mut report: Report) -> Result<(), Box<dyn Error>> {
    let launch = |first| {
        let launches = (first..report.machines).step_by(LAUNCHERS);
        launches.map(|_| qemu_machine_blocking::Vm::launch(report.config())).collect::<Result<Vec<_>, LaunchError>>()
    };
    let vms = std::thread::scope(|threads| {
        let launchers: Vec<_> = (0..LAUNCHERS).map(|first| threads.spawn(move || launch(first))).collect();
        let launched = launchers.into_iter().map(|launcher| launcher.join().map_err(|_| "a launch panicked"));
        launched.collect::<Result<Vec<_>, _>>()
    })?;
    let vms: Vec<_> = vms.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    report.launched();
    for vm in &vms {
        (0..COMMANDS).try_for_each(|_| vm.execute("query-status").map(drop))?;
    }
    report.commanded(COMMANDS);
    report.ended(&qemu_machine_blocking::Vm::shutdown_all(&vms, policy())?);
    drop(vms);
    report.left()
}

fn on_mio(mut report: Report) -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new()?;
    let mut vms = Vec::new();
    for _ in 0..report.machines {
        let (registry, tokens) = event_loop.parts();
        vms.push(qemu_machine_mio::Vm::launch(report.config(), registry, tokens)?);
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
            (replies == tickets.len()).then_some(())
        })?;
    }
    report.commanded(COMMANDS);
    vms.iter_mut().try_for_each(|vm| vm.shutdown(policy()))?;
    event_loop.run(&mut vms, |vms| report.counted(vms.iter().filter(|vm| vm.outcome().is_some()).count()))?;
    report.ended(&vms.iter().filter_map(|vm| vm.outcome().cloned()).collect::<Vec<_>>());
    drop((vms, event_loop));
    report.left()
}

fn on_tokio(mut report: Report) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = in_tasks::<qemu_machine_tokio::Tokio>(&mut report, |task| drop(spawn_local(task)));
    LocalSet::new().block_on(&runtime, tasks)?;
    drop(runtime);
    report.left()
}

fn on_smol(mut report: Report) -> Result<(), Box<dyn Error>> {
    let executor = Rc::new(LocalExecutor::new());
    let tasks = Rc::clone(&executor);
    smol::block_on(
        executor.run(in_tasks::<qemu_machine_smol::Smol>(&mut report, move |task| tasks.spawn(task).detach())),
    )?;
    report.left()
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs the machines in tasks on one thread. `spawn` passes a task, or the driver of a machine, to the executor.
async fn in_tasks<R: Reactor>(
    report: &mut Report,
    spawn: impl Fn(Task) + Clone + 'static,
) -> Result<(), Box<dyn Error>> {
    let (sender, launched) = unbounded();
    for _ in 0..report.machines {
        let (config, sender, spawn_driver) = (report.config(), sender.clone(), spawn.clone());
        spawn(Box::pin(async move {
            let launch = Vm::<R>::launch_with(config, |driver| spawn_driver(Box::pin(driver))).await;
            // The receiver is gone when another launch has failed.
            let _ = sender.send(launch).await;
        }));
    }
    let mut vms = Vec::new();
    while vms.len() < report.machines {
        vms.push(launched.recv().await??);
        report.counted(vms.len());
    }
    report.launched();
    let (sender, commanded) = unbounded();
    for vm in &vms {
        let (vm, sender) = (vm.clone(), sender.clone());
        spawn(Box::pin(async move { drop(sender.send(command(&vm).await).await) }));
    }
    for _ in &vms {
        commanded.recv().await??;
    }
    report.commanded(COMMANDS);
    report.ended(&Vm::shutdown_all(&vms, policy()).await?);
    Ok(())
}

async fn command<R: Reactor>(vm: &Vm<R>) -> Result<(), CommandError> {
    for _ in 0..COMMANDS {
        vm.execute("query-status").await?;
    }
    Ok(())
}

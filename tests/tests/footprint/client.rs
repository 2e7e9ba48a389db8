//! Clients that are measured from outside, or that measure themselves and print the result.

use std::alloc::System;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qemu_machine_core::{Config, LaunchError, Payload, Peer, Shutdown, WithRawReply};
use qemu_machine_host::descriptor;
use qemu_machine_host::tasks::{Reactor, Vm};
use qemu_machine_mio::EventLoop;
use stats_alloc::{Region, Stats};
use tokio::runtime::{Builder, Runtime};

use super::ALLOCATOR;

const LONG: Duration = Duration::from_secs(50);

/// How many connections are idle.
pub(crate) const CONNECTIONS: usize = 200;

/// How many commands are in a batch.
pub(crate) const BATCH: usize = 16;

pub(crate) fn act(row: &str, task: &str, address: &Path) {
    let config = || {
        let socket = UnixStream::connect(address).expect("the server listens");
        Config::attach(Peer::Connected(descriptor(socket))).launch_within(LONG)
    };
    match (row, task, task.parse()) {
        ("threads", _, Ok(commands)) => on_threads(config(), commands),
        ("launch", _, Ok(launches)) => launch(launches),
        ("loop", _, Ok(commands)) => in_a_loop(config(), commands, 1),
        ("batch", _, Ok(commands)) => in_a_loop(config(), commands, BATCH),
        ("smol", _, Ok(commands)) => smol::block_on(async {
            let attached = qemu_machine_smol::Vm::launch(config());
            execute(&attached.await.expect("the machine is attached"), commands).await;
        }),
        ("smol_local", _, Ok(commands)) => on_one_thread_of_smol(config(), commands),
        ("smol_on_tokio", _, Ok(commands)) => {
            let config = config();
            on_tokio(multi(), async move {
                let attached = qemu_machine_smol::Vm::launch_with(config, |driver| drop(tokio::spawn(driver)));
                execute(&attached.await.expect("the machine is attached"), commands).await;
            });
        }
        ("tokio_current", _, Ok(commands)) => {
            let config = config();
            on_tokio(current(), async move {
                let attached = qemu_machine_tokio::Vm::launch(config);
                execute(&attached.await.expect("the machine is attached"), commands).await;
            });
        }
        ("tokio_multi", _, Ok(commands)) => {
            let config = config();
            on_tokio(multi(), async move {
                let attached = qemu_machine_tokio::Vm::launch(config);
                execute(&attached.await.expect("the machine is attached"), commands).await;
            });
        }
        ("threads", "large", _) => large(config()),
        ("threads", "idle", _) => {
            let first = threads(config());
            drop(grown(|| (0..CONNECTIONS).map(|_| threads(config())).collect::<Vec<_>>()));
            drop(first);
        }
        ("loop", "idle", _) => idle_in_a_loop(config),
        ("smol", "idle", _) => smol::block_on(idle_in_tasks(|| qemu_machine_smol::Vm::launch(config()))),
        ("tokio", "idle", _) => {
            let runtime = current();
            runtime.block_on(idle_in_tasks(|| qemu_machine_tokio::Vm::launch(config())));
        }
        other => unreachable!("{other:?}"),
    }
}

fn threads(config: Config) -> qemu_machine_blocking::Vm {
    let vm = qemu_machine_blocking::Vm::launch(config).expect("the machine is attached");
    vm.execute(WithRawReply("query-status")).expect("the monitor answers");
    vm
}

fn on_threads(config: Config, commands: usize) {
    let vm = threads(config);
    for _ in 0..commands {
        vm.execute(WithRawReply("query-status")).expect("the monitor answers");
    }
}

/// Launches the real QEMU so many times, and ends it.
fn launch(launches: usize) {
    for _ in 0..launches {
        let config = Config::new("qemu-system-x86_64").args(["-machine", "none", "-nodefaults", "-S"]);
        let vm = qemu_machine_blocking::Vm::launch(config).expect("QEMU starts");
        let ended = vm.shutdown(Shutdown::default());
        ended.map(drop).expect("QEMU ends");
    }
}

fn in_a_loop(config: Config, commands: usize, depth: usize) {
    let mut event_loop = EventLoop::new().expect("a poll can be created");
    let (registry, tokens) = event_loop.parts();
    let mut vm = qemu_machine_mio::Vm::launch(config, registry, tokens).expect("the configuration is valid");
    let vms = std::slice::from_mut(&mut vm);
    event_loop.run(vms, |vms| vms[0].launched()).expect("the poll works").expect("the machine is attached");
    for _ in 0..commands / depth {
        let mut tickets: Vec<_> = (0..depth)
            .map(|_| vms[0].execute(WithRawReply("query-status")).expect("the command is accepted"))
            .collect();
        event_loop
            .run(vms, |vms| {
                tickets.retain(|ticket| vms[0].claim(ticket).is_none());
                tickets.is_empty().then_some(())
            })
            .expect("the poll works");
    }
}

async fn execute<R: Reactor>(vm: &Vm<R>, commands: usize) {
    for _ in 0..commands {
        vm.execute(WithRawReply("query-status")).await.expect("the monitor answers");
    }
}

fn on_one_thread_of_smol(config: Config, commands: usize) {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let attached = qemu_machine_smol::Vm::launch_with(config, |driver| executor.spawn(driver).detach());
        execute(&attached.await.expect("the machine is attached"), commands).await;
    }));
}

fn current() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
}

/// Runs a task, as a server does: the thread that waits for it has nothing else to do.
fn on_tokio(runtime: Runtime, task: impl Future<Output = ()> + Send + 'static) {
    runtime.block_on(runtime.spawn(task)).expect("no panic");
}

async fn idle_in_tasks<R: Reactor, F: Future<Output = Result<Vm<R>, LaunchError>>>(attach: impl Fn() -> F) {
    execute(&attach().await.expect("the machine is attached"), 1).await;
    let region = Region::new(ALLOCATOR);
    let mut vms = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        vms.push(attach().await.expect("the machine is attached"));
    }
    for vm in &vms {
        execute(vm, 1).await;
    }
    print_growth(&region);
}

/// Prints the length of a reply in bytes, then in KiB how much memory grew at most, and how much of that is left.
fn large(config: Config) {
    let vm = threads(config);
    // Resets the peak to the present value (`proc(5)`).
    fs::write("/proc/self/clear_refs", "5").expect("the kernel accepts it");
    let before = memory("VmRSS:");
    let payload: Payload = vm.execute_by(WithRawReply("large"), LONG).expect("the monitor answers");
    let length = payload.as_bytes().len();
    let peak = memory("VmHWM:");
    drop(payload);
    println!("{length} {} {}", peak - before, memory("VmRSS:") - before);
}

fn idle_in_a_loop(config: impl Fn() -> Config) {
    let mut event_loop = EventLoop::new().expect("a poll can be created");
    let mut begin = |number: usize| {
        let mut vms: Vec<_> = (0..number)
            .map(|_| {
                let (registry, tokens) = event_loop.parts();
                qemu_machine_mio::Vm::launch(config(), registry, tokens).expect("the configuration is valid")
            })
            .collect();
        event_loop
            .run(&mut vms, |vms| vms.iter().all(|vm| vm.launched().is_some()).then_some(()))
            .expect("the poll works");
        let tickets: Vec<_> = vms
            .iter_mut()
            .map(|vm| vm.execute(WithRawReply("query-status")).expect("the command is accepted"))
            .collect();
        for (index, ticket) in tickets.iter().enumerate() {
            event_loop
                .run(&mut vms, |vms| vms[index].claim(ticket))
                .expect("the poll works")
                .expect("the monitor answers");
        }
        vms
    };
    let first = begin(1);
    drop(grown(|| begin(CONNECTIONS)));
    drop(first);
}

/// Prints by how many bytes the allocated memory grew.
fn grown<T>(act: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let made = act();
    print_growth(&region);
    made
}

fn print_growth(region: &Region<'_, System>) {
    let Stats { bytes_allocated, bytes_deallocated, .. } = region.change();
    println!("{}", bytes_allocated - bytes_deallocated);
}

/// Returns a value of the status of this process, in KiB.
fn memory(name: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is a status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

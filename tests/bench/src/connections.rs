//! Workload of many connections in one process: the memory of each, and a command on all of them at once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;
use qemu_machine_core::WithRawReply;
use qemu_machine_mio::EventLoop;

use crate::clients::others::{Nothing, qmp, service, tokio};
use crate::clients::ours::{Threads, config};
use crate::clients::raw::{Mode, Raw, STATUS};
use crate::clients::tasks::{Executor, OnCurrentThread, OnSmol, OnWorkers, ask};
use crate::clients::{Client, keep, other};
use crate::meter::{Begun, memory};

/// Runs the workload. Its count is the memory of each connection, in KiB, after each was used once.
pub fn act(name: &str, address: &Path, connections: usize, rounds: usize) -> io::Result<()> {
    match name {
        "raw" => raw(address, connections, rounds),
        "blocking" => threads(address, connections, rounds),
        "mio" => in_a_loop(address, connections, rounds),
        "smol" => in_tasks::<OnSmol>(address, connections, rounds),
        "tokio current" => in_tasks::<OnCurrentThread>(address, connections, rounds),
        "tokio multi" => in_tasks::<OnWorkers>(address, connections, rounds),
        "qapi tokio" => tokio()?.block_on(tasks(
            connections,
            rounds,
            async || service(address).await,
            async |client| client.execute(qapi::qmp::query_status {}).await.map(keep).map_err(other),
        )),
        "qmp" => tokio()?.block_on(tasks(
            connections,
            rounds,
            async || qmp(address).await,
            async |client| {
                let reply = client.execute::<_, serde_json::Value>("query-status", Nothing::None).await;
                reply.map(keep).map_err(other)
            },
        )),
        _ => Err(other(format!("the client {name} does not support many connections"))),
    }
}

/// Returns the growth of the memory for each connection, in KiB.
fn grown(before: f64, connections: usize) -> io::Result<f64> {
    Ok((memory("VmRSS:")? - before) / connections as f64)
}

fn raw(address: &Path, connections: usize, rounds: usize) -> io::Result<()> {
    let _first = Raw::connect(address, Mode::Blind)?;
    let before = memory("VmRSS:")?;
    let mut all = (0..connections).map(|_| Raw::connect(address, Mode::Blind)).collect::<Result<Vec<_>, _>>()?;
    let mut round = || {
        all.iter().try_for_each(|raw| raw.send(STATUS))?;
        all.iter_mut().try_for_each(|raw| raw.line(|_| ()))
    };
    round()?;
    let grown = grown(before, connections)?;
    let begun = Begun::now()?;
    (0..rounds).try_for_each(|_| round())?;
    begun.over(grown)
}

/// Uses the connections in turn: all at once would need a thread for each.
fn threads(address: &Path, connections: usize, rounds: usize) -> io::Result<()> {
    Threads::connect(address)?.turns(1)?;
    let before = memory("VmRSS:")?;
    let mut all = (0..connections).map(|_| Threads::connect(address)).collect::<Result<Vec<_>, _>>()?;
    let mut round = || all.iter_mut().try_for_each(|client| client.turns(1));
    round()?;
    let grown = grown(before, connections)?;
    let begun = Begun::now()?;
    (0..rounds).try_for_each(|_| round())?;
    begun.over(grown)
}

fn in_a_loop(address: &Path, connections: usize, rounds: usize) -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let begin = |event_loop: &mut EventLoop, connections: usize| {
        let mut vms = Vec::new();
        for _ in 0..connections {
            let (registry, tokens) = event_loop.parts();
            vms.push(qemu_machine_mio::Vm::launch(config(address), registry, tokens).map_err(other)?);
        }
        event_loop.run(&mut vms, |vms| vms.iter().all(|vm| vm.launched().is_some()).then_some(()))?;
        round(event_loop, &mut vms)?;
        io::Result::Ok(vms)
    };
    let _first = begin(&mut event_loop, 1)?;
    let before = memory("VmRSS:")?;
    let mut all = begin(&mut event_loop, connections)?;
    let grown = grown(before, connections)?;
    let begun = Begun::now()?;
    (0..rounds).try_for_each(|_| round(&mut event_loop, &mut all))?;
    begun.over(grown)
}

/// Executes one command on each connection, all at once.
fn round(event_loop: &mut EventLoop, vms: &mut [qemu_machine_mio::Vm]) -> io::Result<()> {
    let asked = vms.iter_mut().map(|vm| vm.execute(WithRawReply("query-status")));
    let tickets = asked.collect::<Result<Vec<_>, _>>().map_err(other)?;
    let (mut answered, mut done) = (vec![false; vms.len()], 0);
    event_loop.run(vms, |vms| {
        for (index, vm) in vms.iter_mut().enumerate().filter(|(index, _)| !answered[*index]).collect::<Vec<_>>() {
            if vm.claim(&tickets[index]).is_some() {
                answered[index] = true;
                done += 1;
            }
        }
        (done == tickets.len()).then_some(())
    })
}

fn in_tasks<E: Executor>(address: &Path, connections: usize, rounds: usize) -> io::Result<()> {
    let executor = E::new()?;
    let begin = |connections: usize| {
        let vms = (0..connections).map(|_| executor.launch(config(address))).collect::<Result<Arc<[_]>, _>>()?;
        let all = Arc::clone(&vms);
        executor.run(async move {
            for vm in all.iter() {
                ask(vm, 1).await?;
            }
            Ok(())
        })?;
        io::Result::Ok(vms)
    };
    let _first = begin(1)?;
    let before = memory("VmRSS:")?;
    let all = begin(connections)?;
    let grown = grown(before, connections)?;
    let begun = Begun::now()?;
    executor.run(async move {
        for _ in 0..rounds {
            try_join_all(all.iter().map(|vm| ask(vm, 1))).await?;
        }
        Ok(())
    })?;
    begun.over(grown)
}

async fn tasks<C>(
    connections: usize,
    rounds: usize,
    connect: impl AsyncFn() -> io::Result<C>,
    ask: impl AsyncFn(&C) -> io::Result<()>,
) -> io::Result<()> {
    let first = connect().await?;
    ask(&first).await?;
    let before = memory("VmRSS:")?;
    let mut all = Vec::new();
    for _ in 0..connections {
        let client = connect().await?;
        ask(&client).await?;
        all.push(client);
    }
    let grown = grown(before, connections)?;
    let begun = Begun::now()?;
    for _ in 0..rounds {
        try_join_all(all.iter().map(|client| ask(client))).await?;
    }
    begun.over(grown)
}

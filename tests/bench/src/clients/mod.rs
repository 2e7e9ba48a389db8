//! Interface of a client to the benchmark, and the list of clients.

mod bare;
pub mod others;
pub mod ours;
pub mod raw;
pub mod tasks;

use std::io;
use std::path::Path;
use std::thread::Builder;
use std::time::Duration;

use crate::meter::{measure, memory};
use crate::plan::{Reading, Workload};
use crate::{connections, decode, launch, templates};

/// A deadline that is longer than any workload.
pub const LONG: Duration = Duration::from_secs(100);

/// The silence after which the last event has arrived.
pub const QUIET: Duration = Duration::from_millis(300);

/// A connected client. The plan contains only the workloads that the client supports.
pub trait Client {
    /// Executes `count` commands, one after another.
    fn turns(&mut self, count: usize) -> io::Result<()>;

    /// Executes `count` commands, `depth` of them in flight.
    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let _ = (depth, count);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Executes a command that `events` events follow, and returns the number of received events.
    fn flood(&mut self, events: usize) -> io::Result<usize> {
        let _ = events;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Executes one command with a long reply.
    fn large(&mut self, command: &'static str, reading: Reading) -> io::Result<()> {
        let _ = (command, reading);
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn connect(name: &str, address: &Path) -> io::Result<Box<dyn Client>> {
    Ok(match name {
        "raw" => Box::new(raw::Raw::connect(address, raw::Mode::Blind)?),
        "raw epoll" => Box::new(raw::Raw::connect(address, raw::Mode::Epoll)?),
        "raw+serde" => Box::new(raw::Raw::connect(address, raw::Mode::Serde)?),
        // glibc's malloc takes no locks while a process has one thread (`malloc/malloc.c`, `SINGLE_THREAD_P`).
        "raw+serde, 2 threads" => {
            Builder::new().spawn(|| {
                loop {
                    std::thread::park()
                }
            })?;
            Box::new(raw::Raw::connect(address, raw::Mode::Serde)?)
        }
        "async-io" => Box::new(bare::Bare::connect(address)?),
        "blocking" => Box::new(ours::Threads::connect(address)?),
        "blocking batch" => Box::new(ours::Batches::connect(address)?),
        "mio" => Box::new(ours::Loop::connect(address)?),
        "mio batch" => Box::new(ours::LoopBatches::connect(address)?),
        "smol" => Box::new(tasks::Tasks::<tasks::OnSmol>::connect(address)?),
        "smol batch" => Box::new(tasks::TaskBatches::<tasks::OnSmol>::connect(address)?),
        "tokio current" => Box::new(tasks::Tasks::<tasks::OnCurrentThread>::connect(address)?),
        "tokio current batch" => Box::new(tasks::TaskBatches::<tasks::OnCurrentThread>::connect(address)?),
        "tokio multi" => Box::new(tasks::Tasks::<tasks::OnWorkers>::connect(address)?),
        "tokio multi batch" => Box::new(tasks::TaskBatches::<tasks::OnWorkers>::connect(address)?),
        "qapi" => Box::new(others::Qapi::connect(address, 0)?),
        "qapi+BufWriter" => Box::new(others::Qapi::connect(address, 4096)?),
        "qapi tokio" => Box::new(others::QapiTokio::connect(address)?),
        "qmp" => Box::new(others::Qmp::connect(address)?),
        _ => return Err(other(format!("no client is `{name}`"))),
    })
}

/// Runs a workload in a client process.
///
/// # Errors
///
/// If the client fails.
pub fn act(name: &str, workload: &Workload, address: &Path) -> io::Result<()> {
    match *workload {
        Workload::Launch(times, memory) => return launch::act(name, times, memory),
        Workload::Decode(events) => return decode::act(name, events),
        Workload::Connections(connections, rounds) => return connections::act(name, address, connections, rounds),
        Workload::Template(times) => return templates::act(name, times),
        Workload::Resets(times) => return templates::reset(name, times),
        Workload::Machines(machines) => return templates::memory(name, machines),
        _ => {}
    }
    let mut client = connect(name, address)?;
    match *workload {
        Workload::Turns(count) | Workload::Qemu(count) => {
            client.turns(count / 10)?;
            measure(|| client.turns(count).map(|()| 0.0))
        }
        Workload::InFlight(depth, count) => {
            client.in_flight(depth, 10 * depth)?;
            measure(|| client.in_flight(depth, count).map(|()| 0.0))
        }
        Workload::Flood(events) => measure(|| client.flood(events).map(|events| events as f64)),
        Workload::Large(_, times, reading) => measure(|| {
            (0..times).try_for_each(|_| client.large("large", reading))?;
            memory("VmRSS:")
        }),
        Workload::Dribble(_) => {
            // A client that always decodes its replies does so here as well.
            measure(|| client.large("dribble", Reading::WithRawReply).map(|()| 0.0))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Converts the error of a client to an [`io::Error`].
pub fn other(error: impl ToString) -> io::Error {
    io::Error::other(error.to_string())
}

/// Drops a value, and keeps the compiler from optimising its computation away.
pub fn keep<T>(what: T) {
    std::hint::black_box(what);
}

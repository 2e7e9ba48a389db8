//! Clients of the async runtimes of this repository: the same tasks on each executor.

use std::hint::black_box;
use std::io;
use std::path::Path;

use futures_util::future::try_join_all;
use qemu_machine_core::{Config, Wait, WithRawReply};
use qemu_machine_smol::Smol;
use qemu_machine_tokio::Tokio;
use qemu_machine_tokio::tasks::{Reactor, Vm};
use smol::LocalExecutor;
use tokio::runtime::{Builder, Runtime};

use super::ours::{STATUS, all_answered, batch, config, read};
use super::{Client, LONG, QUIET, keep, other, others};
use crate::plan::Reading;

/// An executor that runs the task of the caller, and the driver of each machine beside it.
pub trait Executor: Sized {
    type Reactor: Reactor;

    fn new() -> io::Result<Self>;

    fn launch(&self, config: Config) -> io::Result<Vm<Self::Reactor>>;

    /// Runs a task of the caller to its end.
    fn run<T: Send + 'static>(&self, task: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T>;
}

/// smol's executor of one thread.
pub struct OnSmol(LocalExecutor<'static>);

impl Executor for OnSmol {
    type Reactor = Smol;

    fn new() -> io::Result<Self> {
        Ok(Self(LocalExecutor::new()))
    }

    fn launch(&self, config: Config) -> io::Result<Vm<Smol>> {
        let launched = Vm::launch_with(config, |driver| self.0.spawn(driver).detach());
        smol::block_on(self.0.run(launched)).map_err(other)
    }

    fn run<T: Send + 'static>(&self, task: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T> {
        smol::block_on(self.0.run(task))
    }
}

/// tokio's runtime of one thread, in which the caller blocks.
pub struct OnCurrentThread(Runtime);

impl Executor for OnCurrentThread {
    type Reactor = Tokio;

    fn new() -> io::Result<Self> {
        others::tokio().map(Self)
    }

    fn launch(&self, config: Config) -> io::Result<Vm<Tokio>> {
        self.0.block_on(Vm::launch(config)).map_err(other)
    }

    fn run<T: Send + 'static>(&self, task: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T> {
        self.0.block_on(task)
    }
}

/// tokio's runtime with a worker for each processor, which is one here. The caller of commands is a task on it.
pub struct OnWorkers(Runtime);

impl Executor for OnWorkers {
    type Reactor = Tokio;

    fn new() -> io::Result<Self> {
        Builder::new_multi_thread().enable_all().build().map(Self)
    }

    fn launch(&self, config: Config) -> io::Result<Vm<Tokio>> {
        self.0.block_on(Vm::launch(config)).map_err(other)
    }

    fn run<T: Send + 'static>(&self, task: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T> {
        self.0.block_on(self.0.spawn(task))?
    }
}

/// A machine whose commands are futures.
pub struct Tasks<E: Executor> {
    executor: E,
    vm: Vm<E::Reactor>,
}

impl<E: Executor> Tasks<E> {
    pub fn connect(address: &Path) -> io::Result<Self> {
        let executor = E::new()?;
        let vm = executor.launch(config(address))?;
        Ok(Self { executor, vm })
    }
}

/// Executes `count` commands, one after another.
pub async fn ask<R: Reactor>(vm: &Vm<R>, count: usize) -> io::Result<()> {
    for _ in 0..count {
        vm.execute(STATUS).await.map(keep).map_err(other)?;
    }
    Ok(())
}

impl<E: Executor> Client for Tasks<E> {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        let vm = self.vm.clone();
        self.executor.run(async move { ask(&vm, count).await })
    }

    /// Uses one future for each command in flight.
    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let vm = self.vm.clone();
        self.executor.run(async move { try_join_all((0..depth).map(|_| ask(&vm, count / depth))).await.map(drop) })
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        let vm = self.vm.clone();
        self.executor.run(async move {
            let mut all = vm.events([Wait::any_event()]).map_err(other)?;
            vm.execute(WithRawReply("flood")).await.map_err(other)?;
            let mut seen = 0;
            while seen < events && all.next(QUIET).await.map(black_box).is_ok() {
                seen += 1;
            }
            Ok(seen)
        })
    }

    fn large(&mut self, command: &'static str, reading: Reading) -> io::Result<()> {
        let vm = self.vm.clone();
        self.executor.run(async move {
            let reply = vm.execute_by(WithRawReply(command), LONG).await.map_err(other)?;
            read(&reply, reading)
        })
    }
}

/// A machine whose commands are batches.
pub struct TaskBatches<E: Executor>(Tasks<E>);

impl<E: Executor> TaskBatches<E> {
    pub fn connect(address: &Path) -> io::Result<Self> {
        Tasks::connect(address).map(Self)
    }
}

impl<E: Executor> Client for TaskBatches<E> {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let Self(Tasks { executor, vm }) = self;
        let vm = vm.clone();
        executor.run(async move {
            for _ in 0..count / depth {
                all_answered(vm.execute_all(batch(depth)).await)?;
            }
            Ok(())
        })
    }
}

//! Methods that spawn the driver on the executor of the runtime, for callers that pass no executor of their own.

use qemu_machine_core::{Accelerators, Config, Deadline, Gap, Identity, LaunchError, Peer, ServiceError};

use super::driver::Driver;
use super::reactor::Reactor;
use super::services::{Agent, Qtest};
use super::vm::Vm;

/// Runtime with an executor that is found without an argument.
pub trait Spawn: Reactor {
    /// Spawns a driver on the executor.
    fn spawn(driver: Driver<Self>);
}

impl<R: Spawn> Vm<R> {
    /// Launches a machine, and completes when its monitor is ready for commands. The driver is [spawned](Spawn::spawn)
    /// on the executor of the runtime. Otherwise as [`launch_with`](Self::launch_with).
    ///
    /// # Errors
    ///
    /// As [`launch_with`](Self::launch_with).
    pub async fn launch(config: Config) -> Result<Self, LaunchError> {
        Self::launch_with(config, R::spawn).await
    }

    /// Returns the accelerators of the QEMU that this configuration launches, as
    /// [`accelerators_with`](Self::accelerators_with). The drivers are spawned on the executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`accelerators_with`](Self::accelerators_with).
    ///
    /// ```no_run
    /// use qemu_machine_tokio::{Config, Vm};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::new("qemu-system-x86_64").args(["-m", "2G"]);
    /// let found = Vm::accelerators(&config).await?;
    /// println!("{found}");
    /// let vm = Vm::launch(config.accelerators(found.working())).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accelerators(config: &Config) -> Result<Accelerators, LaunchError> {
        Self::accelerators_with(config, R::spawn).await
    }

    /// Attaches to a machine that another program launched, as [`attach_with`](Self::attach_with). The driver is
    /// spawned on the executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`attach_with`](Self::attach_with).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use qemu_machine_tokio::{Address, Peer, Vm};
    ///
    /// let vm = Vm::attach(Peer::Dial(Address::unix("/run/vm/monitor")), Duration::from_secs(5)).await?;
    /// println!("{}", vm.execute("query-name").await?);
    /// vm.disconnect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Self::attach_with(peer, deadline, R::spawn).await
    }

    /// Launches this machine again after its end, as [`relaunch_with`](Self::relaunch_with). The new driver is spawned on the
    /// executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`relaunch_with`](Self::relaunch_with).
    pub async fn relaunch(&self) -> Result<(), LaunchError> {
        self.relaunch_with(R::spawn).await
    }

    /// Resumes a machine that [outlives its parent](Config::outlive_parent), as [`resume_with`](Self::resume_with). The
    /// driver is spawned on the executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`resume_with`](Self::resume_with).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use qemu_machine_tokio::{Config, Identity, Vm};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let vm = Vm::launch(Config::new("qemu-system-x86_64").outlive_parent()).await?;
    /// let stored = serde_json::to_string(&vm.identity()?)?;
    /// vm.detach().await?;
    ///
    /// // Later, in another process:
    /// let identity: Identity = serde_json::from_str(&stored)?;
    /// let (vm, gap) = Vm::resume(identity, Duration::from_secs(5)).await?;
    /// let situation = vm.run(gap.resync(), Duration::from_secs(10)).await?;
    /// println!("{:?}, {:?}", situation.status, situation.failing_disks);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resume(identity: Identity, deadline: impl Into<Deadline>) -> Result<(Self, Gap), LaunchError> {
        Self::resume_with(identity, deadline, R::spawn).await
    }

    /// Attaches to the agent in the guest, as [`agent_with`](Self::agent_with). The driver of the connection is spawned on
    /// the executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`agent_with`](Self::agent_with).
    pub async fn agent(&self, deadline: impl Into<Deadline>) -> Result<Agent<R>, ServiceError> {
        self.agent_with(deadline, R::spawn).await
    }

    /// Attaches to QEMU's qtest, as [`qtest_with`](Self::qtest_with). The driver of the connection is spawned on the
    /// executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`qtest_with`](Self::qtest_with).
    pub async fn qtest(&self) -> Result<Qtest<R>, ServiceError> {
        self.qtest_with(R::spawn).await
    }
}

impl<R: Spawn> Agent<R> {
    /// Attaches to an agent at an address of its own, as [`attach_with`](Self::attach_with). The driver is spawned on the
    /// executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`attach_with`](Self::attach_with).
    pub async fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Self::attach_with(peer, deadline, R::spawn).await
    }
}

impl<R: Spawn> Qtest<R> {
    /// Attaches to a qtest at an address of its own, as [`attach_with`](Self::attach_with). The driver is spawned on the
    /// executor of the runtime.
    ///
    /// # Errors
    ///
    /// As [`attach_with`](Self::attach_with).
    pub async fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Self::attach_with(peer, deadline, R::spawn).await
    }
}

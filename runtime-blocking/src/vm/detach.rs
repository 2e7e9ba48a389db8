//! Detaching from a machine that outlives its parent, and resuming it, for threads that may block.

use qemu_machine_core::{Config, Deadline, Gap, Identity, LaunchError, Machine, Misuse, Outcome};

use super::Vm;

impl Vm {
    /// Resumes a machine that [outlives its parent](Config::outlive_parent): one that this program launched before a
    /// restart, or that another program launched. The call connects to exactly that process, or fails.
    ///
    /// From then on the machine is as if it had been launched here, except for its consoles: [`Config::resume`] lists what
    /// it has. Events may have been missed in between: [`Gap::resync`] queries the state that they may have announced.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Failed`] with [`LaunchFailure::Exited`](crate::LaunchFailure::Exited) when the machine has ended:
    /// its outcome has the last words, and its files are removed; with a [`HostFault`](crate::HostFault) when another
    /// socket is in the place of its monitor; and as
    /// [`attach`](Self::attach).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use qemu_machine_blocking::{Config, Identity, Vm};
    ///
    /// let vm = Vm::launch(Config::new("qemu-system-x86_64").outlive_parent())?;
    /// let stored = serde_json::to_string(&vm.identity()?)?;
    /// vm.detach()?;
    ///
    /// // Later, in another process:
    /// let identity: Identity = serde_json::from_str(&stored)?;
    /// let (vm, gap) = Vm::resume(identity, Duration::from_secs(5))?;
    /// let situation = vm.run(gap.resync(), Duration::from_secs(10))?;
    /// println!("{:?}, {:?}", situation.status, situation.failing_disks);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(identity: Identity, deadline: impl Into<Deadline>) -> Result<(Self, Gap), LaunchError> {
        let vm = Self::launch(Config::resume(identity).launch_within(deadline))?;
        Ok((vm, Gap::before_this_session()))
    }

    /// Detaches from a machine that [outlives its parent](Config::outlive_parent) or was resumed, which keeps running.
    /// Returns when the connection is closed. Everything that was created for the machine stays. Store its
    /// [identity](crate::Handle::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] when the machine was not configured to outlive its parent; [`Misuse::NotRunning`]
    /// before its launch is complete and after its end has begun.
    pub fn detach(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::detach)
    }
}

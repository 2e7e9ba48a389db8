//! Detaching from a machine that outlives its parent, and resuming it, for tasks of any executor.

use qemu_machine_core::{Config, Deadline, Gap, Identity, LaunchError, Machine, Misuse, Outcome};

use super::Vm;
use crate::tasks::driver::Driver;
use crate::tasks::reactor::Reactor;

impl<R: Reactor> Vm<R> {
    /// Resumes a machine that [outlives its parent](Config::outlive_parent): one that this program launched before a
    /// restart, or that another program launched. The call connects to exactly that process, or fails. `spawn` receives
    /// the driver, as in [`launch_with`](Self::launch_with).
    ///
    /// From then on the machine is as if it had been launched here, except for its consoles: [`Config::resume`] lists what
    /// it has. Events may have been missed in between: [`Gap::resync`] queries the
    /// state that they may have announced. Dropping the future leaves the machine
    /// running.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Failed`] with [`LaunchFailure::Exited`](crate::LaunchFailure::Exited) when the machine has ended:
    /// its outcome has the last words, and its files are removed; with a [`HostFault`](crate::HostFault) when another
    /// socket is in the place of its monitor; and as
    /// [`attach_with`](Self::attach_with).
    pub async fn resume_with(
        identity: Identity,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver<R>),
    ) -> Result<(Self, Gap), LaunchError> {
        let vm = Self::launch_with(Config::resume(identity).launch_within(deadline), spawn).await?;
        Ok((vm, Gap::before_this_session()))
    }

    /// Detaches from a machine that [outlives its parent](Config::outlive_parent) or was resumed, which keeps running.
    /// Completes when the connection is closed. Everything that was created for the machine stays. Store its
    /// [identity](crate::Handle::identity) before. When the future is dropped after it was polled, the machine is still
    /// detached.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] when the machine was not configured to outlive its parent; [`Misuse::NotRunning`]
    /// before its launch is complete and after its end has begun.
    pub async fn detach(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::detach).await
    }
}

//! Detaching from a machine that outlives its parent, and resuming it, for tasks.

use qemu_machine_core::{Config, Deadline, Gap, Identity, LaunchError, Machine, Misuse, Outcome};

use super::Vm;
use crate::driver::Driver;

impl Vm {
    /// Resumes a machine that [outlives its parent](Config::outlive_parent), which this program launched before a restart
    /// or another program launched. It connects to exactly that process, or fails. From then on the machine is one that we
    /// are [attached](Self::attach_with) to, except that the caller who ends it also removes what was created for it.
    /// `spawn` gets the driver, as in [`launch_with`](Self::launch_with).
    ///
    /// # Errors
    ///
    /// When the process is gone, when another client is connected, and as [`attach_with`](Self::attach_with).
    pub async fn resume_with(
        identity: Identity,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver),
    ) -> Result<(Self, Gap), LaunchError> {
        let vm = Self::launch_with(Config::resume(identity).launch_within(deadline), spawn).await?;
        Ok((vm, Gap::before_this_session()))
    }

    /// Detaches from a machine that [outlives its parent](Config::outlive_parent), which keeps running, and completes when
    /// the connection is closed. Store its [identity](crate::Handle::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] and [`Misuse::NotRunning`].
    pub async fn detach(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::detach).await
    }
}

//! Detaching from a machine that outlives its parent, and resuming it, for callers that may block.

use qemu_machine_core::{Config, Deadline, Gap, Identity, LaunchError, Machine, Misuse, Outcome};

use super::Vm;

impl Vm {
    /// Resumes a machine that [outlives its parent](Config::outlive_parent), which this program launched before a restart
    /// or another program launched. It connects to exactly that process, or fails. From then on the machine is one that we
    /// are [attached](Self::attach) to, except that the caller who ends it also removes what was created for it.
    ///
    /// # Errors
    ///
    /// When the process is gone, when another client is connected, and as [`attach`](Self::attach).
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
    /// let (vm, _gap) = Vm::resume(identity, Duration::from_secs(5))?;
    /// println!("{}", vm.execute("query-status")?["status"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(identity: Identity, deadline: impl Into<Deadline>) -> Result<(Self, Gap), LaunchError> {
        let vm = Self::launch(Config::resume(identity).launch_within(deadline))?;
        Ok((vm, Gap::before_this_session()))
    }

    /// Detaches from a machine that [outlives its parent](Config::outlive_parent), which keeps running, and returns when
    /// the connection is closed. Store its [identity](crate::Handle::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] and [`Misuse::NotRunning`].
    pub fn detach(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::detach)
    }
}

//! Decides what a machine that is kept looks like to a task.

use qemu_machine_core::{Config, Deadline, Gap, Identity, LaunchError, Machine, Misuse, Outcome};

use super::Vm;

impl Vm {
    /// Goes on with a machine that was launched to be [kept](Config::outlive_parent), by this program before a restart
    /// or by another: the very same process, or none. From now on it is as any machine that we are
    /// [attached](Self::attach) to; whoever ends it also removes what was made for it.
    ///
    /// # Errors
    ///
    /// When it is gone, when somebody else is connected, and as [`attach`](Self::attach).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use qemu_machine_smol::{Config, Identity, Vm};
    ///
    /// # smol::block_on(async {
    /// let vm = Vm::launch(Config::new("qemu-system-x86_64").outlive_parent()).await?;
    /// let stored = serde_json::to_string(&vm.identity()?)?;
    /// vm.detach().await?;
    ///
    /// // Later, in another process:
    /// let identity: Identity = serde_json::from_str(&stored)?;
    /// let (vm, _gap) = Vm::resume(identity, Duration::from_secs(5)).await?;
    /// println!("{}", vm.execute("query-status").await?["status"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn resume(identity: Identity, deadline: impl Into<Deadline>) -> Result<(Self, Gap), LaunchError> {
        let vm = Self::launch(Config::resume(identity).launch_within(deadline)).await?;
        Ok((vm, Gap::before_this_session()))
    }

    /// Leaves a machine that was launched to be [kept](Config::outlive_parent), as it is, and is done when the connection
    /// is closed. Take its [identity](Self::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`], and [`Misuse::NotRunning`].
    pub async fn detach(&self) -> Result<Outcome, Misuse> {
        self.end(Machine::detach).await
    }
}

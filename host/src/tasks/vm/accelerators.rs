//! Accelerators of a QEMU, for tasks of any executor.

use qemu_machine_core::{Accelerators, Config, LaunchError};

use super::super::driver::Driver;
use super::super::reactor::Reactor;
use super::Vm;

impl<R: Reactor> Vm<R> {
    /// Returns the accelerators of the QEMU that this configuration launches: which ones work on this host, and why each
    /// other one does not. [`Accelerators::probe`] names the parts of the configuration that matter.
    ///
    /// It launches QEMU once for the list, and then once for each accelerator that it was built with, without a board and
    /// without a guest. So it takes as long as some launches, and the result is worth keeping. The deadline of each is
    /// [`Config::launch_within`]. `spawn` receives the driver of each, as in
    /// [`launch_with`](Self::launch_with). Dropping the future kills the QEMU that runs.
    ///
    /// # Errors
    ///
    /// As [`launch_with`](Self::launch_with), if the program cannot be executed or does not list its accelerators. An
    /// accelerator that does not work is no error.
    pub async fn accelerators_with(config: &Config, spawn: impl Fn(Driver<R>)) -> Result<Accelerators, LaunchError> {
        let mut probe = Accelerators::probe(config);
        while let Some(config) = probe.next_launch() {
            let result = match Self::launch_with(config, &spawn).await {
                Ok(vm) => vm.kill().await.map(drop).map_err(LaunchError::from),
                Err(error) => Err(error),
            };
            probe.report_launch(result)?;
        }
        Ok(probe.finish())
    }
}

//! Accelerators of a QEMU, for threads that may block.

use qemu_machine_core::{Accelerators, Config, LaunchError};

use super::Vm;

impl Vm {
    /// Returns the accelerators of the QEMU that this configuration launches: which ones work on this host, and why each
    /// other one does not. [`Accelerators::probe`] names the parts of the configuration that matter.
    ///
    /// It launches QEMU once for the list, and then once for each accelerator that it was built with, without a board and
    /// without a guest. So it takes as long as some launches, and the result is worth keeping. The deadline of each is
    /// [`Config::launch_within`], and its end frees everything.
    ///
    /// # Errors
    ///
    /// As [`launch`](Self::launch), if the program cannot be executed or does not list its accelerators. An accelerator that
    /// does not work is no error.
    ///
    /// ```no_run
    /// use qemu_machine_blocking::{Config, Vm};
    ///
    /// let config = Config::new("qemu-system-x86_64").args(["-m", "2G"]);
    /// let found = Vm::accelerators(&config)?;
    /// println!("{found}");
    /// let vm = Vm::launch(config.accelerators(found.working()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accelerators(config: &Config) -> Result<Accelerators, LaunchError> {
        let mut probe = Accelerators::probe(config);
        while let Some(config) = probe.next_launch() {
            // Dropping the machine kills it.
            probe.report_launch(Self::launch(config).map(drop))?;
        }
        Ok(probe.finish())
    }
}

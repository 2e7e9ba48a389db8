//! Detaching from a machine that outlives its parent, in a loop of the caller.

use qemu_machine_core::{Identity, Machine, Misuse};
use qemu_machine_host::{IdentityError, identity};

use super::Vm;

impl Vm {
    /// Returns the identity of a machine that [outlives its parent](crate::Config::outlive_parent): launch
    /// [`Config::resume`](crate::Config::resume) with it to resume the machine. Store it as soon as the machine runs: a crash
    /// gives no time to do so later.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] and [`Misuse::NotRunning`]; a fault when the operating system does not report what
    /// identifies the process.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        identity(&self.machine)
    }

    /// Begins to detach from a machine that [outlives its parent](crate::Config::outlive_parent), which keeps running. Store
    /// its [identity](Self::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] and [`Misuse::NotRunning`].
    pub fn detach(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::detach)
    }
}

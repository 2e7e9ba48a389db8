//! Decides what a machine that is kept looks like to a loop.

use qemu_machine_core::{Identity, Machine, Misuse};
use qemu_machine_host::{IdentityError, identity};

use super::Vm;

impl Vm {
    /// What the machine is known by to whoever goes on with it, if it was launched to be
    /// [kept](crate::Config::outlive_parent): launch [`Config::resume`](crate::Config::resume) with it. Store it as soon
    /// as it is there.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`], [`Misuse::NotRunning`], and what the host does not say.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        identity(&self.machine)
    }

    /// Leaves a machine that was launched to be [kept](crate::Config::outlive_parent), as it is: begins to let go of it.
    /// Take its [identity](Self::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`], and [`Misuse::NotRunning`].
    pub fn detach(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::detach)
    }
}

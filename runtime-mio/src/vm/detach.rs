//! Detaching from a machine that outlives its parent, in the mio loop of the caller.

use qemu_machine_core::{Identity, Machine, Misuse};
use qemu_machine_host::{IdentityError, identity};

use super::Vm;

impl Vm {
    /// Returns the identity of a machine that [outlives its parent](crate::Config::outlive_parent). Another program, or
    /// this one after a restart, launches [`Config::resume`](crate::Config::resume) with it to resume the machine.
    /// Store it as soon as the machine runs: a crash leaves no time to do so later.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Misuse`] with [`Misuse::NotDetachable`] when the machine was not configured to outlive its
    /// parent, and with [`Misuse::NotRunning`] before its launch is complete and after its end has begun.
    /// [`IdentityError::Host`] when the operating system does not report what identifies the process or its socket.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        identity(&self.machine)
    }

    /// Begins to detach from a machine that [outlives its parent](crate::Config::outlive_parent), which keeps running.
    /// [`Notice::Ended`](crate::Notice::Ended) means that the connection is closed. Everything that was created for the
    /// machine stays. Store its [identity](Self::identity) before.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] when the machine was not configured to outlive its parent; [`Misuse::NotRunning`]
    /// before its launch is complete and after its end has begun.
    pub fn detach(&mut self) -> Result<(), Misuse> {
        self.ask(Machine::detach)
    }
}

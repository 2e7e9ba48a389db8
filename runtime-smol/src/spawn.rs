//! Spawning on the global executor of the crate `smol`.

use qemu_machine_host::tasks::{Driver, Spawn};

use crate::reactor::Smol;

/// Spawns on smol's global executor: one thread, or as many as `SMOL_THREADS` states.
impl Spawn for Smol {
    fn spawn(driver: Driver<Self>) {
        smol::spawn(driver).detach();
    }
}

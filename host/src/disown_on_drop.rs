//! Procedure that a caller waits for, which is disowned when the call ends early.

use std::fmt;

use qemu_machine_core::procedure::{Procedure, Run};

use crate::handle::Shared;
use crate::panic::{caught, resume};

/// A procedure that a caller waits for. Dropping it before the procedure is over disowns the procedure: its future was
/// dropped, or the call panicked. The procedure itself is code of the user, and is called without the lock of the machine.
pub struct DisownOnDrop<'a, S: Shared, P: Procedure> {
    pub(crate) shared: &'a S,
    pub(crate) run: Run<P>,
}

impl<'a, S: Shared, P: Procedure> DisownOnDrop<'a, S, P> {
    /// Begins to wait for a procedure.
    pub fn new(shared: &'a S, run: Run<P>) -> Self {
        Self { shared, run }
    }

    /// Returns the run of the procedure, to advance it.
    pub fn run(&mut self) -> &mut Run<P> {
        &mut self.run
    }
}

impl<S: Shared, P: Procedure> Drop for DisownOnDrop<'_, S, P> {
    fn drop(&mut self) {
        let (is_begun, panic) = match caught(|| self.run.ask_for_undo()) {
            Ok(is_begun) => (is_begun, None),
            Err(panic) => (true, Some(panic)),
        };
        if is_begun {
            self.shared.ask(|machine, now| self.run.disown(machine, now));
        }
        resume(panic);
    }
}

impl<S: Shared, P: Procedure + fmt::Debug> fmt::Debug for DisownOnDrop<'_, S, P>
where
    P::Return: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DisownOnDrop").field(&self.run).finish()
    }
}

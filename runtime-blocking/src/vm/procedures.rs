//! Procedures, for threads that may block.

use qemu_machine_core::procedure::{ConsoleLine, Lines, Procedure, Run};
use qemu_machine_core::{Deadline, FOREVER};
use qemu_machine_host::{DisownOnDrop, Shared};

use super::Vm;
use crate::cancel::Early;
use crate::followers::Concern;

impl Vm {
    /// Runs a [procedure](crate::procedure), which consists of several commands and events, to its end, and returns its
    /// result. One deadline bounds all of it; after it, a procedure that must clean up has
    /// [10 seconds](crate::procedure::CLEAN_UP_WITHIN), as it has when the call is [cancelled](crate::Cancel). Other work
    /// that its commands began in QEMU continues after the deadline.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// use qemu_machine_blocking::procedure::Unplug;
    ///
    /// vm.run(Unplug::device("net1"), Duration::from_secs(30))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<P: Procedure>(&self, procedure: P, deadline: impl Into<Deadline>) -> P::Return {
        let mut pending = DisownOnDrop::new(&**self.shared(), Run::new(procedure, deadline.into()));
        let run = pending.run();
        loop {
            let concern = run.awaits().map_or(Concern::Any, Concern::Notice);
            self.shared().wait_for(concern, |_, machine, early| match early {
                // Then `pending` disowns it.
                Some(Early::Panicked(_)) => Some(()),
                Some(Early::Cancelled(_)) => {
                    run.cancel(machine);
                    run.take_result(machine).then_some(())
                }
                None => run.take_result(machine).then_some(()),
            });
            // This calls code of the user, which may call the machine, so it runs without the lock.
            if let Some(output) = run.next_step() {
                return output;
            }
            self.shared().ask(|machine, now| run.carry_out(machine, now));
        }
    }

    /// Returns an iterator over the [lines](Lines) of a console, each once, in order. It waits for each without a deadline,
    /// and ends with the machine. It also ends at every error: when there is no such console, when as many waits as
    /// [`Limits::waits`](crate::Limits::waits) are in progress, and when the call is [cancelled](crate::Cancel).
    /// [`run`](Self::run) with [`Lines::next_line`] has a deadline, and returns the error.
    ///
    /// ```no_run
    /// # let vm = qemu_machine_blocking::Vm::launch(qemu_machine_blocking::Config::new("qemu-system-x86_64"))?;
    /// let console = vm.clone();
    /// std::thread::spawn(move || console.lines("tty").for_each(|line| println!("{line}")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lines(&self, lines: impl Into<Lines>) -> impl Iterator<Item = ConsoleLine> {
        let mut lines = lines.into();
        std::iter::from_fn(move || self.run(lines.next_line(), FOREVER).ok().flatten())
    }
}

//! Reader of the guest's reports on its second serial port.
//!
//! Why a serial port: kernels for this machine have its driver built in. An exit code keeps all its eight bits, while
//! `isa-debug-exit` keeps seven (QEMU, `hw/misc/debugexit.c`, `debug_exit_write`). Output of the command or the kernel
//! cannot be mistaken for a report.

use std::time::{Duration, Instant};

use qemu_machine_blocking::{Found, Mark, Vm, Wait, WaitError};

use crate::failure::Failure;
use crate::guest::REPORT;

/// The position up to which the reports were read, and the time limit of the command.
pub(crate) struct Report<'a> {
    vm: &'a Vm,
    mark: Mark,
    begin: Instant,
    limit: Duration,
}

impl<'a> Report<'a> {
    /// A reader at the beginning, with a limit for the boot and the command together.
    pub(crate) fn new(vm: &'a Vm, limit: Duration) -> Self {
        Self { vm, mark: Mark::default(), begin: Instant::now(), limit }
    }

    /// Returns the time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begin.elapsed())
    }

    /// Waits until the guest has reported `text`, and returns everything from the last position up to that.
    ///
    /// # Errors
    ///
    /// [`Failure`], if the machine ended, or the time is over.
    pub(crate) fn up_to(&mut self, text: &str) -> Result<String, Failure> {
        let hit = self.vm.wait_any(&self.mark, [Wait::text(REPORT, text), Wait::end()], self.left());
        let hit = hit.map_err(|error| if error == WaitError::TimedOut { self.hung() } else { error.into() })?;
        self.mark = hit.mark;
        match hit.found {
            Found::End(outcome) => Err(Failure::of_end(self.vm, &outcome)),
            Found::Text(report) => Ok(report.into()),
            other => unreachable!("the wait has no such thing: {other:?}"),
        }
    }

    /// Returns the failure for a guest whose time is over.
    pub(crate) fn hung(&self) -> Failure {
        Failure::hung(self.vm, self.limit)
    }
}

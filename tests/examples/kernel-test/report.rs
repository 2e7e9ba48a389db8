//! Decides how we follow what the guest reports on its second serial port.
//!
//! Why there: kernels for this machine have its driver built in, an exit code has all its eight bits (there are seven
//! with `isa-debug-exit`), and nothing that the command or the kernel prints is mistaken for a report.

use std::time::{Duration, Instant};

use qemu_machine_blocking::{Found, Mark, Vm, Wait, WaitError};

use crate::failure::Failure;
use crate::guest::REPORT;

/// How far we have read, and until when the command may take.
pub(crate) struct Report<'a> {
    vm: &'a Vm,
    mark: Mark,
    begin: Instant,
    limit: Duration,
}

impl<'a> Report<'a> {
    /// From the beginning; for so long in all.
    pub(crate) fn new(vm: &'a Vm, limit: Duration) -> Self {
        Self { vm, mark: Mark::default(), begin: Instant::now(), limit }
    }

    /// How much of the time is left.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begin.elapsed())
    }

    /// Waits until the guest has reported this, and gives all that it reported up to there and had not before.
    pub(crate) fn up_to(&mut self, text: &str) -> Result<String, Failure> {
        let hit = self.vm.wait_any(&self.mark, [Wait::text(REPORT, text), Wait::end()], self.left());
        let hit = hit.map_err(|error| if error == WaitError::TimedOut { self.hung() } else { error.into() })?;
        self.mark = hit.mark;
        match hit.found {
            Found::End(outcome) => Err(Failure::of_end(self.vm, &outcome)),
            Found::Text(report) => Ok(report),
            other => unreachable!("nobody waits for {other:?}"),
        }
    }

    /// The time is over.
    pub(crate) fn hung(&self) -> Failure {
        Failure::hung(self.vm, self.limit)
    }
}

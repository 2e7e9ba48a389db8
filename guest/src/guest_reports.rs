//! Reader of the guest's reports: lines on its second serial port, or marked lines of the console.
//!
//! Why a serial port: kernels for this machine have its driver built in. An exit code keeps all its eight bits, while
//! `isa-debug-exit` keeps seven (QEMU, `hw/misc/debugexit.c`, `debug_exit_write`). Output of the command or the kernel
//! cannot be mistaken for a report. A guest with one serial port reports on the console, in lines that begin with a random
//! text which the host chose.

use std::time::{Duration, Instant};

use qemu_machine_blocking::{Cause, Deadline, FOREVER, Found, Mark, Outcome, Vm, Wait, WaitError};

use crate::failure::Failure;
use crate::machine::{CONSOLE, PANIC, REPORT, printed};

/// The last line of a panic after which the kernel stays (the kernel's `kernel/panic.c`, `panic`).
const STAYS: &str = "---[ end Kernel panic - not syncing";

/// Parts of the messages with which the kernel reports that it makes no progress: `kernel/watchdog.c`,
/// `kernel/rcu/tree_stall.h`, `kernel/hung_task.c`.
const STALLS: [&str; 5] =
    ["BUG: soft lockup", "hard LOCKUP", "self-detected stall", "detected stalls on", "blocked for more than"];

/// A report of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuestReport {
    /// The command begins.
    Ready,
    /// The guest cannot run the command.
    Failed(String),
    /// This many bytes of the next file were written to the third serial port. `None` means that there is no such file.
    Copied(Option<u64>),
    /// The exit code of the command, and the end of the reports.
    Exit(u8),
}

/// The position up to which the reports were read, and the time limit of the run.
pub(crate) struct GuestReports<'a> {
    vm: &'a Vm,
    /// The text that begins reports on the console.
    mark: &'a str,
    position: Mark,
    begin: Instant,
    /// `None` means that there is no limit.
    limit: Option<Duration>,
    is_ready: bool,
}

impl<'a> GuestReports<'a> {
    /// A reader at the beginning, with a limit for the boot and the command together.
    pub(crate) fn new(vm: &'a Vm, mark: &'a str, begin: Instant, limit: Option<Duration>) -> Self {
        Self { vm, mark, position: Mark::default(), begin, limit, is_ready: false }
    }

    /// Returns the time that is left.
    pub(crate) fn left(&self) -> Deadline {
        self.limit.map_or(FOREVER, |limit| limit.saturating_sub(self.begin.elapsed()).into())
    }

    /// Reports whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.begin.elapsed() >= limit)
    }

    /// Waits for the next report. Lines that are no report are ignored.
    ///
    /// # Errors
    ///
    /// [`Failure`], if the kernel panicked, the machine ended, or the time is over.
    pub(crate) fn next(&mut self) -> Result<GuestReport, Failure> {
        loop {
            let line = self.line()?;
            if let Some(report) = GuestReport::read(line.trim()) {
                self.is_ready |= report == GuestReport::Ready;
                return Ok(report);
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let signs = [Wait::text(REPORT, "\n"), Wait::line(CONSOLE, self.mark), Wait::line(CONSOLE, STAYS), Wait::end()];
        let hit = self.vm.wait_any(&self.position, signs, self.left());
        let hit = hit.map_err(|error| if error == WaitError::TimedOut { self.overdue() } else { error.into() })?;
        self.position = hit.mark;
        match (hit.index, hit.found) {
            (0, Found::Text(line)) => Ok(line.into()),
            (1, Found::Text(lines)) => {
                Ok(lines.rsplit_once(self.mark).map(|(_, report)| report.to_owned()).unwrap_or_default())
            }
            (2, _) => Err(Failure::Panicked(self.panic().unwrap_or_default().into())),
            (_, Found::End(outcome)) => Err(self.of_end(&outcome)),
            // The waits have no other thing.
            (_, other) => Err(Failure::Guest(format!("{other:?}").into())),
        }
    }

    /// Returns the failure for a machine that ended by itself. A kernel that panics prints that, and `panic=-1` makes it
    /// reset the machine. A command that prints the same text and resets is mistaken for a panic.
    pub(crate) fn of_end(&self, outcome: &Outcome) -> Failure {
        match (&outcome.cause, self.panic()) {
            (Cause::Reset, Some(why)) => Failure::Panicked(why.into()),
            (cause, _) => Failure::Ended { cause: cause.clone(), log: outcome.log.clone() },
        }
    }

    /// Returns the failure for a guest whose time is over.
    pub(crate) fn overdue(&self) -> Failure {
        let limit = self.limit.unwrap_or_default();
        let text = printed(self.vm, CONSOLE).unwrap_or_default();
        let stall = text.lines().find(|line| STALLS.iter().any(|stall| line.contains(stall)));
        match (self.is_ready, stall) {
            (_, Some(line)) => {
                Failure::Hung { what: format!("it reported `{}`, and did not end", line.trim()).into(), limit }
            }
            (false, None) => Failure::Hung { what: "the guest did not start the command".into(), limit },
            (true, None) => Failure::TimedOut(limit),
        }
    }

    /// Returns the message of the kernel's panic. `None` means that it printed none.
    fn panic(&self) -> Option<String> {
        let text = printed(self.vm, CONSOLE).ok()?;
        text.lines().find_map(|line| Some(line.split_once(PANIC)?.1.trim_end().to_owned()))
    }
}

impl GuestReport {
    /// Reads a line, as `init.sh` writes it. `None` means that it is no report.
    fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ready" => Some(Self::Ready),
            "failed" => Some(Self::Failed(rest.to_owned())),
            "copied" => Some(Self::Copied(Some(rest.trim().parse().ok()?))),
            "missing" => Some(Self::Copied(None)),
            "exit" => Some(Self::Exit(rest.parse().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GuestReport;

    #[test]
    fn only_the_lines_of_init_are_reports() {
        assert_eq!(GuestReport::read("exit 255"), Some(GuestReport::Exit(255)));
        assert_eq!(GuestReport::read("copied 17"), Some(GuestReport::Copied(Some(17))));
        assert_eq!(GuestReport::read("failed no 9p"), Some(GuestReport::Failed("no 9p".into())));
        for line in ["", "exit", "exit 256", "exit -1", "copied", "readyness"] {
            assert_eq!(GuestReport::read(line), None, "{line}");
        }
    }
}

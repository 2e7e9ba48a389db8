//! Reader of the guest's reports: lines on its second serial port, or of the console, which begin with a mark.
//!
//! Why a serial port: kernels for this machine have its driver built in. An exit code keeps all its eight bits, while
//! `isa-debug-exit` keeps seven (QEMU, `hw/misc/debugexit.c`, `debug_exit_write`). A report begins with a random text which
//! the host chose, the mark, so that other output on the same port is no report. A guest with one serial port reports on
//! the console. The command is root in its guest: one that searches the memory of init for the mark can forge a report.

use std::time::{Duration, Instant};

use qemu_machine_blocking::{Cause, Deadline, FOREVER, Found, Mark, Outcome, Vm, Wait, WaitError};

use crate::failure::Failure;
use crate::kvm;
use crate::machine::{CONSOLE, PANIC, REPORT, printed};
use crate::quiet::without_level;

/// The last line of a panic after which the kernel stays (the kernel's `kernel/panic.c`, `panic`).
const STAYS: &str = "---[ end Kernel panic - not syncing";

/// Parts of the messages with which the kernel reports that it makes no progress: `kernel/watchdog.c`,
/// `kernel/rcu/tree_stall.h`, `kernel/hung_task.c`.
const STALLS: [&str; 5] =
    ["BUG: soft lockup", "hard LOCKUP", "self-detected stall", "detected stalls on", "blocked for more than"];

/// The positions in the list of things that are waited for.
const REPORT_AT: usize = 0;
const STAYS_AT: usize = 1;

/// A report of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuestReport {
    /// The command begins.
    Ready,
    /// The guest cannot run the command.
    Failed(String),
    /// This many bytes of the next file were written to the third serial port. `None` means that there is no such file.
    Copied(Option<u64>),
    /// The exit code of the command, before its files are copied.
    Exited(u8),
    /// The exit code of the command, and the end of the reports.
    Exit(u8),
}

/// The position up to which the reports were read, and the time limit of the run.
pub(crate) struct GuestReports<'a> {
    vm: &'a Vm,
    /// The text that begins reports.
    mark: &'a str,
    position: Mark,
    /// The begin of the time that is limited: that of the run, and then that of the copies.
    begin: Instant,
    /// `None` means that there is no limit.
    limit: Option<Duration>,
    is_ready: bool,
    /// Whether a report came on the second serial port, so that none comes on the console.
    has_own_port: bool,
    /// The exit code of the command. `None` means that it runs.
    exited: Option<u8>,
}

impl<'a> GuestReports<'a> {
    /// A reader at the beginning, with a limit for the boot and the command together.
    pub(crate) fn new(vm: &'a Vm, mark: &'a str, begin: Instant, limit: Option<Duration>) -> Self {
        let position = Mark::default();
        Self { vm, mark, position, begin, limit, is_ready: false, has_own_port: false, exited: None }
    }

    /// Returns the time that is left.
    pub(crate) fn left(&self) -> Deadline {
        self.limit.map_or(FOREVER, |limit| limit.saturating_sub(self.begin.elapsed()).into())
    }

    /// Reports whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.begin.elapsed() >= limit)
    }

    /// Waits for the next report. Lines that are no report are ignored. The copies have the time limit for themselves.
    ///
    /// # Errors
    ///
    /// [`Failure`], if the kernel panicked, the machine ended, or the time is over.
    pub(crate) fn next(&mut self) -> Result<GuestReport, Failure> {
        loop {
            let line = self.line()?;
            if let Some(report) = GuestReport::read(line.trim()) {
                self.is_ready |= report == GuestReport::Ready;
                if let GuestReport::Exited(code) = report {
                    (self.exited, self.begin) = (Some(code), Instant::now());
                }
                return Ok(report);
            }
        }
    }

    /// Returns what follows the mark in the next line with it.
    fn line(&mut self) -> Result<String, Failure> {
        loop {
            let on_console = (!self.has_own_port).then(|| Wait::line(CONSOLE, self.mark));
            let signs = [Wait::line(REPORT, self.mark), Wait::line(CONSOLE, STAYS), Wait::end(), Wait::event("STOP")];
            let hit = self.vm.wait_any(&self.position, signs.into_iter().chain(on_console), self.left());
            let hit = hit.map_err(|error| if error == WaitError::TimedOut { self.overdue() } else { error.into() })?;
            self.position = hit.mark;
            let line = match hit.found {
                Found::Line { line, .. } => line,
                Found::End(outcome) => return Err(self.of_end(&outcome)),
                Found::Event(_) => match stopped(self.vm) {
                    Some(failure) => return Err(failure),
                    None => continue,
                },
                // The waits have no other thing.
                other => return Err(Failure::Guest(format!("{other:?}").into())),
            };
            if hit.index == STAYS_AT {
                if behind_stamp(&line, STAYS).is_some() {
                    return Err(Failure::Panicked(self.panic().unwrap_or_default().into()));
                }
                continue;
            }
            self.has_own_port |= hit.index == REPORT_AT;
            if let Some((_, report)) = line.split_once(self.mark) {
                return Ok(report.to_owned());
            }
        }
    }

    /// Returns the failure for a machine that ended by itself. A kernel that panics prints that, and `panic=-1` makes it
    /// reset the machine. A command that prints the same text at the begin of a line, or behind a stamp, and resets is
    /// mistaken for a panic.
    pub(crate) fn of_end(&self, outcome: &Outcome) -> Failure {
        match (&outcome.cause, self.panic(), self.exited) {
            (Cause::Reset, Some(why), _) => Failure::Panicked(why.into()),
            (cause, _, Some(code)) => {
                let why =
                    format!("the command exited with {code}, and the machine ended before its files came: {cause}");
                Failure::Guest(why.into())
            }
            (cause, _, None) => Failure::Ended { cause: cause.clone(), log: outcome.log.clone() },
        }
    }

    /// Returns the failure for a guest whose time is over.
    pub(crate) fn overdue(&self) -> Failure {
        let limit = self.limit.unwrap_or_default();
        if let Some(code) = self.exited {
            let why = format!("the command exited with {code}, and its files did not come within {limit:?}");
            return Failure::Guest(why.into());
        }
        let text = printed(self.vm, CONSOLE).unwrap_or_default();
        let stall = text.lines().find(|line| STALLS.iter().any(|stall| line.contains(stall)));
        match (self.is_ready, stall) {
            (_, Some(line)) => Failure::Hung {
                what: format!("it reported `{}`, and did not end", without_level(line.trim())).into(),
                limit,
            },
            (false, None) => Failure::Hung { what: "the guest did not start the command".into(), limit },
            (true, None) => Failure::TimedOut(limit),
        }
    }

    /// Returns the failure for a guest that will not continue: its kernel stays in a panic, or QEMU has stopped it. `None`
    /// means that it runs.
    pub(crate) fn stays(&self) -> Option<Failure> {
        if let Some(failure) = stopped(self.vm) {
            return Some(failure);
        }
        let text = printed(self.vm, CONSOLE).ok()?;
        let stays = text.lines().any(|line| behind_stamp(line, STAYS).is_some());
        stays.then(|| Failure::Panicked(self.panic().unwrap_or_default().into()))
    }

    /// Returns the message of the kernel's panic, the last one. `None` means that it printed none.
    fn panic(&self) -> Option<String> {
        let text = printed(self.vm, CONSOLE).ok()?;
        text.lines().rev().find_map(|line| Some(behind_stamp(line, PANIC)?.trim_end().to_owned()))
    }
}

/// Returns what follows a text of the kernel's in a line: the text begins the line, or is behind a stamp of printk, such as
/// `[    1.5] ` (the kernel's `kernel/printk/printk.c`, `info_print_prefix`). Output of a command may be before the stamp.
/// `None` means that the line has no such text.
fn behind_stamp<'a>(line: &'a str, text: &str) -> Option<&'a str> {
    let (before, after) = line.rsplit_once(text)?;
    (before.is_empty() || before.ends_with("] ") || before.ends_with('>')).then_some(after)
}

/// Waits until the kernel stays in a panic or QEMU stops the guest, and reports whether it does. `false` means that the
/// machine ended.
pub(crate) fn comes_to_stay(vm: &Vm) -> bool {
    let mut position = Mark::default();
    let signs = || [Wait::line(CONSOLE, STAYS), Wait::end(), Wait::event("STOP")];
    while let Ok(hit) = vm.wait_any(&position, signs(), FOREVER) {
        match &hit.found {
            Found::Line { line, .. } if behind_stamp(line, STAYS).is_some() => return true,
            Found::Event(_) if stopped(vm).is_some() => return true,
            Found::End(_) => return false,
            _ => position = hit.mark,
        }
    }
    false
}

/// Returns the failure for a guest that QEMU has stopped for good. `None` means that it runs, or will continue.
fn stopped(vm: &Vm) -> Option<Failure> {
    kvm::stopped(vm).map(|(status, log)| Failure::Stopped { status, log })
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
            "exited" => Some(Self::Exited(rest.parse().ok()?)),
            "exit" => Some(Self::Exit(rest.parse().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GuestReport, PANIC, behind_stamp};

    #[test]
    fn a_message_of_the_kernel_is_behind_its_stamp() {
        for before in ["", "[    1.5] ", "partial[    1.5] ", "<0>[    1.5][    T1] "] {
            assert_eq!(behind_stamp(&format!("{before}{PANIC}why"), PANIC), Some("why"), "{before}");
        }
        assert_eq!(behind_stamp(&format!("log: {PANIC}why"), PANIC), None);
    }

    #[test]
    fn only_the_lines_of_init_are_reports() {
        assert_eq!(GuestReport::read("exit 255"), Some(GuestReport::Exit(255)));
        assert_eq!(GuestReport::read("exited 3"), Some(GuestReport::Exited(3)));
        assert_eq!(GuestReport::read("copied 17"), Some(GuestReport::Copied(Some(17))));
        assert_eq!(GuestReport::read("failed no 9p"), Some(GuestReport::Failed("no 9p".into())));
        for line in ["", "exit", "exit 256", "exit -1", "copied", "readyness"] {
            assert_eq!(GuestReport::read(line), None, "{line}");
        }
    }
}

//! Report of one runtime: a progress bar, and the figures.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use qemu_machine_core::{Cause, Config, Outcome, Rung};
use qemu_machine_host::Supervisor;
use qemu_machine_tests::leak_check::{Scratch, descendants};
use qemu_machine_tests::qemu;

/// The deadline of a launch: a thousand machines that start at once keep two processors busy for a while.
const LAUNCH_WITHIN: Duration = Duration::from_secs(600);

/// Progress bar and figures of one runtime.
pub(crate) struct Report {
    pub(crate) machines: usize,
    name: &'static str,
    /// The directory in which the machines create their files.
    scratch: Scratch,
    bar: ProgressBar,
    since: Instant,
    /// The memory and the descriptors of this process before the first launch.
    memory: u64,
    descriptors: usize,
}

impl Report {
    pub(crate) fn new(name: &'static str, machines: usize) -> Self {
        let bar = ProgressBar::new(machines as u64);
        let style = ProgressStyle::with_template("{msg:>19} {wide_bar} {pos}/{len}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{name}: launching"));
        let (scratch, descriptors) = (Scratch::create(), count("/proc/self/fd"));
        Self { machines, name, scratch, bar, since: Instant::now(), memory: resident(), descriptors }
    }

    /// Returns the configuration of a machine.
    pub(crate) fn config(&self) -> Config {
        let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults"]);
        config.temporary_directory(self.scratch.path()).launch_within(LAUNCH_WITHIN)
    }

    /// Shows how many machines are done. `None` means that some are not.
    pub(crate) fn counted(&self, done: usize) -> Option<()> {
        self.bar.set_position(done as u64);
        (done == self.machines).then_some(())
    }

    pub(crate) fn launched(&mut self) {
        let rate = self.machines as f64 / self.since.elapsed().as_secs_f64();
        self.print(format!("{rate:.0}"), "launches per second");
        self.next("commanding");
    }

    /// Prints what the machines cost that run now.
    pub(crate) fn commanded(&mut self, commands: usize) {
        let rate = (self.machines * commands) as f64 / self.since.elapsed().as_secs_f64();
        self.print(format!("{rate:.0}"), "commands per second");
        self.print(count("/proc/self/task"), "threads");
        let opened = count("/proc/self/fd").saturating_sub(self.descriptors);
        self.print(opened, "descriptors for all machines");
        let grown = resident().saturating_sub(self.memory) / self.machines as u64;
        self.print(grown, "bytes of memory of this program for each machine");
        self.next("ending");
    }

    /// Prints how the machines ended.
    pub(crate) fn ended(&mut self, outcomes: &[Outcome]) {
        self.print(format!("{:.2}", self.since.elapsed().as_secs_f64()), "seconds until all have ended");
        let orderly = outcomes.iter().filter(|outcome| outcome.cause == Cause::Asked(Rung::Quit)).count();
        self.print(self.machines - orderly, "machines that did not end by `quit`");
    }

    /// Prints what the machines have left behind, after the program has dropped them. That is an error.
    pub(crate) fn left(self) -> Result<(), Box<dyn Error>> {
        self.bar.finish_and_clear();
        // The supervisor drops what it has of a machine soon after the last handle: after this closure it has.
        Supervisor::get()?.run(|| ())?;
        let files = self.scratch.entries().len();
        let processes = descendants(std::process::id()).len();
        let descriptors = count("/proc/self/fd").saturating_sub(self.descriptors);
        self.print(processes, "processes left");
        self.print(files, "files left");
        self.print(descriptors, "descriptors left");
        if processes + files > 0 { Err("the machines have left something behind".into()) } else { Ok(()) }
    }

    fn print(&self, value: impl Display, what: &str) {
        self.bar.suspend(|| println!("{:<8} {value:>10} {what}", self.name));
    }

    fn next(&mut self, what: &str) {
        self.bar.set_position(0);
        self.bar.set_message(format!("{}: {what}", self.name));
        self.since = Instant::now();
    }
}

/// Returns the number of entries of a directory.
fn count(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Returns the resident memory of this process without that of its files, such as its code, in bytes
/// (`proc_pid_status(5)`).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

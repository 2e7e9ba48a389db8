//! Meter of work, inside the process that does the work.

use std::fs;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The cost of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Wall-clock time, in seconds.
    pub wall: f64,
    /// CPU time of this process, including the kernel's, in seconds.
    pub cpu: f64,
    /// Peak of the memory growth, in KiB; for machines of one template, the memory of its file.
    pub peak: f64,
    /// The count of the workload: received events, or retained memory in KiB.
    pub count: f64,
}

/// A measurement in progress.
pub struct Begun {
    wall: Instant,
    cpu: Duration,
    memory: f64,
}

impl Begun {
    /// Starts a measurement.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read or written.
    pub fn now() -> io::Result<Self> {
        // Resets the peak of the memory (`proc_pid_clear_refs(5)`).
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self { memory: memory("VmRSS:")?, wall: Instant::now(), cpu: cpu() })
    }

    /// Ends the measurement, and prints the cost.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn over(self, count: f64) -> io::Result<()> {
        let (wall, cpu) = (self.wall.elapsed(), cpu().saturating_sub(self.cpu));
        let peak = memory("VmHWM:")? - self.memory;
        print(Taken { wall: wall.as_secs_f64(), cpu: cpu.as_secs_f64(), peak, count });
        Ok(())
    }
}

/// Prints a cost, which the process that started this one parses.
pub fn print(Taken { wall, cpu, peak, count }: Taken) {
    println!("{wall} {cpu} {peak} {count}");
}

/// Does work, and prints its cost.
///
/// # Errors
///
/// The error of the work, or if `/proc` cannot be read.
pub fn measure(work: impl FnOnce() -> io::Result<f64>) -> io::Result<()> {
    let begun = Begun::now()?;
    let count = work()?;
    begun.over(count)
}

/// Returns the CPU time of this process, including the kernel's.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns a field of `/proc/self/status`, in KiB.
///
/// # Errors
///
/// If there is no such field.
pub fn memory(name: &str) -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
}

impl FromStr for Taken {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [wall, cpu, peak, count] => Ok(Self { wall, cpu, peak, count }),
            _ => Err(io::Error::other(format!("a client printed `{text}` instead of four numbers"))),
        }
    }
}

//! Decides how work is measured from inside of the process that does it.

use std::fs;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What work took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Seconds by the clock on the wall.
    pub wall: f64,
    /// Seconds of the processor for this process, the kernel's for it included.
    pub cpu: f64,
    /// How much more memory there was at most, in KiB.
    pub peak: f64,
    /// What the workload itself counts: events that came, or memory that is kept, in KiB.
    pub count: f64,
}

/// Work that has begun.
pub struct Begun {
    wall: Instant,
    cpu: Duration,
    memory: f64,
}

impl Begun {
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn now() -> io::Result<Self> {
        // From here on, the highest is counted anew.
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self { memory: memory("VmRSS:")?, wall: Instant::now(), cpu: cpu() })
    }

    /// Prints what it took.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn over(self, count: f64) -> io::Result<()> {
        let (wall, cpu) = (self.wall.elapsed(), cpu().saturating_sub(self.cpu));
        let peak = memory("VmHWM:")? - self.memory;
        println!("{} {} {peak} {count}", wall.as_secs_f64(), cpu.as_secs_f64());
        Ok(())
    }
}

/// Does work, and prints what it took.
///
/// # Errors
///
/// When it fails.
pub fn measure(work: impl FnOnce() -> io::Result<f64>) -> io::Result<()> {
    let begun = Begun::now()?;
    let count = work()?;
    begun.over(count)
}

/// Of this process, the kernel's for it included.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A line of the status of this process, in KiB.
///
/// # Errors
///
/// When there is none.
pub fn memory(name: &str) -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the status has no {name}")))
}

impl FromStr for Taken {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [wall, cpu, peak, count] => Ok(Self { wall, cpu, peak, count }),
            _ => Err(io::Error::other(format!("a client printed `{text}`"))),
        }
    }
}

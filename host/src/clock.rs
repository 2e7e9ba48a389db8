//! Clock of a machine, deadlines at a given time, and timeouts for the kernel.

use std::time::{Duration, Instant};

use qemu_machine_core::{Deadline, Moment};
use rustix::event::Timespec;

/// Clock of a machine. It returns the time since its creation and never goes back: std reads CLOCK_MONOTONIC, which
/// changes of the system time do not affect, and which does not count the time that the system is suspended
/// (`clock_gettime(2)`).
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Converts a moment for timers of the operating system. `None` means that it is too far in the future for an
    /// [`Instant`].
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Option<Instant> {
        self.0.checked_add(moment.since(Moment::ORIGIN))
    }

    /// Returns the present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::new(self.0.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the deadline at a given time, for several calls that share one. Call it again for each of them, since a
/// deadline counts from its call. With a time in the past, a call returns the result that exists already, or times out.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, Vm, Wait};
/// use std::time::{Duration, Instant};
///
/// use qemu_machine_blocking::until;
///
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
/// let end = Instant::now() + Duration::from_secs(60); // For everything that follows.
/// let start = vm.mark();
/// vm.execute_by("system_reset", until(end))?;
/// vm.wait_any(&start, [Wait::text("tty", "login: ")], until(end))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn until(time: Instant) -> Deadline {
    Deadline::after(time.saturating_duration_since(Instant::now()))
}

/// Converts a timeout for the kernel, cut to one day. `epoll_wait(2)` accepts milliseconds in an `int`, so at most 24
/// days; a longer wait would fail and spin. After a day the caller wakes up once without a reason.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let timeout = timeout.min(LONGEST);
    Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() }
}

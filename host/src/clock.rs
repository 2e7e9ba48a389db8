//! Clocks of machines, deadlines at a given time, and timeouts for the kernel.

use std::time::{Duration, Instant};

use qemu_machine_core::{Deadline, Moment};
use rustix::event::Timespec;

/// A clock for machines: it tells how long it is since it was made, and never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// When a moment is, for timers that know nothing of it; none for one that is too far away to come.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Option<Instant> {
        self.0.checked_add(moment.since(Moment::ORIGIN))
    }

    /// The present moment.
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

/// The deadline that passes at this time, for calls that share one: ask for it anew with each of them, since a deadline
/// counts from its call. A time that is over leaves a call no time, and takes what is there already.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, Vm, Wait};
/// use std::time::{Duration, Instant};
///
/// use qemu_machine_blocking::until;
///
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
/// let end = Instant::now() + Duration::from_secs(60); // For all that follows.
/// let start = vm.mark();
/// vm.execute_by("system_reset", until(end))?;
/// vm.wait_any(&start, [Wait::text("tty", "login: ")], until(end))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn until(time: Instant) -> Deadline {
    Deadline::after(time.saturating_duration_since(Instant::now()))
}

/// A timeout for epoll. A day is as good as longer: then it goes round once for nothing.
#[doc(hidden)]
#[must_use]
pub fn timespec(timeout: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let timeout = timeout.min(LONGEST);
    Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() }
}

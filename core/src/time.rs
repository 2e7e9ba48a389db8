//! Moments and deadlines, on the clock that the driver passes to the core.

use core::fmt;
use core::time::Duration;

/// Point in time: the duration since an origin that the driver chose.
///
/// The core never reads a clock. The driver reads a monotonic clock once per wake-up, and passes the result to every
/// call. A moment earlier than a previous one counts as that one.
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::Moment;
///
/// let start = Moment::ORIGIN;
/// let later = start.after(Duration::from_secs(2));
/// assert_eq!(later.since(start), Duration::from_secs(2));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(
    /// The nanoseconds since the origin. They last for 584 years, and one number is compared faster than a [`Duration`].
    u64,
);

impl Moment {
    /// The origin.
    pub const ORIGIN: Self = Self(0);

    /// Returns the moment that lies `elapsed` after the origin, or the last representable moment, 584 years after it.
    #[must_use]
    pub const fn new(elapsed: Duration) -> Self {
        let nanoseconds = elapsed.as_nanos();
        Self(if nanoseconds > u64::MAX as u128 { u64::MAX } else { nanoseconds as u64 })
    }

    /// Returns the moment that lies `duration` after this one, or the last representable moment on overflow.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::new(duration).0))
    }

    /// Returns the duration from `earlier` to this moment. Zero when this moment is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment in the middle between this one and a later one.
    pub(crate) const fn halfway_to(self, later: Self) -> Self {
        Self(self.0 + later.0.saturating_sub(self.0) / 2)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Moment").field(&self.since(Self::ORIGIN)).finish()
    }
}

/// Limit on the duration of a call, counted from the call. [`FOREVER`] means no limit.
///
/// Nothing waits without a limit unless the caller wrote [`FOREVER`]. A zero duration passes at once: a wait with it
/// only searches the past.
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::{Deadline, FOREVER, Moment};
///
/// let soon: Deadline = Duration::from_secs(5).into();
/// assert_eq!(soon.passes_at(Moment::ORIGIN), Some(Moment::new(Duration::from_secs(5))));
/// assert_eq!(FOREVER.passes_at(Moment::ORIGIN), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadline(pub(crate) Option<Duration>);

/// The deadline that never passes.
pub const FOREVER: Deadline = Deadline(None);

/// Default deadline of a command: 60 seconds. Most commands take milliseconds. The default is long, so that it ends
/// only commands that hang. QEMU parses large requests slowly: 1 MiB takes up to 16 seconds (measured with QEMU
/// 7.2.22).
pub const COMMAND_WITHIN: Deadline = Deadline::after(Duration::from_secs(60));

impl Deadline {
    /// Returns the deadline that passes `duration` after the call.
    #[must_use]
    pub const fn after(duration: Duration) -> Self {
        Self(Some(duration))
    }

    /// Returns the moment at which the deadline of a call made at `now` passes. `None` means never ([`FOREVER`]).
    #[must_use]
    pub fn passes_at(self, now: Moment) -> Option<Moment> {
        self.0.map(|duration| now.after(duration))
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Self::after(duration)
    }
}

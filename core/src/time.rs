//! Decides what time is to the core: a number that the runtime tells, and deadlines counted from it.

use core::time::Duration;

/// A point in time: how long after an origin that the runtime chose.
///
/// The core never reads a clock. A runtime reads its own once per wake-up and passes the result to every call; a
/// moment earlier than one already told counts as unchanged.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The origin itself.
    pub const ORIGIN: Self = Self(Duration::ZERO);

    /// The moment that lies `elapsed` after the origin.
    #[must_use]
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The moment that lies `duration` after this one; the last representable moment where there is none.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long a call may take: a duration, or as long as it takes.
///
/// There is no hidden "forever": who wants an unbounded wait writes [`FOREVER`]. (Where QEMU's
/// Python class waits for events, a whole number of seconds is one.)
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

/// How long a command may take unless said otherwise. Most take milliseconds, and none that is asked for should be cut
/// off by accident: this only bounds what would otherwise hang.
pub const COMMAND_WITHIN: Deadline = Deadline::after(Duration::from_secs(60));

impl Deadline {
    /// The deadline that passes `duration` after the call.
    #[must_use]
    pub const fn after(duration: Duration) -> Self {
        Self(Some(duration))
    }

    /// When the deadline passes if the call is made at `now`; none for [`FOREVER`].
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

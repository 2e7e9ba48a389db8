//! Channel of a machine: its monitor, or one of its consoles.

use core::fmt;

/// A stream of bytes between a driver and QEMU, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver carries each")]
pub enum Channel {
    /// The QMP monitor.
    Monitor,
    /// The console with this index. Indices begin at 0, in the order of the configuration.
    Console(usize),
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monitor => f.write_str("monitor"),
            Self::Console(index) => write!(f, "console {index}"),
        }
    }
}

//! Channel: one stream of bytes between us and QEMU.

use core::fmt;

/// One stream of bytes between us and QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a driver carries each")]
pub enum Channel {
    /// The QMP monitor.
    Monitor,
    /// The console with this index, in the order in which the configuration names them.
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

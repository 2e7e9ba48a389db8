//! Channel: one stream of bytes between us and QEMU.

use core::fmt;

use serde::{Deserialize, Serialize};

/// One stream of bytes between us and QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "a driver carries each")]
#[serde(rename_all = "snake_case")]
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

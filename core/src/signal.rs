//! Signals that the core sends to a process.

use serde::{Deserialize, Serialize};

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "a driver sends each")]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order.
    Terminate,
    /// SIGKILL: the kernel ends it.
    Kill,
}

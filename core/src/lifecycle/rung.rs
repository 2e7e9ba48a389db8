//! Rungs of the shutdown ladder.

use core::fmt;

/// One way to end a machine, gentle to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// Press the power button (`system_powerdown`); the guest decides.
    PowerDown,
    /// Tell QEMU to exit (`quit`).
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerDown => "power button",
            Self::Quit => "quit",
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
        })
    }
}

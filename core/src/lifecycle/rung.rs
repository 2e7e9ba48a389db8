//! Rung of the shutdown ladder.

use core::fmt;

/// A step that ends a machine; later rungs are harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// The power button (QEMU, `qapi/machine.json`, `system_powerdown`); the guest may ignore it.
    PowerDown,
    /// The command `quit`: QEMU exits gracefully (QEMU, `qapi/control.json`, `quit`).
    Quit,
    /// SIGTERM: QEMU exits with status 0, even with `-no-shutdown` (measured with QEMU 7.2.22).
    Terminate,
    /// SIGKILL: the kernel ends QEMU, which cannot catch the signal (`signal(7)`).
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

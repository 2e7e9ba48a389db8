//! Extra monitor: a socket on which QEMU serves other programs, beside the monitor of the machine.

use alloc::vec::Vec;
use core::fmt;

use crate::os_bytes::OsBytes;
use crate::text::UntrustedText;

/// A monitor of QEMU for other programs: a shell, a debugger, a script. See
/// [`Config::extra_monitor`](crate::Config::extra_monitor).
///
/// ```
/// use qemu_machine_core::{Config, ExtraMonitor};
///
/// let config = Config::new("qemu-system-x86_64")
///     .extra_monitor("/run/vm/qmp.sock")
///     .extra_monitor(ExtraMonitor::new("/run/vm/hmp.sock").human().mode(0o660));
/// # assert!(config.command_line().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraMonitor {
    pub(crate) socket: MonitorSocket,
    /// Whether it is a human monitor instead of QMP.
    pub(crate) is_human: bool,
}

/// A Unix socket that listens for other programs. The process inherits it.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a driver creates each")]
pub struct MonitorSocket {
    /// The absolute path of the socket.
    pub path: Vec<u8>,
    /// The permissions of the socket, whatever the umask of this program: those of `chmod(2)`. Write permission is
    /// permission to connect (`unix(7)`).
    pub mode: u32,
}

impl fmt::Debug for MonitorSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode } = self;
        let path = UntrustedText::from_utf8_lossy(path);
        f.debug_struct("MonitorSocket").field("path", &path).field("mode", &format_args!("{mode:#o}")).finish()
    }
}

impl ExtraMonitor {
    /// Default of [`mode`](Self::mode): the owner alone may connect.
    pub const MODE: u32 = 0o600;

    /// Returns a QMP monitor on a Unix socket at this path, which is absolute, has 1 to 107 bytes (`unix(7)`) and must not
    /// exist.
    #[must_use]
    pub fn new(path: impl OsBytes) -> Self {
        Self { socket: MonitorSocket { path: path.as_os_bytes().to_vec(), mode: Self::MODE }, is_human: false }
    }

    /// Makes it a human monitor (HMP) instead of QMP: for `nc -U` or `socat`, with a prompt.
    #[must_use]
    pub fn human(mut self) -> Self {
        self.is_human = true;
        self
    }

    /// Sets the permissions of the socket: `0o660` admits its group as well. They hold from the moment at which a program can
    /// connect, and whatever the umask of this program. Default: [`MODE`](Self::MODE), `0o600`. Bits beyond `0o777` are
    /// refused with [`Misuse::Config`](crate::Misuse::Config).
    ///
    /// A mode that admits other users needs a directory in which these cannot replace the socket: its owner is root or the
    /// user of this program, and others may not write to it, or it has the sticky bit, as `/tmp`. In any other directory the
    /// launch fails with [`LaunchFailure::Host`](crate::LaunchFailure::Host).
    ///
    /// The group of the socket is that of this program, or of a directory with the set-group-ID bit (`inode(7)`). A program
    /// that may connect can do all that QEMU can: read and write the files of its user, and end the machine.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.socket.mode = mode;
        self
    }
}

/// The path of a QMP monitor for the owner alone.
impl<T: OsBytes> From<T> for ExtraMonitor {
    fn from(path: T) -> Self {
        Self::new(path)
    }
}

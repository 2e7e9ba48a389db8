//! Transports of channels: addresses, and who dials and who listens.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::descriptor::Descriptor;
use crate::identity::Identity;
use crate::os_bytes::OsBytes;
use crate::text::{Printable, lossy};

/// The address of a stream socket.
///
/// A path or name that is empty, has more than 107 bytes or contains a NUL byte is refused with
/// [`Misuse::Config`](crate::Misuse::Config), by [`Machine::new`](crate::Machine::new).
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Address {
    /// A Unix socket at this path, which has 1 to 107 bytes (`unix(7)`).
    Unix(Vec<u8>),
    /// An abstract Unix socket with this name, which has 1 to 107 bytes (`unix(7)`, abstract): Linux alone has these.
    /// The name is no path and has no file permissions: every process in the network namespace may dial it. `Display`
    /// writes an `@` before it.
    ///
    /// The name is not padded with NUL bytes, as with `tight=on` of QEMU, its default (QEMU, `qapi/sockets.json`,
    /// `UnixSocketAddress`). A QEMU that listens with `tight=off` cannot be reached.
    Abstract(Vec<u8>),
    /// A TCP address. The caller resolves host names, since a lookup blocks.
    Tcp(SocketAddr),
}

impl Address {
    /// Returns the address of a Unix socket at this path.
    #[must_use]
    pub fn unix(path: impl OsBytes) -> Self {
        Self::Unix(path.as_os_bytes().to_vec())
    }

    /// Returns the address of an abstract Unix socket with this name.
    #[must_use]
    pub fn abstract_unix(name: impl OsBytes) -> Self {
        Self::Abstract(name.as_os_bytes().to_vec())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", Printable::line(&lossy(path))),
            Self::Abstract(name) => write!(f, "@{}", Printable::line(&lossy(name))),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Shows the path, the name or the TCP address, as `Display` does.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a QEMU that is launched gets its monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Monitor {
    /// QEMU inherits one end of a socket pair (`socketpair(2)`). There is no path that could be too long, stale or
    /// taken by another program, and no race at the start.
    #[default]
    Inherited,
    /// QEMU dials a Unix socket on which the library listens before QEMU is started. The path is unpredictable. The
    /// socket is in [`Config::socket_directory`](crate::Config::socket_directory), or in the private directory. Only
    /// the process that was started, its descendants, and the processes of its process group are accepted, unless
    /// [`Config::trust_peer`](crate::Config::trust_peer) is set.
    Socket,
    /// QEMU dials this address, on which the library listens before QEMU is started. The path of a Unix socket must not
    /// exist; the library removes it afterwards. TCP port 0 means any free port. The same processes are accepted as for
    /// [`Socket`](Self::Socket).
    At(Address),
    /// QEMU listens on a Unix socket that the library created, and the library is the first client. When it
    /// disconnects, another client can connect: see [`Config::outlive_parent`](crate::Config::outlive_parent). The path
    /// is unpredictable, as for [`Socket`](Self::Socket).
    Offered,
    /// QEMU has no monitor. The machine is ready when its process is started, has no commands and no events, and is
    /// ended by signals.
    None,
}

/// How to reach a machine that another program launched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// QEMU listens at this address (`-qmp unix:PATH,server=on,wait=off`), and the library dials.
    Dial(Address),
    /// The library listens at this address, and QEMU dials (`-chardev socket,path=PATH`). The path of a Unix socket
    /// must not exist; the library removes it afterwards. The first process that dials and greets is accepted, since
    /// the library does not know which process QEMU is. When a process hangs up, or sends something else, the library
    /// listens on. A process that sends nothing is not replaced by another before the deadline of the launch.
    Listen(Address),
    /// The machine [outlives its parent](crate::Config::outlive_parent), and is [resumed](crate::Config::resume): the
    /// library dials only if process and socket are those of this identity.
    Detached(Box<Identity>),
    /// This descriptor is connected already. It serves one run: a second launch is refused with
    /// [`Misuse::UsedUp`](crate::Misuse::UsedUp).
    Connected(Descriptor),
}

/// How one channel is connected, as part of [`Effect::Prepare`](crate::Effect::Prepare).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Transport {
    /// A socket pair: one end for the driver, the other for the process to inherit.
    Pair,
    /// A pipe, of which the driver has the reading end, and the process the writing end as its standard output and error.
    /// Then the process has no log.
    Output,
    /// A socket that listens at this address, for one connection.
    Listen(Address),
    /// A Unix socket that listens under an unpredictable name, for one connection, in this directory. `None` means the
    /// private directory.
    ListenIn(Option<Vec<u8>>),
    /// A listening Unix socket for the process to inherit, under an unpredictable name, in this directory. `None` means
    /// the private directory. It is dialled when the channel is opened.
    Offer(Option<Vec<u8>>),
    /// No preparation: the address is dialled when the channel is opened.
    Dial(Address),
    /// Search for the machine of this identity. [`Prepared::process`](crate::Prepared::process) is its process, also if
    /// that has ended. Its socket is dialled when the channel is opened, and accepted only if the first bytes on it come
    /// from that process, or from one that it started. Its directory is removed at the end. `Signal` and `Exited` are for
    /// that process, but until the launch is complete the host must not kill it when it drops it.
    Detached(Box<Identity>),
    /// This connected descriptor.
    Connected(Descriptor),
}

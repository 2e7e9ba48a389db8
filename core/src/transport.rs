//! Transports: the ways in which a channel is connected.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::descriptor::Descriptor;
use crate::identity::Identity;

/// The address of a stream socket.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Address {
    /// A Unix socket at this path, of 107 bytes at most.
    Unix(Vec<u8>),
    /// TCP. Names are not resolved here: that takes a while, and the caller knows best how.
    Tcp(SocketAddr),
}

impl Address {
    /// The address of a Unix socket.
    #[must_use]
    pub fn unix(path: impl Into<Vec<u8>>) -> Self {
        Self::Unix(path.into())
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
            Self::Unix(path) => f.write_str(&crate::text::printable(&crate::text::lossy(path))),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// As people write it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a QEMU that we launch comes by its monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Monitor {
    /// It inherits one end of a pair of sockets: there is no path that could be too long, stale or somebody else's,
    /// and no race.
    #[default]
    Inherited,
    /// It dials a Unix socket on which we listen before it is started. The path is unpredictable: in
    /// [`Config::socket_directory`](crate::Config::socket_directory), or in the machine's private directory.
    Socket,
    /// It dials this address, on which we listen before it is started. A path must be free; we remove it afterwards,
    /// because we made it (QEMU's Python class leaves it there). Port 0 stands for any port that is free.
    At(Address),
    /// It listens on a Unix socket that we make before it is started, and we are the first to dial. When we are gone,
    /// others can: [`Config::outlive_parent`](crate::Config::outlive_parent). The path is unpredictable, as that of
    /// [`Socket`](Self::Socket).
    Offered,
    /// It has none: the machine is ready when it is started, has no commands and no events, and is ended by signals.
    None,
}

/// How a machine that somebody else launched is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// It listens there (`-qmp unix:PATH,server=on,wait=off`), and we dial.
    Dial(Address),
    /// We listen there, and it dials (`-chardev socket,path=PATH`). A path must be free; we remove it afterwards.
    Listen(Address),
    /// It was launched to be kept, by us or by another program, and is the one that this says and no other.
    Detached(Identity),
    /// We are connected already. It is used once: such a machine cannot be launched again.
    Connected(Descriptor),
}

/// How one channel comes to be: what [`Effect::Prepare`](crate::Effect::Prepare) asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a driver handles each")]
pub enum Transport {
    /// A pair of connected sockets: one end for us, one for the process to inherit.
    Pair,
    /// A socket that listens at this address, for one connection.
    Listen(Address),
    /// A Unix socket that listens under an unpredictable name, for one connection: in this directory, or in the
    /// private one.
    ListenIn(Option<Vec<u8>>),
    /// A Unix socket for the process to inherit and to listen on, under an unpredictable name: in this directory, or in
    /// the private one. It is dialled when the channel is opened.
    Offer(Option<Vec<u8>>),
    /// Nothing yet: the address is dialled when the channel is opened.
    Dial(Address),
    /// Nothing yet, where this machine lives: its socket is dialled when the channel is opened, and its directory is ours.
    Detached(Identity),
    /// This descriptor.
    Connected(Descriptor),
}

//! Host forward: a port of the host that QEMU's user-mode network forwards to a port of the guest.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Protocol of a host forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for ForwardProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that QEMU's user-mode network forwards to a port of the guest
/// ([`Config::host_forward`](crate::Config::host_forward)).
///
/// By default it is a port of 127.0.0.1 that the kernel chooses when QEMU binds it (`ip(7)`: port 0), and QEMU holds it
/// from then on. So two machines never get the same one, and no other process can take it in between, as it can when a
/// program looks for a free port first. [`InfoUsernet`](crate::commands::InfoUsernet) returns the port that was chosen.
///
/// `{}` displays the value of `hostfwd`, for a `-netdev user` of the caller's own, or for the command `hostfwd_add` of
/// the human monitor.
///
/// ```
/// use qemu_machine_core::HostForward;
///
/// assert_eq!(HostForward::tcp(22).to_string(), "tcp:127.0.0.1:0-:22");
/// let dns = HostForward::udp(53).host("127.0.0.1:5353".parse()?).guest("10.0.2.16".parse()?);
/// assert_eq!(dns.to_string(), "udp:127.0.0.1:5353-10.0.2.16:53");
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostForward {
    pub(crate) protocol: ForwardProtocol,
    pub(crate) host: SocketAddrV4,
    /// `None` means the first address that QEMU's DHCP server assigns.
    pub(crate) guest: Option<Ipv4Addr>,
    pub(crate) guest_port: u16,
}

impl HostForward {
    /// Returns a forward to this TCP port of the guest, from a port of 127.0.0.1 that the kernel chooses. A port of 0
    /// is refused with [`Misuse::Config`](crate::Misuse::Config) when the configuration is used.
    #[must_use]
    pub const fn tcp(guest_port: u16) -> Self {
        Self::new(ForwardProtocol::Tcp, guest_port)
    }

    /// Returns a forward to this UDP port of the guest, as [`tcp`](Self::tcp).
    #[must_use]
    pub const fn udp(guest_port: u16) -> Self {
        Self::new(ForwardProtocol::Udp, guest_port)
    }

    const fn new(protocol: ForwardProtocol, guest_port: u16) -> Self {
        Self { protocol, host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), guest: None, guest_port }
    }

    /// Sets the address and port of the host. Default: 127.0.0.1, and a port of 0, which means that the kernel chooses
    /// one. With 0.0.0.0 other hosts reach the guest, too. A port that another process uses fails the launch with
    /// [`LaunchCause::AddressUnavailable`](crate::LaunchCause::AddressUnavailable).
    #[must_use]
    pub const fn host(mut self, address: SocketAddrV4) -> Self {
        self.host = address;
        self
    }

    /// Sets the address of the guest. Default: the first one that QEMU's DHCP server assigns, 10.0.2.15 unless the
    /// network is configured otherwise (QEMU, `docs/system/devices/net.rst`, Using the user mode network stack).
    #[must_use]
    pub const fn guest(mut self, address: Ipv4Addr) -> Self {
        self.guest = Some(address);
        self
    }

    /// Returns whether a forward that QEMU reports may be this one: the same protocol, and the same addresses and ports
    /// where they are fixed.
    pub(crate) fn matches(&self, protocol: ForwardProtocol, host: SocketAddr, guest: SocketAddr) -> bool {
        self.protocol == protocol
            && self.guest_port == guest.port()
            && self.guest.is_none_or(|address| guest.ip() == address)
            && host.ip() == *self.host.ip()
            && (self.host.port() == 0 || self.host.port() == host.port())
    }
}

/// Writes the value of `hostfwd` (QEMU, `net/slirp.c`, `slirp_hostfwd`).
impl fmt::Display for HostForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-", self.protocol, self.host)?;
        if let Some(address) = self.guest {
            write!(f, "{address}")?;
        }
        write!(f, ":{}", self.guest_port)
    }
}

//! Command that reads back which ports QEMU's user-mode networks forward, and the parser of its reply.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::Command;
use crate::host_forward::{ForwardProtocol, HostForward};
use crate::text::{UntrustedText, excerpt};

/// `info usernet` of the human monitor (HMP): returns the ports of the host that QEMU's user-mode networks forward,
/// with those that the kernel has chosen.
///
/// QMP has no command for it (QEMU, `qapi/net.json`), so this one parses text: a table for each network, one line for
/// each socket (QEMU, `net/slirp.c`, `hmp_info_usernet`; libslirp, `src/misc.c`, `slirp_connection_info`). QEMU binds a
/// port before its monitor is ready, so it is listed as soon as the machine was launched. A forward that was added
/// later (`hostfwd_add`) is listed, too.
///
/// A text that is not such a table fails with [`CommandError::Unexpected`](crate::CommandError::Unexpected), which has
/// the text: QEMU is built without user-mode networks, or a later version writes another table. Lines of other sockets,
/// such as open connections, are passed over.
///
/// ```
/// use qemu_machine_core::commands::InfoUsernet;
/// use qemu_machine_core::{Config, HostForward};
///
/// let ssh = HostForward::tcp(22);
/// let config = Config::new("qemu-system-x86_64").host_forward("net0", ssh);
/// let config = config.args(["-device", "virtio-net-pci,netdev=net0"]);
/// // let vm = Vm::launch(config)?;
/// // let address = vm.execute(InfoUsernet)?.address("net0", &ssh).expect("QEMU has bound it");
/// // let connection = TcpStream::connect(address)?;
/// # assert!(config.command_line().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoUsernet;

impl Command for InfoUsernet {
    type Reply = HostForwards;

    fn name(&self) -> &str {
        "human-monitor-command"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(json!({"command-line": "info usernet"}))
    }
}

/// The ports that QEMU's user-mode networks forward, in QEMU's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostForwards(Vec<ActiveForward>);

/// A port of the host that QEMU has bound, and the port of the guest that it forwards to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActiveForward {
    /// The id of the network (`-netdev user,id=…`).
    pub netdev: UntrustedText,
    /// The protocol.
    pub protocol: ForwardProtocol,
    /// The address and port of the host. 0.0.0.0 means each address of the host.
    pub host: SocketAddr,
    /// The address and port of the guest.
    pub guest: SocketAddr,
}

impl HostForwards {
    /// Returns the address and port of the host that QEMU has bound for a forward of
    /// [`Config::host_forward`](crate::Config::host_forward). `None` means that there is none: the network has another
    /// id, or the forward was removed (`hostfwd_remove`). If the network has several that are alike, it is one of them.
    #[must_use]
    pub fn address(&self, netdev: &str, forward: &HostForward) -> Option<SocketAddr> {
        let is_it = |active: &&ActiveForward| {
            active.netdev == *netdev && forward.matches(active.protocol, active.host, active.guest)
        };
        self.0.iter().find(is_it).map(|active| active.host)
    }
}

impl Deref for HostForwards {
    type Target = [ActiveForward];

    fn deref(&self) -> &[ActiveForward] {
        &self.0
    }
}

impl TryFrom<String> for HostForwards {
    type Error = String;

    /// Parses the text that `info usernet` prints.
    fn try_from(text: String) -> Result<Self, String> {
        let mut forwards = Vec::new();
        let mut netdev = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with(' ') {
                let network = netdev.as_ref().ok_or_else(|| unreadable(line))?;
                forwards.extend(row(line, network)?);
            } else {
                netdev = Some(head(line).ok_or_else(|| unreadable(line))?);
            }
        }
        Ok(Self(forwards))
    }
}

fn unreadable(line: &str) -> String {
    format!("not a table of `info usernet`: {}", excerpt(line.as_bytes()))
}

/// Returns the id of a network from the line above its table, `Hub -1 (net0):`. The number is that of a hub.
fn head(line: &str) -> Option<UntrustedText> {
    let (number, name) = line.strip_prefix("Hub ")?.split_once(" (")?;
    number.parse::<i64>().ok()?;
    Some(name.trim_end().strip_suffix("):")?.into())
}

/// Parses a line of the table, `TCP[HOST_FORWARD]  11  127.0.0.1 36379  10.0.2.15  22  0  0`: the protocol and the
/// state, a descriptor, the address and port of the host, those of the guest, and two lengths of queues. `None` means
/// the line of another socket, or that of the titles.
fn row(line: &str, netdev: &UntrustedText) -> Result<Option<ActiveForward>, String> {
    let mut columns = line.split_ascii_whitespace();
    let protocol = match columns.next() {
        Some("TCP[HOST_FORWARD]") => ForwardProtocol::Tcp,
        Some("UDP[HOST_FORWARD]") => ForwardProtocol::Udp,
        _ => return Ok(None),
    };
    let mut addresses = columns.skip(1);
    let mut next = || Some(SocketAddr::new(address(addresses.next()?)?, addresses.next()?.parse().ok()?));
    let (host, guest) = next().zip(next()).ok_or_else(|| unreadable(line))?;
    Ok(Some(ActiveForward { netdev: netdev.clone(), protocol, host, guest }))
}

/// Parses an address. libslirp writes `*` for 0.0.0.0.
fn address(text: &str) -> Option<IpAddr> {
    if text == "*" { Some(Ipv4Addr::UNSPECIFIED.into()) } else { text.parse().ok() }
}

//! Parts of a configuration beside the arguments: consoles, services, networks and descriptors.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::descriptor::Descriptor;
use crate::host_forward::HostForward;

/// One console, a serial port that is left without one, or the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsolePart {
    /// `None` means that the serial port is connected to nothing (`-serial null`).
    pub(crate) name: Option<String>,
    pub(crate) frontend: Frontend,
    /// The file to which QEMU also writes the output. `None` means no file.
    pub(crate) log: Option<Vec<u8>>,
}

/// Frontend of a console: the device that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// The next serial port.
    Serial,
    /// This device: the value of `-device` without its chardev.
    Device(Vec<u8>),
    /// No frontend here: the caller's own arguments use the chardev.
    Chardev,
    /// None in the guest: it is what the process prints.
    Log,
}

/// A descriptor that the process inherits as part of an fdset (`-add-fd`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) descriptor: Descriptor,
    pub(crate) set: u32,
    pub(crate) opaque: Vec<u8>,
}

/// A user-mode network (`-netdev user`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserNetwork {
    /// The id of the netdev.
    pub(crate) id: String,
    pub(crate) forwards: Vec<HostForward>,
}

/// A service: a connection to a machine beside its monitor and its consoles, with its own protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a host makes each, and lends it or gives it away")]
pub enum Service {
    /// The guest agent, on the virtio-serial port `org.qemu.guest_agent.0`.
    GuestAgent,
    /// QEMU's qtest, which accesses memory and IO ports of the guest (`-qtest`).
    Qtest,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GuestAgent => "guest agent service",
            Self::Qtest => "qtest service",
        })
    }
}

impl Service {
    /// Returns the protocol of this service.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::GuestAgent => Dialect::GuestAgent,
            Self::Qtest => Dialect::Qtest,
        }
    }

    /// Returns the id of the chardev. With another id for qtest, QEMU aborts: "Cannot find character device 'qtest'"
    /// (measured with QEMU 7.2.22).
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::GuestAgent => "qga",
            Self::Qtest => "qtest",
        }
    }
}

/// Protocol that a monitor or a service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum Dialect {
    /// QMP, with a greeting, capabilities negotiation and events (`docs/interop/qmp-spec.rst`).
    #[default]
    Qmp,
    /// The guest agent's protocol: commands as in QMP, without greeting, negotiation, events and ids. The session first
    /// drops output that an earlier client left behind (QEMU, `qga/qapi-schema.json`, `guest-sync-delimited`).
    GuestAgent,
    /// The qtest protocol: lines of text, each answered by one line, in order (QEMU, `system/qtest.c`, QTest Protocol).
    Qtest,
}

//! Decides what a machine can be given beside arguments: consoles, ports and descriptors.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::descriptor::Descriptor;

/// One console, or a serial port that is left without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsolePart {
    /// None: nobody reads or writes it.
    pub(crate) name: Option<String>,
    pub(crate) frontend: Frontend,
    /// The file that takes what it prints as well.
    pub(crate) log: Option<Vec<u8>>,
}

/// What the guest sees of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// Its next serial port.
    Serial,
    /// This device, up to the chardev.
    Device(Vec<u8>),
    /// Whatever the caller's own arguments make of it.
    Chardev,
}

/// A descriptor that the process inherits in a set of QEMU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) descriptor: Descriptor,
    pub(crate) set: u32,
    pub(crate) opaque: Vec<u8>,
}

/// A connection to a machine beside its monitor and its consoles, with a protocol of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a host makes each, and lends it or gives it away")]
pub enum Service {
    /// The virtio-serial port on which a guest agent listens (`org.qemu.guest_agent.0`).
    GuestAgent,
    /// QEMU's qtest (`-qtest`).
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
    /// What is spoken there.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::GuestAgent => Dialect::GuestAgent,
            Self::Qtest => Dialect::Qtest,
        }
    }

    /// Its chardev. QEMU 7.2 takes no other name for the one of qtest.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::GuestAgent => "qga",
            Self::Qtest => "qtest",
        }
    }
}

/// What is spoken on a monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// QMP: a greeting, a negotiation, events.
    #[default]
    Qmp,
    /// The guest agent's: neither of these, but a way to find the end of what is stale (`guest-sync-delimited`).
    GuestAgent,
    /// qtest's: lines of text, answered in their order.
    Qtest,
}

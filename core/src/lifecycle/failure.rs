//! Launch failures: what can keep a machine from becoming ready.

use super::Phase;
use crate::fault::{FaultKind, HostFault, ProtocolError, Refusal};
use crate::transport::{Address, Peer};

/// What kept a machine from becoming ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchFailure {
    /// The host could not make what is needed, start the program or open the monitor.
    #[error(transparent)]
    Host(HostFault),
    /// No process listens at the address.
    #[error("no process listens there: {0}")]
    NotListening(HostFault),
    /// The socket is there, but the process that listened on it is gone.
    #[error("the process that listened there is gone: {0}")]
    Dead(HostFault),
    /// Another client is connected. A monitor serves one client at a time, and the next one must wait.
    #[error("the monitor is busy with another client: it serves one at a time")]
    Busy,
    /// A machine that another program launched closed its monitor.
    #[error("the monitor was closed {0}")]
    HungUp(Phase),
    /// The process ended by itself.
    #[error("QEMU ended {0}")]
    Exited(Phase),
    /// The monitor was closed, and the process did not end within the grace that it was given.
    #[error("QEMU closed its monitor {0}, but did not end")]
    Hung(Phase),
    /// The deadline of the launch passed.
    #[error("the deadline passed {0}")]
    TimedOut(Phase),
    /// The peer on the monitor does not speak QMP.
    #[error("the monitor broke the protocol: {0}")]
    Broken(ProtocolError),
    /// QEMU refused the negotiation.
    #[error("capabilities negotiation failed: {0}")]
    Refused(Refusal),
    /// The caller ended the machine before it was ready.
    #[error("the caller ended the machine {0}")]
    Cancelled(Phase),
}

impl LaunchFailure {
    /// What a fault of the host while it opened the monitor means, by how this peer is reached. `None` for a machine
    /// that we launched.
    pub(crate) fn not_open(peer: Option<&Peer>, fault: HostFault) -> Self {
        match (peer, fault.kind) {
            // The backlog of the listening socket is full: QEMU's holds one connection, behind the one that it serves.
            (Some(Peer::Dial(_)), FaultKind::Busy) => Self::Busy,
            // The path of a Unix socket stays behind when the process that listened there is gone.
            (Some(Peer::Dial(Address::Unix(_))), FaultKind::Refused) => Self::Dead(fault),
            (Some(Peer::Dial(_)), FaultKind::NotFound | FaultKind::Refused) => Self::NotListening(fault),
            _ => Self::Host(fault),
        }
    }
}

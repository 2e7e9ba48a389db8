//! Launch failures: the reasons why a machine does not become ready.

use super::Phase;
use crate::companion::CompanionFailure;
use crate::fault::{FaultKind, HostFault, ProtocolError, Refusal};
use crate::text::UntrustedText;
use crate::transport::{Address, Peer};

/// The reason why a launch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchFailure {
    /// The host could not prepare the run, start the program or open the monitor.
    #[error(transparent)]
    Host(HostFault),
    /// No process listens at the address (`connect(2)`, `ECONNREFUSED`), or the path does not exist (`unix(7)`,
    /// `ENOENT`).
    #[error("no process listens there: {0}")]
    NotListening(HostFault),
    /// The path of the Unix socket exists, but the process that listened on it is gone. FreeBSD and macOS do not tell that
    /// from a full backlog: there it is a [`Host`](Self::Host) fault of the kind
    /// [`RefusedOrBusy`](crate::FaultKind::RefusedOrBusy).
    #[error("the process that listened there is gone: {0}")]
    Dead(HostFault),
    /// Another client is connected. QEMU serves one client of a monitor at a time, and accepts the next one when that
    /// client is gone (QEMU, `chardev/char-socket.c`, `tcp_chr_new_client`).
    #[error("the monitor is busy with another client: it serves one at a time")]
    Busy,
    /// The monitor was closed: that of a machine that another program launched, or one that
    /// [any process](crate::Config::trust_peer) may dial.
    #[error("the monitor was closed {0}")]
    HungUp(Phase),
    /// The process ended. If the guest has ended it, [`Outcome::cause`](crate::Outcome::cause) says how, and so does the
    /// text of [`LaunchError`](crate::LaunchError). QEMU reports it only after the capabilities negotiation: before, the
    /// cause is [`Exit(0)`](crate::Cause::Exit), or a value of `isa-debug-exit`.
    #[error("QEMU ended {0}")]
    Exited(Phase),
    /// QEMU closed the monitor, and its process did not end within five seconds, or within the deadline of the launch
    /// if that is earlier.
    #[error("QEMU closed its monitor {0}, but did not end")]
    Hung(Phase),
    /// The deadline of the launch passed.
    #[error("the deadline passed {0}")]
    TimedOut(Phase),
    /// The peer on the monitor does not speak its protocol.
    #[error("the monitor broke the protocol: {0}")]
    Broken(ProtocolError),
    /// QEMU refused `qmp_capabilities` (`docs/interop/qmp-spec.rst`, Capabilities Negotiation).
    #[error("capabilities negotiation failed: {0}")]
    Refused(Refusal),
    /// The guest agent refused each way to synchronise: `guest-sync-delimited`, then `guest-sync` (QEMU,
    /// `qga/qapi-schema.json`). Its configuration must allow one of them (`qemu-ga --block-rpcs`, `--allow-rpcs`).
    #[error("the guest agent cannot be synchronised: {0}")]
    NotSynchronised(Refusal),
    /// A [companion](crate::Config::companion) could not be started, ended, or was not ready in time.
    /// [`Outcome::companions`](crate::Outcome::companions) has its last words.
    #[error("the companion {name}: {failure}")]
    Companion {
        /// The name of the companion.
        name: UntrustedText,
        /// Why it failed.
        failure: CompanionFailure,
    },
    /// The caller ended the machine before it was ready.
    #[error("the caller ended the machine {0}")]
    Cancelled(Phase),
}

impl LaunchFailure {
    /// Classifies a host's fault while it opened the monitor. `None` for the peer means that the machine launched the
    /// process itself.
    pub(crate) fn not_open(peer: Option<&Peer>, fault: HostFault) -> Self {
        match (peer, fault.kind) {
            // The backlog of the listening socket is full (`connect(2)`, `EAGAIN`). QEMU listens with a backlog of 1
            // (QEMU, `chardev/char-socket.c`, `qmp_chardev_open_socket_server`), so another client is connected.
            (Some(Peer::Dial(_)), FaultKind::Busy) => Self::Busy,
            // The path of a Unix socket outlives its listener (`unix(7)`); QEMU removes it at a clean exit, but not
            // after SIGKILL (measured with QEMU 7.2.22).
            (Some(Peer::Dial(Address::Unix(_))), FaultKind::Refused) => Self::Dead(fault),
            (Some(Peer::Dial(_)), FaultKind::NotFound | FaultKind::Refused) => Self::NotListening(fault),
            _ => Self::Host(fault),
        }
    }
}

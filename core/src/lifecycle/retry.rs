//! Retries of a launch: when a monitor that failed is opened again before the deadline.

use core::time::Duration;

use super::LaunchFailure;
use crate::fault::FaultKind;

/// How long a host waits before it dials again. The kernel does not notify a client of a listener that appears, or of
/// room in its backlog: a non-blocking connect fails at once (`connect(2)`, ECONNREFUSED and EAGAIN; `unix(7)`,
/// ENOENT). Ten attempts a second cost little processor time, and delay an attachment by a tenth of a second at most.
pub(super) const REDIAL: Duration = Duration::from_millis(100);

/// Which failures of the monitor are retried until the deadline of the launch, instead of failing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// None of them.
    #[default]
    Never,
    /// The backlog of the listener is full (`connect(2)`, EAGAIN). The host dials again after 100 milliseconds.
    Busy,
    /// The failure of `Busy`; and no process listens at the address: the kernel refuses the connection (`connect(2)`,
    /// ECONNREFUSED), or the path does not exist (`unix(7)`, ENOENT). The host dials again after 100 milliseconds.
    Unreachable,
    /// The host listens, and the peer that dialled is not QEMU: it hung up before the greeting, or sent something else.
    /// The host listens on for the next peer.
    Stranger,
}

impl Retry {
    /// Returns whether the host dials again after this failure.
    pub(super) fn dials_after(self, failure: &LaunchFailure) -> bool {
        match self {
            Self::Never | Self::Stranger => false,
            Self::Busy => matches!(failure, LaunchFailure::Busy),
            Self::Unreachable => {
                matches!(failure, LaunchFailure::Busy | LaunchFailure::NotListening(_) | LaunchFailure::Dead(_))
                    || matches!(failure, LaunchFailure::Host(fault) if fault.kind == FaultKind::RefusedOrBusy)
            }
        }
    }
}

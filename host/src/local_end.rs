//! Local ends of channels, from their preparation until they are opened, or cannot be opened again.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::Address;

use crate::shared_fd::Lease;

/// The local end of a channel that is to be opened, for the first time or again.
#[derive(Debug)]
pub(crate) enum LocalEnd {
    Connected(OwnedFd, Option<Lease>),
    /// The reading end of a pipe.
    Pipe(OwnedFd),
    Listening(Arc<OwnedFd>),
    Dial(Address),
    /// As `Dial`, and QEMU inherited the socket that listens there.
    Offered(Address),
    /// As `Offered`, by an earlier program, which started the process with this id.
    Resumed(Address, u32),
}

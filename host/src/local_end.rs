//! Local ends of channels, from their preparation until they are opened.

use std::os::fd::OwnedFd;

use qemu_machine_core::Address;

use crate::shared_fd::Lease;

/// The local end of a channel before the channel is opened.
#[derive(Debug)]
pub(crate) enum LocalEnd {
    Connected(OwnedFd, Option<Lease>),
    Listening(OwnedFd),
    Dial(Address),
    /// As `Dial`, and QEMU inherited the socket that listens there.
    Offered(Address),
}

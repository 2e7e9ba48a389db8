//! Sources of one machine: its descriptors, watched by a poller of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::Channel;
use qemu_machine_host::{Interest, Poll, Poller, Source, Watch};

/// A source of the machine, by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Process,
    Channel(Channel),
}

impl Wire {
    pub(crate) fn from_token(token: u64) -> Self {
        match token {
            0 => Self::Process,
            1 => Self::Channel(Channel::Monitor),
            console => Self::Channel(Channel::Console(console as usize - 2)),
        }
    }

    fn token(self) -> u64 {
        match self {
            Self::Process => 0,
            Self::Channel(Channel::Monitor) => 1,
            Self::Channel(Channel::Console(index)) => index as u64 + 2,
        }
    }
}

/// The poller of one machine. Its leader waits on it without the lock. `None` means that nothing is to be watched: the
/// machine belongs to the parent of this process.
#[derive(Debug)]
pub(crate) struct Wires(pub(crate) Option<Arc<Poller>>);

impl Wires {
    fn add(&self, source: BorrowedFd<'_>, wire: Wire, interest: Interest) -> io::Result<()> {
        let poller = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        poller.add(Source::Descriptor(source), wire.token(), interest)
    }

    fn remove(&self, source: BorrowedFd<'_>) {
        self.0.iter().for_each(|poller| poller.remove(Source::Descriptor(source)));
    }
}

impl Watch for Wires {
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>, interest: Interest) -> io::Result<()> {
        self.add(socket.as_fd(), Wire::Channel(channel), interest)
    }

    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool) {
        let interest = if wanted { Interest::ReadWrite } else { Interest::Read };
        let (source, token) = (Source::Descriptor(socket.as_fd()), Wire::Channel(channel).token());
        self.0.iter().for_each(|poller| poller.modify(source, token, interest));
    }

    fn close(&mut self, _: Channel, socket: &Arc<OwnedFd>) {
        self.remove(socket.as_fd());
    }

    fn watch_completion(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
        self.add(process.as_fd(), Wire::Process, Interest::Read)
    }

    fn unwatch_completion(&mut self, process: &Arc<OwnedFd>) {
        self.remove(process.as_fd());
    }
}

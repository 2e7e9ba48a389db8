//! Interface between the host side and a runtime, by which the runtime watches the descriptors of one machine.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::Channel;

use crate::sys::Interest;

/// Registration of the descriptors of one machine with the poller of a runtime. The runtime neither owns nor reads nor
/// writes them: it calls [`Host`](crate::Host), whose reads and writes never block, whatever the flags of a descriptor
/// are.
///
/// With edge-triggered readiness a runtime must call [`Host::receive`](crate::Host::receive) until nothing is left
/// (`epoll(7)`); otherwise bytes stay unread until the peer sends more.
pub trait Watch {
    /// Begins to watch a channel for bytes to read ([`Interest::Read`]). A console may be closed and opened again with the
    /// same socket, while a [reader](crate::Host::set_back_pressure) lets the guest wait: with [`Interest::Write`] for room
    /// to write alone. If it were watched for bytes to read as well, unread bytes would be reported again and again.
    ///
    /// # Errors
    ///
    /// When it cannot be watched. The host then reports the channel as failed.
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>, interest: Interest) -> io::Result<()>;

    /// Watches a channel for room to write as well (`wanted`), or no longer. If `wanted`, the socket was full just now, or
    /// is connecting; without the watch, the rest stays unsent until another input arrives.
    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool);

    /// Stops watching a channel. Its socket is closed when the last reference is dropped.
    fn close(&mut self, channel: Channel, socket: &Arc<OwnedFd>);

    /// Begins to watch something that completes: when the descriptor is readable,
    /// [`Host::reap`](crate::Host::reap) must be called.
    ///
    /// There are up to five in a run, and at most two at a time, the process and a file operation. The descriptors are
    /// readable when the files of the run are created, when the process has executed its program, when the process has
    /// ended (a pidfd, `pidfd_open(2)`), when the log is read, and when the files are removed. Each companion adds three
    /// to a run, and one to those at a time: its program is executed, it has ended, and the end of its log is read.
    ///
    /// # Errors
    ///
    /// When it cannot be watched. The host then reports the step as failed, and kills the process.
    fn watch_completion(&mut self, process: &Arc<OwnedFd>) -> io::Result<()>;

    /// Stops watching such a descriptor: it is complete, or is no longer awaited.
    fn unwatch_completion(&mut self, process: &Arc<OwnedFd>);
}

/// Watch that registers nothing, for [`Host::end`](crate::Host::end), which polls the descriptors itself.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn open(&mut self, _: Channel, _: &Arc<OwnedFd>, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn set_write_interest(&mut self, _: Channel, _: &Arc<OwnedFd>, _: bool) {}

    fn close(&mut self, _: Channel, _: &Arc<OwnedFd>) {}

    fn watch_completion(&mut self, _: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(())
    }

    fn unwatch_completion(&mut self, _: &Arc<OwnedFd>) {}
}

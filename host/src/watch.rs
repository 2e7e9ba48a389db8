//! Contract between the host side and a runtime: how the descriptors of one machine are watched.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::Channel;

/// How a runtime watches the descriptors of one machine. It owns none of them, and reads and writes none.
///
/// They do not block. A runtime that is told of edges (readiness that is told once) reads until there is no more.
pub trait Watch {
    /// Begins to watch a channel for bytes to read.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the channel is then reported as failed.
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>) -> io::Result<()>;

    /// Watches a channel for room to write as well, or no longer. That it takes no more was found just now.
    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool);

    /// Stops watching a channel. Its socket is closed when nobody holds it any more.
    fn close(&mut self, channel: Channel, socket: &Arc<OwnedFd>);

    /// Begins to watch the process: its descriptor is readable when it has ended, and then [`Host::reap`] is due.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the process is then ended, and reported as not started.
    fn process_started(&mut self, process: &Arc<OwnedFd>) -> io::Result<()>;

    /// Stops watching the process: it is reaped.
    fn process_reaped(&mut self, process: &Arc<OwnedFd>);
}

/// Watches nothing: whoever ends a machine waits for it by itself.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn open(&mut self, _: Channel, _: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(())
    }

    fn set_write_interest(&mut self, _: Channel, _: &Arc<OwnedFd>, _: bool) {}

    fn close(&mut self, _: Channel, _: &Arc<OwnedFd>) {}

    fn process_started(&mut self, _: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(())
    }

    fn process_reaped(&mut self, _: &Arc<OwnedFd>) {}
}

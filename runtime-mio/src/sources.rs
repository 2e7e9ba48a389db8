//! Sources of one machine: its descriptors, registered with the caller's mio registry under the caller's tokens.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use qemu_machine_core::{Channel, Machine, Moment};
use qemu_machine_host::{Host, Watch};

/// The sources of one machine, and which of them are ready.
#[derive(Debug)]
pub(crate) struct Sources {
    channels: Vec<Source>,
    process: Token,
    /// Whether the process may have ended.
    ended: bool,
}

#[derive(Debug)]
struct Source {
    channel: Channel,
    token: Token,
    /// Whether there may be bytes to read. mio registers with EPOLLET, so the kernel reports an edge once: this holds
    /// until the channel is drained (`epoll(7)`). Otherwise the rest stays unread until the peer sends more.
    readable: bool,
    /// Whether the peer hung up: after the channel is drained, one more read returns the end.
    ending: bool,
}

/// The sources, and the registry with which they are registered.
pub(crate) struct Registered<'a> {
    pub(crate) sources: &'a mut Sources,
    pub(crate) registry: &'a Registry,
}

impl Sources {
    /// Creates the sources, with a token for the process and one for each channel.
    pub(crate) fn new(channels: &[Channel], mut next_token: impl FnMut() -> Token) -> Self {
        let process = next_token();
        let source =
            |channel: &Channel| Source { channel: *channel, token: next_token(), readable: false, ending: false };
        Self { process, channels: channels.iter().map(source).collect(), ended: false }
    }

    /// Records an event, and returns whether it belongs to one of these sources.
    pub(crate) fn ready(&mut self, event: &Event) -> bool {
        if event.token() == self.process {
            self.ended = true;
            return true;
        }
        let Some(source) = self.channels.iter_mut().find(|source| source.token == event.token()) else { return false };
        source.readable = true;
        source.ending |= event.is_read_closed() || event.is_error();
        true
    }

    /// Returns whether a source is ready.
    pub(crate) fn is_pending(&self) -> bool {
        self.ended || self.channels.iter().any(|source| source.readable)
    }

    fn find(&mut self, channel: Channel) -> io::Result<&mut Source> {
        let source = self.channels.iter_mut().find(|source| source.channel == channel);
        source.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Registered<'_> {
    /// Reads once from each source that is ready, and reports the result.
    pub(crate) fn absorb(&mut self, host: &mut Host, machine: &mut Machine, now: Moment) {
        if std::mem::take(&mut self.sources.ended) {
            host.reap(machine, now, self);
        }
        for index in 0..self.sources.channels.len() {
            if self.sources.channels[index].readable {
                let channel = self.sources.channels[index].channel;
                let more = host.receive(channel, machine, now, self);
                let source = &mut self.sources.channels[index];
                source.readable = more || std::mem::take(&mut source.ending);
            }
        }
    }
}

impl Watch for Registered<'_> {
    fn open(
        &mut self,
        channel: Channel,
        socket: &Arc<OwnedFd>,
        interest: qemu_machine_host::Interest,
    ) -> io::Result<()> {
        let token = self.sources.find(channel)?.token;
        let is_held = interest == qemu_machine_host::Interest::Write;
        let interest = if is_held { Interest::WRITABLE } else { Interest::READABLE };
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
    }

    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool) {
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        if let Ok(source) = self.sources.find(channel) {
            // It is registered since it was opened, so this does not fail.
            let _ = self.registry.reregister(&mut SourceFd(&socket.as_raw_fd()), source.token, interest);
        }
    }

    fn close(&mut self, channel: Channel, socket: &Arc<OwnedFd>) {
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        if let Ok(source) = self.sources.find(channel) {
            (source.readable, source.ending) = (false, false);
        }
    }

    fn watch_completion(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&process.as_raw_fd()), self.sources.process, Interest::READABLE)
    }

    fn unwatch_completion(&mut self, process: &Arc<OwnedFd>) {
        let _ = self.registry.deregister(&mut SourceFd(&process.as_raw_fd()));
    }
}

//! Decides how the descriptors of one machine are watched: by the caller's registry, under the caller's tokens.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use qemu_machine_core::{Channel, Machine, Moment};
use qemu_machine_host::{Host, Watch};

/// The sources of one machine, and which of them have something.
#[derive(Debug)]
pub(crate) struct Sources {
    channels: Vec<Source>,
    process: Token,
    /// The process may have ended.
    ended: bool,
}

#[derive(Debug)]
struct Source {
    channel: Channel,
    token: Token,
    /// There may be something to read. Readiness is told once, so this holds until there is nothing more.
    readable: bool,
    /// The end of what there is to read was told: it is behind the last of it.
    ending: bool,
}

/// The sources together with where they are registered.
pub(crate) struct Registered<'a> {
    pub(crate) sources: &'a mut Sources,
    pub(crate) registry: &'a Registry,
}

impl Sources {
    /// Takes a token for the process and one for each channel.
    pub(crate) fn new(channels: &[Channel], mut next_token: impl FnMut() -> Token) -> Self {
        let process = next_token();
        let source =
            |channel: &Channel| Source { channel: *channel, token: next_token(), readable: false, ending: false };
        Self { process, channels: channels.iter().map(source).collect(), ended: false }
    }

    /// Notes that something happened. Whether it is of one of these.
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

    /// Whether something may be there to be carried.
    pub(crate) fn is_pending(&self) -> bool {
        self.ended || self.channels.iter().any(|source| source.readable)
    }

    fn find(&mut self, channel: Channel) -> io::Result<&mut Source> {
        let source = self.channels.iter_mut().find(|source| source.channel == channel);
        source.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Registered<'_> {
    /// Reports from each source that has something, once.
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
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>) -> io::Result<()> {
        let token = self.sources.find(channel)?.token;
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
    }

    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool) {
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        if let Ok(source) = self.sources.find(channel) {
            // It was registered when it was opened.
            let _ = self.registry.reregister(&mut SourceFd(&socket.as_raw_fd()), source.token, interest);
        }
    }

    fn close(&mut self, channel: Channel, socket: &Arc<OwnedFd>) {
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        if let Ok(source) = self.sources.find(channel) {
            (source.readable, source.ending) = (false, false);
        }
    }

    fn process_started(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&process.as_raw_fd()), self.sources.process, Interest::READABLE)
    }

    fn process_reaped(&mut self, process: &Arc<OwnedFd>) {
        let _ = self.registry.deregister(&mut SourceFd(&process.as_raw_fd()));
    }
}

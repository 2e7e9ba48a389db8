//! Sources of one machine: its descriptors, watched by the reactor of a runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use qemu_machine_core::{Channel, Machine, Moment};

use super::reactor::{AsyncSource as _, Reactor, Readiness};
use crate::host::Host;
use crate::sys::{Interest, Poll as _, Poller, Source};
use crate::watch::Watch;

/// Reads from one channel before the next channel is read.
const READS: usize = 2;

/// The sources of one machine.
pub(super) struct Sources<R: Reactor> {
    watcher: Watcher<R>,
    channels: Vec<ChannelSource<R>>,
    /// The process, and a file operation.
    completions: Vec<(Arc<OwnedFd>, Option<R::Source>)>,
    /// The channels that were ready, or may be, and are not read for now.
    held: Vec<Channel>,
    /// Whether a source was added that the driver has not polled yet.
    changed: bool,
    /// Whether the reactor cannot watch a source any longer.
    failed: bool,
}

/// Watcher of the sources.
#[derive(Default)]
enum Watcher<R> {
    /// Nothing: there was no launch yet.
    #[default]
    None,
    Reactor(R),
    /// A poller of the supervisor.
    Poller(Arc<Poller>),
}

/// The source of a channel.
struct ChannelSource<R: Reactor> {
    channel: Channel,
    descriptor: Arc<OwnedFd>,
    /// `None` means that the supervisor watches it.
    source: Option<R::Source>,
    /// Readiness that was consumed, while there may be bytes left.
    unread: Option<Readiness>,
    /// Whether the socket was full at the last write.
    is_full: bool,
}

impl<R: Reactor> Default for Sources<R> {
    fn default() -> Self {
        Self {
            watcher: Watcher::None,
            channels: Vec::new(),
            completions: Vec::new(),
            held: Vec::new(),
            changed: false,
            failed: false,
        }
    }
}

impl<R: Reactor> Watch for Sources<R> {
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>, interest: Interest) -> io::Result<()> {
        let (descriptor, source) = self.watch(socket)?;
        self.channels.reserve_exact(1);
        self.channels.push(ChannelSource { channel, descriptor, source, unread: None, is_full: false });
        // The driver does not read a console that is held, although its source reports bytes to read as well.
        self.set_write_interest(channel, socket, interest == Interest::Write);
        Ok(())
    }

    fn set_write_interest(&mut self, channel: Channel, _: &Arc<OwnedFd>, wanted: bool) {
        let Self { watcher, channels, changed, failed, .. } = self;
        let Some(known) = channels.iter_mut().find(|known| known.channel == channel) else { return };
        if known.is_full != wanted {
            known.is_full = wanted;
            match (watcher, &mut known.source) {
                (Watcher::Reactor(_), Some(source)) => {
                    *failed |= source.set_write_interest(wanted).is_err();
                }
                (Watcher::Poller(poller), _) => {
                    poller.modify(Source::Descriptor(known.descriptor.as_fd()), TOKEN, interest(wanted));
                }
                _ => {}
            }
            // A source that was registered again has no waker.
            *changed = true;
        }
    }

    fn close(&mut self, channel: Channel, _: &Arc<OwnedFd>) {
        let Self { watcher, channels, .. } = self;
        channels.retain(|known| {
            let is_other = known.channel != channel;
            if !is_other {
                watcher.unwatch(&known.descriptor);
            }
            is_other
        });
    }

    fn watch_completion(&mut self, completion: &Arc<OwnedFd>) -> io::Result<()> {
        let watched = self.watch(completion)?;
        self.completions.push(watched);
        Ok(())
    }

    fn unwatch_completion(&mut self, completion: &Arc<OwnedFd>) {
        let Self { watcher, completions, .. } = self;
        completions.retain(|(watched, _)| {
            let is_other = !Arc::ptr_eq(watched, completion);
            if !is_other {
                watcher.unwatch(watched);
            }
            is_other
        });
    }
}

impl<R> Watcher<R> {
    fn unwatch(&self, descriptor: &Arc<OwnedFd>) {
        if let Self::Poller(poller) = self {
            poller.remove(Source::Descriptor(descriptor.as_fd()));
        }
    }
}

/// The token of all sources on a poller: the supervisor looks at each of them.
const TOKEN: u64 = 0;

fn interest(is_full: bool) -> Interest {
    if is_full { Interest::ReadWrite } else { Interest::Read }
}

impl<R: Reactor> Sources<R> {
    /// Returns the sources of a run on this reactor, without a source yet.
    pub(super) fn on(reactor: R) -> Self {
        Self { watcher: Watcher::Reactor(reactor), ..Self::default() }
    }

    fn watch(&mut self, descriptor: &Arc<OwnedFd>) -> io::Result<(Arc<OwnedFd>, Option<R::Source>)> {
        let source = match &self.watcher {
            Watcher::None => return Err(io::ErrorKind::NotConnected.into()),
            Watcher::Reactor(reactor) => Some(reactor.watch(descriptor)?),
            Watcher::Poller(poller) => {
                poller.add(Source::Descriptor(descriptor.as_fd()), TOKEN, Interest::Read)?;
                None
            }
        };
        self.changed = true;
        Ok((Arc::clone(descriptor), source))
    }

    /// Watches all sources with this poller from now on, and returns those of the reactor.
    pub(super) fn move_to(&mut self, poller: &Arc<Poller>) -> io::Result<Vec<R::Source>> {
        let channels = self.channels.iter().map(|known| (&known.descriptor, interest(known.is_full)));
        let completions = self.completions.iter().map(|(descriptor, _)| (descriptor, Interest::Read));
        for (descriptor, interest) in channels.chain(completions) {
            poller.add(Source::Descriptor(descriptor.as_fd()), TOKEN, interest)?;
        }
        self.watcher = Watcher::Poller(Arc::clone(poller));
        let channels = self.channels.iter_mut().map(|known| &mut known.source);
        let completions = self.completions.iter_mut().map(|(_, source)| source);
        Ok(channels.chain(completions).filter_map(Option::take).collect())
    }

    /// Reads from the sources that are ready, and reports the results. Returns whether any source was ready. If not,
    /// the task is woken when one becomes ready.
    pub(super) fn absorb(
        &mut self,
        context: &mut Context<'_>,
        host: &mut Host,
        machine: &mut Machine,
        hold: impl Fn(Channel, &Machine) -> bool,
        now: Moment,
    ) -> bool {
        let mut any = false;
        // Each of them is polled, so that each wakes the task.
        for source in self.completions.iter_mut().filter_map(|(_, source)| source.as_mut()) {
            match source.poll_readable(context) {
                Poll::Ready(Ok(_)) => any = true,
                Poll::Ready(Err(_)) => self.failed = true,
                Poll::Pending => {}
            }
        }
        if any {
            host.reap(machine, now, self);
        }
        self.held.clear();
        let mut index = 0;
        // A channel that is closed meanwhile moves the others up. The next round reads the channels that were skipped.
        while let Some(channel) = machine.channels().get(index).copied() {
            index += 1;
            for _ in 0..READS {
                if hold(channel, machine) {
                    self.held.push(channel);
                    break;
                }
                let Some((descriptor, readiness)) = self.poll_channel(channel, context) else { break };
                any = true;
                let more = host.receive(channel, machine, now, self);
                self.note_read(channel, &descriptor, readiness, more);
            }
        }
        any | self.has_room(context)
    }

    /// Returns the readiness of a channel. `None` means that the task is woken when it is ready.
    fn poll_channel(&mut self, channel: Channel, context: &mut Context<'_>) -> Option<(Arc<OwnedFd>, Readiness)> {
        let known = self.channels.iter_mut().find(|known| known.channel == channel)?;
        let readiness = match known.unread {
            Some(readiness) => readiness,
            None => match known.source.as_mut()?.poll_readable(context) {
                Poll::Ready(Ok(readiness)) => readiness,
                Poll::Ready(Err(_)) => {
                    self.failed = true;
                    return None;
                }
                Poll::Pending => return None,
            },
        };
        Some((Arc::clone(&known.descriptor), readiness))
    }

    /// Notes what is left after a read. The channel may have another descriptor meanwhile.
    fn note_read(&mut self, channel: Channel, descriptor: &Arc<OwnedFd>, readiness: Readiness, more: bool) {
        let is_same =
            |known: &&mut ChannelSource<R>| known.channel == channel && Arc::ptr_eq(&known.descriptor, descriptor);
        let Some(known) = self.channels.iter_mut().find(is_same) else { return };
        known.unread = match (more, readiness) {
            (true, readiness) => Some(readiness),
            // The end follows the bytes.
            (false, Readiness::HungUp) => Some(Readiness::Bytes),
            (false, Readiness::Bytes) => None,
        };
    }

    /// Returns whether a channel that was not read can be read again.
    pub(super) fn resume(&mut self, hold: impl Fn(Channel) -> bool) -> bool {
        let before = self.held.len();
        self.held.retain(|channel| hold(*channel));
        self.held.len() < before
    }

    /// Returns whether a source was added since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns whether the reactor has failed: no source wakes the driver any longer.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    fn has_room(&mut self, context: &mut Context<'_>) -> bool {
        let Self { channels, failed, .. } = self;
        let full = channels.iter_mut().filter(|known| known.is_full);
        let sources = full.filter_map(|known| known.source.as_mut());
        let mut has_room = false;
        for source in sources {
            match source.poll_writable(context) {
                Poll::Ready(Ok(())) => has_room = true,
                Poll::Ready(Err(_)) => *failed = true,
                Poll::Pending => {}
            }
        }
        has_room
    }
}

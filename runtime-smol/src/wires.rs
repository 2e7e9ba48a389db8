//! Sources of one machine: its descriptors, watched by the reactor of async-io, which has its own thread and wakes
//! tasks of any executor.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_io::Async;
use qemu_machine_core::{Channel, Machine, Moment};
use qemu_machine_host::{Host, Watch};

/// Reads from one channel before the next channel is read.
const READS: usize = 2;

/// The sources of one machine.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    channels: Vec<(Channel, Async<Arc<OwnedFd>>)>,
    /// The process, and a file operation.
    completions: Vec<Async<Arc<OwnedFd>>>,
    /// The channels whose sockets were full at the last write.
    full: Vec<Channel>,
    /// Whether a source was added that the driver has not polled yet.
    changed: bool,
}

impl Watch for Wires {
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>) -> io::Result<()> {
        self.channels.push((channel, Async::new_nonblocking(Arc::clone(socket))?));
        self.changed = true;
        Ok(())
    }

    fn set_write_interest(&mut self, channel: Channel, _: &Arc<OwnedFd>, wanted: bool) {
        self.full.retain(|other| *other != channel);
        self.full.extend(wanted.then_some(channel));
        self.changed |= wanted;
    }

    fn close(&mut self, channel: Channel, _: &Arc<OwnedFd>) {
        self.channels.retain(|(other, _)| *other != channel);
        self.full.retain(|other| *other != channel);
    }

    fn watch_completion(&mut self, completion: &Arc<OwnedFd>) -> io::Result<()> {
        self.completions.push(Async::new_nonblocking(Arc::clone(completion))?);
        self.changed = true;
        Ok(())
    }

    fn unwatch_completion(&mut self, completion: &Arc<OwnedFd>) {
        self.completions.retain(|watched| !Arc::ptr_eq(watched.get_ref(), completion));
    }
}

impl Wires {
    /// Reads from the sources that are ready, and reports the results. Returns whether any source was ready. If not,
    /// the task is woken when one becomes ready.
    pub(crate) fn absorb(
        &mut self,
        context: &mut Context<'_>,
        host: &mut Host,
        machine: &mut Machine,
        now: Moment,
    ) -> bool {
        // Each of them is polled, so that each wakes the task.
        let mut any = self.completions.iter().filter(|source| is_readable(source, context)).count() > 0;
        if any {
            host.reap(machine, now, self);
        }
        let mut index = 0;
        // A channel that is closed meanwhile moves the others up. The next round reads the channels that were skipped.
        while let Some(channel) = machine.channels().get(index).copied() {
            index += 1;
            for _ in 0..READS {
                if !self.source(channel).is_some_and(|source| is_readable(source, context)) {
                    break;
                }
                any = true;
                // When the read finds nothing, the next poll of the source registers the task.
                host.receive(channel, machine, now, self);
            }
        }
        any | self.has_room(context)
    }

    /// Returns whether a source was added since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn has_room(&self, context: &mut Context<'_>) -> bool {
        let mut sources = self.full.iter().filter_map(|channel| self.source(*channel));
        sources.any(|source| matches!(source.poll_writable(context), Poll::Ready(Ok(()))))
    }

    fn source(&self, channel: Channel) -> Option<&Async<Arc<OwnedFd>>> {
        self.channels.iter().find(|(other, _)| *other == channel).map(|(_, source)| source)
    }
}

fn is_readable(source: &Async<Arc<OwnedFd>>, context: &mut Context<'_>) -> bool {
    matches!(source.poll_readable(context), Poll::Ready(Ok(())))
}

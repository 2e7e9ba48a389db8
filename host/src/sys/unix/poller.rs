//! Poller on `poll(2)`, which a pipe wakes. It is level-triggered: unread bytes are reported again.
//!
//! Each wait passes all descriptors to the kernel, so it takes time in proportion to their number. A poller that is a source
//! of another one has no descriptor that the kernel could watch: the wait of the outer one includes the sources of the inner
//! one, and a change of the inner one interrupts that wait. The poller duplicates each descriptor, so that it stays the
//! same one while a thread waits.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{ioctl_fionbio, read, write};

use super::descriptors::pipe;
use crate::clock::timespec;
use crate::lock::lock;
use crate::sys::{Interest, Poll, Ready, Source};

/// A poller. Threads may share it, and it may be a source of another one.
#[derive(Debug)]
pub struct Poller(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The pipe that interrupts waits: the end to read, and the end to write.
    pipe: (OwnedFd, OwnedFd),
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, PolledSource>,
    /// The number of the last change.
    changes: u64,
    /// Whether [`Poll::wake`] was called since a wait has reported it.
    is_woken: bool,
    /// Whether there is a byte in the pipe.
    is_interrupted: bool,
    /// The number of the last interruption.
    interruptions: u64,
    /// How many threads wait, and how many of them since before the last interruption.
    waiting: usize,
    stale: usize,
    /// The source after which the next wait begins to report, so that each has its turn.
    last: Option<Key>,
    /// The pollers of which this is a source.
    outer: Vec<Weak<Shared>>,
}

/// A source: the number that a descriptor has for the caller, or the address of a poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Descriptor(RawFd),
    Poller(usize),
}

#[derive(Debug)]
struct PolledSource {
    watched: Watched,
    token: u64,
    interest: Interest,
    /// The number of its last change: a wait that began before does not report it.
    changed: u64,
}

#[derive(Clone, Debug)]
enum Watched {
    Descriptor(Arc<OwnedFd>),
    Poller(Weak<Shared>),
}

/// A descriptor of a wait, and the source that it belongs to.
struct Item {
    descriptor: Arc<OwnedFd>,
    flags: PollFlags,
    key: Key,
    changed: u64,
}

impl Poll for Poller {
    fn new() -> io::Result<Self> {
        let pipe = pipe()?;
        ioctl_fionbio(&pipe.0, true)?;
        Ok(Self(Arc::new(Shared { state: Mutex::default(), pipe })))
    }

    fn add(&self, source: Source<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let watched = match source {
            Source::Descriptor(descriptor) => Watched::Descriptor(Arc::new(descriptor.try_clone_to_owned()?)),
            Source::Poller(inner) => {
                lock(&inner.0.state).outer.push(Arc::downgrade(&self.0));
                Watched::Poller(Arc::downgrade(&inner.0))
            }
        };
        self.0.change(|state, changed| {
            // An earlier source with this number was closed without being removed.
            drop(state.entries.insert(key(source), PolledSource { watched, token, interest, changed }));
        });
        Ok(())
    }

    fn modify(&self, source: Source<'_>, token: u64, interest: Interest) {
        self.0.change(|state, changed| {
            if let Some(entry) = state.entries.get_mut(&key(source)) {
                (entry.token, entry.interest, entry.changed) = (token, interest, changed);
            }
        });
    }

    fn remove(&self, source: Source<'_>) {
        if let Source::Poller(inner) = source {
            lock(&inner.0.state).outer.retain(|outer| !std::ptr::eq(outer.as_ptr(), Arc::as_ptr(&self.0)));
        }
        let mut removed = None;
        // Dropped without the lock, since closing a file may block.
        self.0.change(|state, _| removed = state.entries.remove(&key(source)));
    }

    fn wait(&self, timeout: Option<Duration>) -> Ready {
        let until = timeout.map(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left =
                until.map(|until| until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now())));
            let (items, is_ready, began) = self.0.begin();
            let polled = self.0.poll(&items, if is_ready { Some(Duration::ZERO) } else { left });
            // After an error, the interruption by a signal, no source is ready.
            let (is_interrupted, flags) = polled.unwrap_or_default();
            let (ready, is_changed) = self.0.finish(items, flags, began);
            // The byte in the pipe may be for another thread, that waits since before the change.
            if !(is_changed || is_interrupted)
                || ready.woken()
                || !ready.tokens().is_empty()
                || left == Some(Duration::ZERO)
            {
                return ready;
            }
        }
    }

    fn wake(&self) {
        let mut state = lock(&self.0.state);
        state.is_woken = true;
        self.0.interrupt(state);
    }
}

fn key(source: Source<'_>) -> Key {
    match source {
        Source::Descriptor(descriptor) => Key::Descriptor(descriptor.as_raw_fd()),
        Source::Poller(poller) => Key::Poller(Arc::as_ptr(&poller.0).addr()),
    }
}

/// Returns the flags to wait for. `None` means that the source is not watched.
fn flags(interest: Interest) -> Option<PollFlags> {
    match interest {
        Interest::None => None,
        Interest::Read | Interest::ReadOnce => Some(PollFlags::IN),
        Interest::Write => Some(PollFlags::OUT),
        Interest::ReadWrite => Some(PollFlags::IN | PollFlags::OUT),
    }
}

impl Shared {
    /// Changes the sources, and has the waits in progress begin again.
    fn change(&self, change: impl FnOnce(&mut State, u64)) {
        let mut state = lock(&self.state);
        state.changes += 1;
        let changes = state.changes;
        change(&mut state, changes);
        self.interrupt(state);
    }

    /// Interrupts the waits in progress, of this poller and of those of which it is a source.
    fn interrupt(&self, mut state: std::sync::MutexGuard<'_, State>) {
        state.interruptions += 1;
        state.stale = state.waiting;
        if state.stale > 0 && !state.is_interrupted {
            state.is_interrupted = true;
            // The pipe has room for the one byte.
            let _ = write(&self.pipe.1, b"!");
        }
        let outer: Vec<_> = state.outer.iter().filter_map(Weak::upgrade).collect();
        // The lock of an outer poller is taken before that of an inner one, so this one is released first.
        drop(state);
        let key = Key::Poller(std::ptr::from_ref(self).addr());
        for outer in outer {
            let state = lock(&outer.state);
            if state.entries.get(&key).is_some_and(|entry| flags(entry.interest).is_some()) {
                outer.interrupt(state);
            }
        }
    }

    /// Begins a wait: returns the descriptors of all sources, whether a source is ready without the kernel, and the number of
    /// the last interruption.
    fn begin(&self) -> (Vec<Item>, bool, u64) {
        let mut state = lock(&self.state);
        state.waiting += 1;
        let mut items = Vec::with_capacity(state.entries.len());
        let mut is_ready = state.is_woken;
        for (key, entry) in &state.entries {
            let Some(flags) = flags(entry.interest) else { continue };
            match &entry.watched {
                Watched::Descriptor(descriptor) => {
                    items.push(Item { descriptor: Arc::clone(descriptor), flags, key: *key, changed: entry.changed });
                }
                Watched::Poller(inner) => {
                    let Some(inner) = inner.upgrade() else { continue };
                    is_ready |= inner.is_woken_or_collects(&mut items, *key, entry.changed);
                }
            }
        }
        (items, is_ready, state.interruptions)
    }

    /// Adds the descriptors of a poller that is a source, and returns whether it was woken.
    fn is_woken_or_collects(&self, items: &mut Vec<Item>, key: Key, changed: u64) -> bool {
        let state = lock(&self.state);
        let mut is_woken = state.is_woken;
        for entry in state.entries.values() {
            let Some(flags) = flags(entry.interest) else { continue };
            match &entry.watched {
                Watched::Descriptor(descriptor) => {
                    items.push(Item { descriptor: Arc::clone(descriptor), flags, key, changed });
                }
                Watched::Poller(inner) => {
                    is_woken |= inner.upgrade().is_some_and(|inner| inner.is_woken_or_collects(items, key, changed));
                }
            }
        }
        is_woken
    }

    /// Returns whether this poller was woken, or one that is a source of it.
    fn is_woken(&self) -> bool {
        let state = lock(&self.state);
        let mut watched = state.entries.values().filter(|entry| flags(entry.interest).is_some());
        state.is_woken
            || watched.any(|entry| match &entry.watched {
                Watched::Poller(inner) => inner.upgrade().is_some_and(|inner| inner.is_woken()),
                Watched::Descriptor(_) => false,
            })
    }

    /// Waits, and returns whether the pipe is readable, and which conditions of the descriptors hold.
    fn poll(&self, items: &[Item], timeout: Option<Duration>) -> rustix::io::Result<(bool, Vec<PollFlags>)> {
        let sources = items.iter().map(|item| PollFd::new(&*item.descriptor, item.flags));
        let mut all: Vec<_> = [PollFd::new(&self.pipe.0, PollFlags::IN)].into_iter().chain(sources).collect();
        poll(&mut all, timeout.map(timespec).as_ref())?;
        let is_interrupted = all.first().is_some_and(|pipe| !pipe.revents().is_empty());
        Ok((is_interrupted, all.iter().skip(1).map(PollFd::revents).collect()))
    }

    /// Ends a wait: returns the sources that are ready, and whether the wait was interrupted.
    fn finish(&self, items: Vec<Item>, revents: Vec<PollFlags>, began: u64) -> (Ready, bool) {
        let mut state = lock(&self.state);
        let is_interrupted = began != state.interruptions;
        state.waiting -= 1;
        state.stale -= usize::from(is_interrupted);
        if state.is_interrupted && state.stale == 0 {
            // The last thread of those that were interrupted reads the byte: the others would not see it.
            state.is_interrupted = false;
            let _ = read(&self.pipe.0, &mut [0_u8; 1]);
        }
        let mut ready = Ready { woken: std::mem::take(&mut state.is_woken), ..Ready::default() };
        let reported = items.iter().zip(revents).filter(|(_, flags)| !flags.is_empty());
        let mut reported: Vec<_> = reported.map(|(item, _)| (item.key, item.changed)).collect();
        let woken = state.entries.iter().filter_map(|(key, entry)| match &entry.watched {
            Watched::Poller(inner) if flags(entry.interest).is_some() => {
                inner.upgrade().filter(|inner| inner.is_woken()).map(|_| (*key, entry.changed))
            }
            _ => None,
        });
        reported.extend(woken.collect::<Vec<_>>());
        reported.sort_unstable();
        reported.dedup();
        let first = state.last.map_or(0, |last| reported.partition_point(|(key, _)| *key <= last));
        let count = reported.len();
        reported.rotate_left(if first < count { first } else { 0 });
        for (key, changed) in reported.into_iter().take(Ready::MOST) {
            let Some(entry) = state.entries.get_mut(&key) else { continue };
            // Another thread may have reported it once already.
            if entry.changed != changed || flags(entry.interest).is_none() {
                continue;
            }
            ready.push(entry.token);
            if entry.interest == Interest::ReadOnce {
                entry.interest = Interest::None;
            }
            state.last = Some(key);
        }
        drop(state);
        // Dropped without the lock, since closing a file may block.
        drop(items);
        (ready, is_interrupted)
    }
}

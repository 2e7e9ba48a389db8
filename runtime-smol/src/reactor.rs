//! Reactor of the crate async-io, which has its own thread and wakes tasks of any executor.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use async_io::{Async, Timer};
use qemu_machine_core::Misuse;
use qemu_machine_host::lock;
use qemu_machine_host::tasks::{AsyncSource, AsyncTimer, Reactor, Readiness};

/// Reactor of the crate async-io, for tasks of any executor.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Smol;

/// A descriptor that async-io watches.
#[derive(Debug)]
pub struct SmolSource {
    descriptor: Async<Arc<OwnedFd>>,
    read: Direction,
    write: Direction,
}

/// One direction of a descriptor.
#[derive(Debug, Default)]
struct Direction {
    flag: Arc<Flag>,
    /// Whether a readiness was taken from the flag, and async-io may report the same.
    is_reported: bool,
}

/// Waker that async-io calls, and that notes the readiness. async-io itself treats a readiness as stale when it arrives in
/// the tick in which it was armed, and arms it again: a driver that relied on its answer would spin.
#[derive(Debug)]
struct Flag {
    is_ready: AtomicBool,
    task: Mutex<Waker>,
}

impl Direction {
    /// Returns whether the descriptor became ready since the last call. Otherwise `arm` makes async-io call the waker.
    fn poll(
        &mut self,
        context: &Context<'_>,
        arm: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let before = mem::replace(&mut *lock(&self.flag.task), context.waker().clone());
        drop(before);
        if self.flag.is_ready.swap(false, Ordering::AcqRel) {
            self.is_reported = true;
            return Poll::Ready(Ok(()));
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        let context = &mut Context::from_waker(&waker);
        match arm(context) {
            // Nothing newer: async-io reports once for each time that it is armed.
            Poll::Ready(Ok(())) if mem::take(&mut self.is_reported) => arm(context),
            state => state,
        }
    }
}

impl Default for Flag {
    fn default() -> Self {
        Self { is_ready: AtomicBool::new(false), task: Mutex::new(Waker::noop().clone()) }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_ready.store(true, Ordering::Release);
        let task = lock(&self.task).clone();
        task.wake();
    }
}

impl Reactor for Smol {
    type Source = SmolSource;
    type Timer = SmolTimer;

    fn current() -> Result<Self, Misuse> {
        Ok(Self)
    }

    fn watch(&self, descriptor: &Arc<OwnedFd>) -> io::Result<SmolSource> {
        let descriptor = Async::new_nonblocking(Arc::clone(descriptor))?;
        Ok(SmolSource { descriptor, read: Direction::default(), write: Direction::default() })
    }

    fn timer(&self) -> SmolTimer {
        SmolTimer(Timer::never())
    }
}

impl AsyncSource for SmolSource {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        // async-io does not say what it found, and reports a hang-up again at each poll.
        let Self { descriptor, read, .. } = self;
        read.poll(context, |context| descriptor.poll_readable(context)).map_ok(|()| Readiness::Bytes)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { descriptor, write, .. } = self;
        write.poll(context, |context| descriptor.poll_writable(context))
    }

    fn set_write_interest(&mut self, _: bool) -> io::Result<()> {
        // The interest is that of each poll.
        Ok(())
    }
}

/// Timer of async-io.
#[derive(Debug)]
pub struct SmolTimer(Timer);

impl AsyncTimer for SmolTimer {
    fn set(&mut self, at: Option<Instant>) {
        match at {
            Some(at) => self.0.set_at(at),
            None => self.0.clear(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

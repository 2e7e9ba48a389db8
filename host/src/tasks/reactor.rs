//! Interface between the tasks of a machine and an async runtime: readiness of descriptors, and a timer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use qemu_machine_core::Misuse;

/// Reactor of an async runtime: watches descriptors, and has timers.
///
/// Except for [`current`](Self::current) and [`timer`](Self::timer), all methods of these traits are called under the lock of
/// the machine. They must call no waker at once: it may poll a task that takes the lock. Sources are made, set and dropped
/// on any thread.
pub trait Reactor: Send + Sync + Sized + 'static {
    /// A descriptor that this reactor watches.
    type Source: AsyncSource;
    /// A timer of this reactor.
    type Timer: AsyncTimer;

    /// Returns the reactor of the runtime that the calling thread is in. Called at each launch, under no lock.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoRuntime`] when the thread is in no runtime, and this reactor is part of one.
    fn current() -> Result<Self, Misuse>;

    /// Begins to watch a descriptor for bytes to read. May be called on any thread.
    ///
    /// # Errors
    ///
    /// When it cannot be watched.
    fn watch(&self, descriptor: &Arc<OwnedFd>) -> io::Result<Self::Source>;

    /// Returns a timer that is not set.
    fn timer(&self) -> Self::Timer;
}

/// Descriptor that a reactor watches. Dropping it ends the watch.
///
/// Only the driver of the machine polls it. A poll that returns `Pending` wakes the driver at the next readiness.
pub trait AsyncSource: Send + Sync {
    /// Returns whether there may be something to read, and consumes that: what is ready already is reported once. The
    /// driver then reads until nothing is left, and polls again.
    ///
    /// # Errors
    ///
    /// When the reactor is shut down. The machine ends then.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Readiness>>;

    /// Returns whether there may be room to write, and consumes that. Called only while the interest is set.
    ///
    /// # Errors
    ///
    /// As [`poll_readable`](Self::poll_readable).
    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sets whether room to write is watched as well: only while a socket is full. Otherwise each read of the peer would
    /// wake the driver. The source may lose its waker: the driver polls it again.
    ///
    /// # Errors
    ///
    /// When it cannot be watched. The machine ends then.
    fn set_write_interest(&mut self, wanted: bool) -> io::Result<()>;
}

/// Reason that a descriptor is ready to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the driver handles each")]
pub enum Readiness {
    /// There are bytes, or the reactor does not report which.
    Bytes,
    /// The peer has closed its end, perhaps after its last bytes. An edge is reported once, so the driver reads on until
    /// it finds the end.
    HungUp,
}

/// Timer of a reactor.
pub trait AsyncTimer: Send + Unpin {
    /// Sets the time at which it fires. `None` means never.
    fn set(&mut self, at: Option<Instant>);

    /// Returns whether the time has passed. After `Pending` it wakes the task when it has, and is not polled again before
    /// that unless it is set again, or the task is another one.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

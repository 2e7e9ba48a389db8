//! Values that belong to the process which created them, for programs that fork.
//!
//! A child of `fork(2)` has a copy of the memory of its parent, with locks that threads of the parent hold, and shares the
//! descriptors: what it changes in an epoll changes for its parent as well. So a child neither uses nor drops the copy.

use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::lock::{lock, try_lock};
use crate::sys::{Os, System};

/// The process in which a value was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home(u32);

impl Home {
    /// Returns this process.
    #[must_use]
    pub fn here() -> Self {
        Self(Os::process_id())
    }

    /// Returns whether this is the process: `false` in a child of `fork(2)`. It costs no system call.
    #[must_use]
    pub fn is_here(self) -> bool {
        self == Self::here()
    }
}

/// A value behind a lock. In a child of `fork(2)` it is another one, and the copy of the parent's is neither used nor
/// dropped.
#[derive(Debug)]
pub struct Local<T> {
    home: Home,
    /// `None` while this is dropped.
    value: Option<Mutex<T>>,
    /// The value of a forked child, whose own children have further ones.
    forked: OnceLock<Box<Local<T>>>,
    make: fn() -> T,
}

impl<T> Local<T> {
    /// Creates a value of this process. `make` makes the value of a forked child when the child first uses it.
    #[must_use]
    pub fn new(value: T, make: fn() -> T) -> Self {
        Self { home: Home::here(), value: Some(Mutex::new(value)), forked: OnceLock::new(), make }
    }

    /// Returns whether this process created the value.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.home.is_here()
    }

    /// Returns the lock of the value. The process is checked before any lock is taken: a thread that does not exist in
    /// the child may hold the parent's.
    pub fn mutex(&self) -> &Mutex<T> {
        match &self.value {
            Some(value) if self.is_here() => value,
            _ => self.forked.get_or_init(|| Box::new(Self::new((self.make)(), self.make))).mutex(),
        }
    }

    /// Locks the value, as [`lock`].
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(self.mutex())
    }

    /// Locks the value without waiting, as [`try_lock`].
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        try_lock(self.mutex())
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}

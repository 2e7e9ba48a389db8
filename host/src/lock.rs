//! Locks of machines, which stay usable after a panic of one caller.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Locks a machine, also after a panic. A caller that panicked under the lock left the machine as valid as before its
/// call, and a poisoned lock would fail every other caller.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a machine, as [`lock`], without waiting. `None` means that another thread holds the lock.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

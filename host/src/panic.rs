//! Panic of code of the caller that the library calls in the middle of its work: it is stored, and resumed after the work.
//!
//! An observer of the wire, a subscriber of `tracing` and a waker are such code. If their panic unwound the work, bytes
//! would be sent twice or lost, other callers would wait without end, and a machine would stay without a driver.

use std::any::Any;
use std::fmt;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// Panic of code of the caller, which the library has caught. The panic hook has reported it.
#[must_use = "the caller should learn of the panic"]
pub struct CaughtPanic(Option<Box<dyn Any + Send>>);

impl CaughtPanic {
    /// Resumes the panic in the call that caused it. Release every lock before.
    pub fn resume(mut self) -> ! {
        resume_unwind(self.0.take().unwrap_or_else(|| Box::new(())))
    }

    /// Drops no payload. That would be code of the caller again, under the lock of a machine that it may use.
    pub(crate) fn leak(self) {
        forget(self);
    }
}

/// Dropping the payload may panic as well, and that is stopped here.
impl Drop for CaughtPanic {
    fn drop(&mut self) {
        let payload = self.0.take();
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            forget(another);
        }
    }
}

impl fmt::Debug for CaughtPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaughtPanic")
    }
}

/// Calls code that may panic.
pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| CaughtPanic(Some(payload)))
}

/// Calls code that may panic, and stores its panic unless one is stored already.
pub(crate) fn store_panic(stored: &mut Option<CaughtPanic>, act: impl FnOnce()) {
    if let Err(panic) = caught(act) {
        store(stored, panic);
    }
}

/// Stores a panic unless one is stored already.
pub(crate) fn store(stored: &mut Option<CaughtPanic>, panic: CaughtPanic) {
    match stored {
        None => *stored = Some(panic),
        Some(_) => panic.leak(),
    }
}

/// Resumes a panic that was stored, except in a thread that is unwinding already: a second panic would end the program.
pub(crate) fn resume(stored: Option<CaughtPanic>) {
    if let Some(panic) = stored.filter(|_| !thread::panicking()) {
        panic.resume();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any("dropped");
        }
    }

    #[test]
    fn the_first_panic_is_resumed_and_payloads_that_panic_are_stopped() {
        let mut stored = None;
        ["first", "second"].into_iter().for_each(|text| store_panic(&mut stored, || panic_any(text)));
        store_panic(&mut stored, || panic_any(Bomb));
        drop(caught(|| panic_any(Bomb)));
        let resumed = catch_unwind(AssertUnwindSafe(|| resume(stored))).expect_err("it was stored");
        assert_eq!(resumed.downcast_ref(), Some(&"first"));
    }
}

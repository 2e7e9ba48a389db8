//! Cancellation of calls that wait.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use qemu_machine_core::Moment;
use qemu_machine_host::lock;

/// Token that gives up calls which wait, from another thread.
///
/// [`run_until_cancelled`](Self::run_until_cancelled) runs a closure, and [`cancel`](Self::cancel) ends each call of this
/// crate that the closure waits in: a command fails with [`CommandError::Cancelled`](crate::CommandError::Cancelled), a
/// wait or a subscription with [`WaitError::Cancelled`](crate::WaitError::Cancelled), a procedure with the error of the
/// step that it was at, after its clean-up: a procedure that has started a job cancels it, within
/// [10 seconds](crate::procedure::CLEAN_UP_WITHIN). A launch or an attachment is ended, and fails with
/// [`LaunchFailure::Cancelled`](crate::LaunchFailure::Cancelled). The machine and its other callers are not affected.
///
/// [`Vm::shutdown`](crate::Vm::shutdown), [`kill`](crate::Vm::kill), [`disconnect`](crate::Vm::disconnect) and
/// [`detach`](crate::Vm::detach) are not cancelled, since they have time limits of their own. A kill from another thread
/// cuts a shutdown short.
///
/// Tokens are clones of each other. A token stays cancelled.
///
/// ```no_run
/// use qemu_machine_blocking::{Cancel, Config, FOREVER, Mark, Vm, Wait, WaitError};
///
/// let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
/// let (watch, cancel) = (vm.clone(), Cancel::new());
/// let token = cancel.clone();
/// let waiting = std::thread::spawn(move || {
///     token.run_until_cancelled(|| watch.wait_any(&Mark::default(), [Wait::text("tty", "login: ")], FOREVER))
/// });
/// std::io::stdin().read_line(&mut String::new())?; // The user presses Enter to stop.
/// cancel.cancel();
/// assert!(matches!(waiting.join(), Ok(Ok(_) | Err(WaitError::Cancelled))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Token>);

#[derive(Default)]
struct Token {
    is_cancelled: AtomicBool,
    /// The machines whose callers wait, each once for each caller.
    waited_for: Mutex<Vec<Weak<dyn WakeCallers>>>,
}

/// Why a call ends before its result, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Early {
    Cancelled(Moment),
    /// It resumes a panic of code of the caller.
    Panicked(Moment),
}

/// A machine whose callers wait.
pub(crate) trait WakeCallers: Send + Sync {
    /// Wakes the callers that wait, so that those who are cancelled notice it.
    fn wake_callers(&self);
}

thread_local! {
    /// The tokens of the closures that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<Cancel>> = const { RefCell::new(Vec::new()) };
}

impl Cancel {
    /// Returns a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a closure, whose calls are given up when the token is cancelled. Closures may be nested: then each token
    /// gives up the calls of the innermost one. When the token is cancelled already, each call is given up at once: a
    /// command may have been sent by then, or is never sent.
    pub fn run_until_cancelled<T>(&self, run: impl FnOnce() -> T) -> T {
        /// Leaves the closure, also when that panics.
        struct Inside;
        impl Drop for Inside {
            fn drop(&mut self) {
                ENTERED.with_borrow_mut(|entered| drop(entered.pop()));
            }
        }
        ENTERED.with_borrow_mut(|entered| entered.push(self.clone()));
        let _inside = Inside;
        run()
    }

    /// Gives up the calls. It does not wait for them, and may be called on any thread, but not in a signal handler, since
    /// it takes locks.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        // The lock is released before that of a machine is taken. A caller that waits later finds the token cancelled.
        let waited_for = lock(&self.0.waited_for).clone();
        waited_for.iter().filter_map(Weak::upgrade).for_each(|machine| machine.wake_callers());
    }

    /// Returns whether the token is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// A caller that waits for a machine, for the tokens of its thread, of which there is one at least.
pub(crate) struct Waiting {
    machine: Weak<dyn WakeCallers>,
    tokens: Vec<Cancel>,
}

impl Waiting {
    /// `None` means that the thread is in no closure of a token.
    pub(crate) fn begin(machine: impl FnOnce() -> Weak<dyn WakeCallers>) -> Option<Self> {
        let tokens = ENTERED.try_with(|entered| entered.borrow().clone()).ok().filter(|tokens| !tokens.is_empty())?;
        let waiting = Self { machine: machine(), tokens };
        waiting.tokens.iter().for_each(|token| lock(&token.0.waited_for).push(Weak::clone(&waiting.machine)));
        Some(waiting)
    }

    /// Returns whether the call is given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.tokens.iter().any(Cancel::is_cancelled)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for token in &self.tokens {
            let mut waited_for = lock(&token.0.waited_for);
            if let Some(index) = waited_for.iter().position(|machine| Weak::ptr_eq(machine, &self.machine)) {
                waited_for.swap_remove(index);
            }
        }
    }
}

//! The end of the prompt: why it is no longer needed, and how the editor notices while it waits for keys.

use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, getpid, kill_process};

/// Why the prompt is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptEnd {
    /// There is nobody to speak with.
    Disconnected,
    /// This signal ends us.
    Signalled(i32),
}

/// What all who wait for the end of the prompt share. What came first stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<OnceLock<PromptEnd>>);

impl Ending {
    /// Why, once it is.
    pub(crate) fn get(&self) -> Option<PromptEnd> {
        self.0.get().copied()
    }

    /// Ends the prompt.
    pub(crate) fn begin(&self, why: PromptEnd) {
        if self.0.set(why).is_ok() {
            wake();
        }
    }

    /// Has the editor look up if it is to: to be called when it has begun to wait, for one that was woken too early.
    pub(crate) fn remind(&self) {
        if self.get().is_some() {
            wake();
        }
    }
}

/// While the editor waits, it drops the line on SIGINT, and for nothing else that is not a key. At other times that
/// is only received by `watch_signals`.
fn wake() {
    // It does not fail for ourselves.
    let _ = kill_process(getpid(), Signal::INT);
}

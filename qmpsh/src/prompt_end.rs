//! End of the prompt: its reason, and the wake-up of the editor that waits for keys.

use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, getpid, kill_process};

/// Why the prompt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptEnd {
    /// The monitor is closed, or the machine has ended.
    Disconnected,
    /// This signal ends the shell.
    Signalled(i32),
}

/// Returns the exit code for a signal, as shells define it: 128 + its number.
pub(crate) fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The end of the prompt, shared by its threads. The first reason stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<OnceLock<PromptEnd>>);

impl Ending {
    /// Returns the reason. `None` means that the prompt goes on.
    pub(crate) fn get(&self) -> Option<PromptEnd> {
        self.0.get().copied()
    }

    /// Ends the prompt for a reason, unless it ends already.
    pub(crate) fn begin(&self, why: PromptEnd) {
        if self.0.set(why).is_ok() {
            wake();
        }
    }

    /// Wakes the editor if the prompt ends. The editor calls this before it waits for keys: earlier wake-ups are lost.
    pub(crate) fn remind(&self) {
        if self.get().is_some() {
            wake();
        }
    }
}

/// Sends SIGINT to this process. While the editor waits, only a key or SIGINT makes it return. At other times only
/// `watch_signals` receives the signal.
fn wake() {
    // A process may always signal itself (`kill(2)`).
    let _ = kill_process(getpid(), Signal::INT);
}

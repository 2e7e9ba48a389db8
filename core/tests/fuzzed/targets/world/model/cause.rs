//! Prediction of the cause of an end.

use qemu_machine_core::{Cause, ExitStatus, Rung, SignalName, UntrustedText};

use super::super::action::{Happening, Reason, Way};
use super::{Model, Run};

impl Model {
    /// Returns the cause of the end of a process that was launched and kept the rules. `None` means that the model
    /// cannot know it.
    pub(super) fn cause(&self, rungs: &[Rung]) -> Option<Cause> {
        let run = &self.run;
        let climbed = |rung| rungs.contains(&rung);
        if self.setup.way.is_attached() || !run.was_running || run.is_launch_odd || self.is_odd() {
            return None;
        }
        let code = match run.exited? {
            ExitStatus::Signal { name: SignalName::Kill, .. } if climbed(Rung::Kill) => {
                return Some(Cause::Asked(Rung::Kill));
            }
            ExitStatus::Signal { name: SignalName::Term, .. } if climbed(Rung::Terminate) => {
                return Some(Cause::Asked(Rung::Terminate));
            }
            ExitStatus::Signal { number, .. } => return Some(Cause::Signal { number: Some(number), sender: None }),
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Unknown => None,
        };
        let reason = run.events.iter().rev().find_map(|event| match event {
            Happening::Shutdown(Reason(reason)) => Some(*reason),
            _ => None,
        });
        let is_by_guest = match reason {
            Some("guest-shutdown") => true,
            Some("host-qmp-quit" | "host-signal") => false,
            _ => code.is_some_and(|code| code > 1),
        };
        // The device exits with an odd status (QEMU, `hw/misc/debugexit.c`, `debug_exit_write`).
        if let Some(code) = code.filter(|code| self.setup.way == Way::Inherited && is_by_guest && code & 1 == 1) {
            return Some(Cause::DebugExit(code.unsigned_abs() >> 1));
        }
        Some(match (reason, code) {
            (Some("host-qmp-quit"), _) if !run.quit_came_first? => Cause::QuitByOther,
            (Some("host-qmp-quit"), _) if run.quit_accepted => Cause::Asked(Rung::Quit),
            (Some("host-qmp-quit"), _) => Cause::QuitByUnknown,
            (Some("guest-shutdown"), _) if run.button_pressed || climbed(Rung::PowerDown) => {
                Cause::Asked(Rung::PowerDown)
            }
            (Some("guest-shutdown"), _) if run.is_button_pressed_by_other() => Cause::PowerButton,
            (Some("guest-shutdown"), _) => Cause::PowerOff,
            (Some("guest-reset"), _) => Cause::Reset,
            (Some("guest-panic"), _) => Cause::Panic,
            (Some("host-signal"), _) if climbed(Rung::Terminate) => Cause::Asked(Rung::Terminate),
            (Some("host-signal"), _) if run.quit_accepted && run.quit_came_first? => Cause::Asked(Rung::Quit),
            (Some("host-signal"), _) => Cause::Signal { number: None, sender: None },
            (Some(other), _) => Cause::Other(UntrustedText::from_utf8_lossy(other.as_bytes())),
            (None, _) if run.quit_accepted => Cause::Asked(Rung::Quit),
            (None, Some(0)) if climbed(Rung::Terminate) => Cause::Asked(Rung::Terminate),
            (None, None) if climbed(Rung::Kill) => Cause::Asked(Rung::Kill),
            (None, Some(code)) => Cause::Exit(code),
            (None, None) => Cause::Unknown,
        })
    }
}

impl Run {
    /// Returns whether the power button was pressed since the last reset.
    fn is_button_pressed_by_other(&self) -> bool {
        let since = self.events.iter().rev().take_while(|event| **event != Happening::Reset);
        since.into_iter().any(|event| *event == Happening::PowerDown)
    }
}

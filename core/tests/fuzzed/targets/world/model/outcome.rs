//! Check of the outcome of a run against what happened in it.

use qemu_machine_core::{Cause, ExitStatus, Outcome};

use super::super::action::{Happening, Reason, Way};
use super::Model;

impl Model {
    /// Checks the one outcome of a run.
    pub(in super::super) fn ended(&mut self, outcome: &Outcome) {
        self.ends += 1;
        assert_eq!(self.ends, self.runs, "one end for each run");
        self.outcome = Some(outcome.clone());
        let (run, attached) = (&self.run, self.setup.way.is_attached());
        assert!(outcome.rungs.is_sorted() && outcome.rungs.windows(2).all(|two| two[0] != two[1]), "{outcome:?}");
        if run.is_host_odd {
            return;
        }
        assert_eq!(outcome.exit, run.exited, "{run:?}");
        let has_reported = |reason| run.events.contains(&Happening::Shutdown(Reason(reason))) || run.is_peer_odd;
        let is_allowed = match &outcome.cause {
            Cause::NotStarted => !run.spawned,
            Cause::LaunchFailed => run.spawned && !run.was_running,
            // A `quit` of the caller that was sent during the launch may end it.
            Cause::Asked(_) => run.asked_by_command || run.is_ending && !outcome.rungs.is_empty(),
            Cause::Disconnected if attached => run.may_disconnect || !run.was_running,
            Cause::Disconnected => self.setup.way == Way::Outliving && run.may_disconnect,
            // An address that could not be dialled counts as well.
            Cause::HungUp => attached && (run.closed || run.is_launch_odd),
            Cause::Exit(code) => run.exited == Some(ExitStatus::Code(*code)),
            Cause::DebugExit(value) => {
                // The device exits with an odd status (QEMU, `hw/misc/debugexit.c`); a real one has eight bits.
                let is_of = |code: i32| code & 1 == 1 && (code >> 8 != 0 || code >> 1 == *value as i32);
                self.setup.way == Way::Inherited && matches!(run.exited, Some(ExitStatus::Code(code)) if is_of(code))
            }
            Cause::Signal { number: Some(signal), .. } => {
                matches!(run.exited, Some(ExitStatus::Signal { number, .. }) if number == *signal)
            }
            Cause::PowerOff | Cause::PowerButton => has_reported("guest-shutdown"),
            Cause::Panic => has_reported("guest-panic"),
            Cause::Reset => has_reported("guest-reset"),
            Cause::QuitByOther | Cause::QuitByUnknown => has_reported("host-qmp-quit"),
            Cause::Other(_) => has_reported("host-ui"),
            Cause::Unkillable => run.exited.is_none(),
            _ => true,
        };
        if let Some(expected) = self.cause(&outcome.rungs) {
            assert_eq!(outcome.cause, expected, "{run:?}");
        }
        assert!(is_allowed, "{:?} is not allowed in {run:?}", outcome.cause);
    }

    /// Returns the number of commands of this run that ended without a reply, if the model saw all of them.
    pub(in super::super) fn unanswered(&self) -> Option<usize> {
        (!self.run.disowned).then_some(self.run.unanswered)
    }
}

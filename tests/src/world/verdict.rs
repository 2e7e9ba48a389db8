//! Check of an outcome against the run that it ends.

use qemu_machine_core::{Cause, Effect, ExitStatus, LaunchError, LaunchFailure, Moment, Outcome, Phase, Rung, Signal};

use super::World;
use super::bounds::HANG_UP;
use super::ending::End;

impl World {
    /// Handles the notice that a run has ended.
    pub(super) fn ended(&mut self) {
        let Some(outcome) = self.machine.outcome().cloned() else {
            return self.scene.fail("the run ended without an outcome");
        };
        self.scene.tell(format!("outcome: {}", outcome.cause));
        self.scene.demand(!self.bounds.ended, || "the run ended twice".into());
        self.bounds.ended = true;
        let result = self.judge(&outcome);
        self.scene.check(result);
        self.note_if(outcome.cause == Cause::Unkillable, "unkillable");
        self.note_if(matches!(outcome.cause, Cause::Asked(Rung::PowerDown)), "power button obeyed");
    }

    fn judge(&mut self, outcome: &Outcome) -> Result<(), String> {
        self.host.check_end(&self.scene)?;
        self.witness.check(&self.machine)?;
        self.check_counters()?;
        let causes = self.causes();
        expect(causes.contains(&outcome.cause), || format!("cause {:?}, not {causes:?}", outcome.cause))?;
        expect(outcome.exit == self.host.exited, || format!("exit {:?}", outcome.exit))?;
        let (said, told) = (&outcome.last_events, &self.witness.telling);
        let is_right =
            said.len() == told.len() && said.iter().zip(told).all(|(event, number)| self.witness.is(event, *number));
        expect(is_right, || format!("last events {said:?}, not numbers {told:?}"))?;
        let least = self.ledger.unanswered;
        let most = least + self.ledger.unseen;
        expect((least..=most).contains(&outcome.unanswered), || {
            format!("{} commands without a reply, not {least} to {most}", outcome.unanswered)
        })?;
        expect(outcome.faults.len() == self.host.faults, || format!("faults {:?}", outcome.faults))?;
        let log = self.host.log_text(self.scene.style.limits.log);
        expect(outcome.log == log, || format!("log {:?}, not {log:?}", outcome.log))?;
        for (index, (_, text)) in outcome.consoles.iter().enumerate() {
            let words = self.witness.last_words(index);
            expect(*text == words, || format!("last words of console {index} {text:?}, not {words:?}"))?;
        }
        self.judge_launch()
    }

    /// Checks that unexpected replies are counted, and no others.
    fn check_counters(&self) -> Result<(), String> {
        let counters = self.machine.session().counters();
        let said = (counters.unmatched, counters.nameless);
        // No nameless errors: here each error without an id answers a raw command, which is in flight until then.
        let told = (self.ledger.doubled, 0);
        expect(said == told, || format!("doubled, nameless: {said:?}, not {told:?}"))?;
        let (least, most) = (self.ledger.late, self.ledger.late + self.ledger.ladder);
        expect((least..=most).contains(&counters.late), || format!("{} late, not {least} to {most}", counters.late))?;
        expect(counters.malformed + counters.too_large == 0, || format!("{counters:?}"))
    }

    fn ordered(&self, signal: Signal) -> bool {
        self.host.ordered(&Effect::Signal(signal))
    }

    /// Returns the possible causes: several where no observer can tell them apart.
    fn causes(&self) -> Vec<Cause> {
        let Some(exit) = self.host.exited else {
            let is_unkillable = self.host.spawned == Some(true) && self.bounds.is_unkillable(self.scene.now);
            return vec![if is_unkillable { Cause::Unkillable } else { Cause::NotStarted }];
        };
        match (exit, self.qemu.end) {
            (ExitStatus::Signal { number, .. }, Some(End::Killed { by_us } | End::Terminated { by_us })) => {
                let gave_up = matches!(self.launch_failure(), Some(failure) if !is_cancelled(&failure));
                let asked = match number {
                    9 if gave_up => Cause::LaunchFailed,
                    9 => Cause::Asked(Rung::Kill),
                    _ => Cause::Asked(Rung::Terminate),
                };
                let ordered = self.ordered(if number == 9 { Signal::Kill } else { Signal::Terminate });
                // Two simultaneous signals of the same number cannot be told apart.
                let by_other = (!by_us).then_some(by_signal(number));
                ordered.then_some(asked).into_iter().chain(by_other).collect()
            }
            (ExitStatus::Signal { number, .. }, _) => vec![by_signal(number)],
            (ExitStatus::Code(_), Some(End::DebugExit(value))) => vec![Cause::DebugExit(value)],
            (ExitStatus::Code(code), end) => self.causes_of_exit(code, end),
            // In this world no other process reaps QEMU.
            (ExitStatus::Unknown, _) => Vec::new(),
        }
    }

    fn causes_of_exit(&self, code: i32, end: Option<End>) -> Vec<Cause> {
        let terminated = self.ordered(Signal::Terminate).then_some(Cause::Asked(Rung::Terminate));
        match self.witness.shutdown_reason().as_deref() {
            // No other client sends a `quit` in this world.
            Some("host-qmp-quit") if self.witness.quit_returned => vec![Cause::Asked(Rung::Quit)],
            Some("host-qmp-quit") => vec![Cause::QuitByUnknown],
            // A power-off of the guest's own and one after the power button look the same.
            Some("guest-shutdown") => vec![Cause::PowerOff, Cause::Asked(Rung::PowerDown)],
            Some("guest-reset") => vec![Cause::Reset],
            Some("guest-panic") => vec![Cause::Panic],
            Some("host-signal") => match end {
                Some(End::Terminated { by_us: true }) => vec![Cause::Asked(Rung::Terminate)],
                // A signal after an accepted `quit` replaces its reason.
                _ if self.witness.quit_returned => terminated.into_iter().chain([Cause::Asked(Rung::Quit)]).collect(),
                _ => terminated.into_iter().chain([Cause::Signal { number: None, sender: None }]).collect(),
            },
            Some(other) => vec![Cause::Other(other.into())],
            None if self.witness.quit_returned => vec![Cause::Asked(Rung::Quit)],
            None => terminated.filter(|_| code == 0).into_iter().chain([Cause::Exit(code)]).collect(),
        }
    }

    fn launch_failure(&self) -> Option<LaunchFailure> {
        match self.machine.launched() {
            Some(Err(LaunchError::Failed { failure, .. })) => Some(failure),
            _ => None,
        }
    }

    /// Checks the result of the launch.
    fn judge_launch(&mut self) -> Result<(), String> {
        let is_ready = self.bounds.ready_at.is_some();
        let failure = match self.machine.launched() {
            Some(Ok(())) => return expect(is_ready, || "the launch succeeded, but there was no notice `Ready`".into()),
            Some(Err(LaunchError::Failed { failure, .. })) if !is_ready => failure,
            other => return Err(format!("the machine reports the launch result {other:?}")),
        };
        let at = self.bounds.failed_at.unwrap_or(self.scene.now);
        let phase = self.bounds.launching.unwrap_or(Phase::Starting);
        let is_right = match &failure {
            LaunchFailure::Host(_) => self.host.broke_launch,
            LaunchFailure::Exited(said) => *said == phase && self.host.exited.is_some(),
            LaunchFailure::Hung(said) => *said == phase && self.hung_at(at),
            LaunchFailure::TimedOut(said) => *said == phase && self.bounds.launch_until() == Some(at),
            LaunchFailure::Refused(_) => self.bounds.declined,
            LaunchFailure::Cancelled(said) => *said == phase && self.bounds.asked,
            _ => false,
        };
        self.scene.seen.note(match failure {
            LaunchFailure::Exited(Phase::Connecting) => "died before the monitor was connected",
            LaunchFailure::Exited(Phase::Greeting) => "died before the greeting",
            LaunchFailure::Exited(Phase::Negotiating) => "died before the reply to the negotiation",
            LaunchFailure::Hung(_) => "hung up in the launch",
            LaunchFailure::TimedOut(_) => "launch timed out",
            LaunchFailure::Refused(_) => "launch refused",
            LaunchFailure::Cancelled(_) => "launch cancelled",
            _ => "launch failed on the host",
        });
        expect(is_right, || format!("the launch failed by {failure:?} at {at:?}, it was in {phase:?}"))
    }

    /// Returns whether the grace for a monitor that closed during the launch ends at this time.
    fn hung_at(&self, at: Moment) -> bool {
        let grace = self.bounds.closed_at.map(|since| since.after(HANG_UP));
        let until = self.bounds.launch_until();
        grace.is_some_and(|grace| until.map_or(grace, |until| until.min(grace)) == at)
    }
}

fn is_cancelled(failure: &LaunchFailure) -> bool {
    matches!(failure, LaunchFailure::Cancelled(_))
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Returns the cause for a signal from an unknown sender.
fn by_signal(number: i32) -> Cause {
    Cause::Signal { number: Some(number), sender: None }
}

//! Clean-up of a failed procedure: it cancels the job that it has started, and reports a job that it could not cancel.

use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::super::{Created, ProcedureError, Remnant, Undo};
use super::{Asked, FollowJob, JobEnd, JobError, Over, Step};
use crate::commands::{Job, QueryJobs};
use crate::error::{CommandError, WaitError};
use crate::fault::Refusal;
use crate::procedure;
use crate::wait::Wait;

/// Why the procedure has failed, and how far it is in cancelling its job.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    error: ProcedureError,
    /// Whether the time for the clean-up has begun: the deadline has passed, or the run was cancelled.
    is_late: bool,
    /// Whether QEMU has accepted to cancel the job.
    accepted: bool,
    /// Why QEMU has refused to cancel the job. The job may have ended in the meantime, so `query-jobs` decides.
    refusal: Option<Refusal>,
}

impl Stop {
    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// Returns the result of the procedure, when its job has ended in this way.
    pub(super) fn end(&self, end: Result<JobEnd, JobError>) -> Result<JobEnd, JobError> {
        match end {
            // It was faster than its cancellation.
            Ok(JobEnd::Completed) | Err(JobError::Failed(_)) if !self.accepted => end,
            _ => Err(self.error.clone().into()),
        }
    }
}

impl FollowJob {
    /// Ends the procedure with this error. A job that it has started is cancelled first, unless that is what has
    /// failed.
    pub(super) fn fail(&mut self, error: ProcedureError) -> Step {
        let is_late = is_late(&error);
        if let Some(stop) = self.stop.as_mut().filter(|stop| is_late && !stop.is_late) {
            stop.is_late = true;
            return self.ask(Asked::Jobs, &QueryJobs);
        }
        if matches!(error, ProcedureError::Wait(WaitError::Ended(_))) {
            // The job has ended with QEMU.
            let error = self.stop.as_ref().map_or(error, |stop| stop.error.clone());
            return procedure::Output::Done(Err(error.into()));
        }
        if self.stop.is_some() || (self.owns && self.evidence.seen && error.is_disconnected()) {
            return self.report_job(error);
        }
        if !self.owns {
            return procedure::Output::Done(Err(error.into()));
        }
        let is_unknown = error.may_have_effect();
        let stop = |error| Some(Stop { error, is_late, accepted: false, refusal: None });
        match (self.evidence.seen, &self.over) {
            (true, Some(Over::Concluded)) => {
                self.stop = stop(error);
                self.change(Asked::Dismiss, "job-dismiss")
            }
            (true, _) => {
                self.stop = stop(error);
                self.change(Asked::Cancel, "job-cancel")
            }
            // QEMU executes the commands in their order, so its reply comes after the start of the job.
            (false, _) if is_unknown => {
                self.stop = stop(error);
                self.ask(Asked::Jobs, &QueryJobs)
            }
            (false, _) => procedure::Output::Done(Err(error.into())),
        }
    }

    /// Ends the procedure with the first error, and reports that the job stays, since this has failed.
    fn report_job(&self, why: ProcedureError) -> Step {
        let error = self.stop.as_ref().map_or_else(|| why.clone(), |stop| stop.error.clone());
        let job = Remnant { created: Created::Job(self.id.clone()), why };
        procedure::Output::Done(Err(error.with(vec![job]).into()))
    }

    /// Cancels a job that can still be cancelled, or goes on waiting for its end.
    pub(super) fn go_on_cancelling(&mut self) -> Step {
        let Some(stop) = &mut self.stop else { return self.wait() };
        match stop.refusal.take() {
            Some(refusal) => self.report_job(CommandError::Refused(refusal).into()),
            None if stop.accepted => self.wait(),
            None => self.change(Asked::Cancel, "job-cancel"),
        }
    }

    /// Looks whether the job was started by the command that had no reply in time. Another client may have a job with
    /// this id, which must go on: then QEMU has refused the command, and announced no new job.
    pub(super) fn look_for_start(&mut self, job: Option<Job>) -> Step {
        self.over = Some(Over::Unstarted(job));
        let things = vec![self.status("created")];
        procedure::Output::Wait { from: self.begin.clone(), things, within: Some(core::time::Duration::ZERO) }
    }

    pub(super) fn found_start(&mut self, job: Option<Job>) -> Step {
        (self.over, self.evidence.seen) = (None, true);
        self.listed(job)
    }

    /// Ends the procedure: no event says that the job was started.
    pub(super) fn found_no_start(&mut self, job: Option<Job>) -> Step {
        match (&self.stop, job) {
            (Some(stop), Some(_)) if self.evidence.missed => self.report_job(stop.error.clone()),
            (Some(stop), _) => procedure::Output::Done(Err(stop.error.clone().into())),
            (None, _) => procedure::Output::Done(Err(JobError::Unknown)),
        }
    }

    /// Returns the command that cancels the job, or dismisses it, when the run is dropped. `None` means that the
    /// procedure has started none, or does not know.
    pub(super) fn cancel_when_dropped(&self) -> Option<Undo> {
        let id = json!({"id": self.id});
        let dismiss = ("job-dismiss", id.clone());
        let is_started = self.evidence.seen;
        if !self.owns || (!is_started && self.stop.is_some()) {
            return None;
        }
        match &self.over {
            Some(Over::Concluded) => Undo::new(&dismiss).ok(),
            Some(_) => None,
            None => {
                let cancel = Undo::new(&("job-cancel", id)).ok()?.then(self.status("concluded"), &dismiss).ok()?;
                Some(if is_started { cancel } else { cancel.if_created() })
            }
        }
    }

    /// Returns the commands that remove the job when the run is dropped, and then execute these, each after its event.
    /// A job that is not dismissed automatically may be concluded already, and then it cannot be cancelled (QEMU,
    /// `job.c`, `JobVerbTable`).
    pub(in crate::procedure) fn undo_and_then(&self, next: &[(Wait, (&'static str, Value))]) -> Vec<Undo> {
        let Some(cancel) = self.cancel_when_dropped() else { return Vec::new() };
        let dismiss = Undo::new(&("job-dismiss", json!({"id": self.id}))).ok();
        let dismiss = if cancel.needs_reply() { dismiss.map(Undo::if_created) } else { dismiss };
        let and_then =
            |undo: Undo| next.iter().try_fold(undo, |undo, (event, command)| undo.then(event.clone(), command)).ok();
        [Some(cancel), dismiss].into_iter().flatten().filter_map(and_then).collect()
    }
}

fn is_late(error: &ProcedureError) -> bool {
    matches!(
        error,
        ProcedureError::Wait(WaitError::TimedOut | WaitError::Cancelled)
            | ProcedureError::Command(CommandError::TimedOut(..) | CommandError::Cancelled)
    )
}

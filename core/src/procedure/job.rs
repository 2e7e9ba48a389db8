//! Procedure that follows a background job to its end, from its events and from `query-jobs`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde_json::{Value, json};

use super::{Procedure, ProcedureError};
use crate::command::Command;
use crate::commands::{Job, QueryJobs};
use crate::error::CommandError;
use crate::fault::{Misuse, Refusal};
use crate::payload::Payload;
use crate::procedure;
use crate::text::UntrustedText;
use crate::wait::{Found, Hit, Mark, Wait};
use crate::wire::Encoded;

/// Follows a job (mirror, backup, commit, stream, image creation, snapshot) to its end.
///
/// The procedure listens from before the command that starts the job: a short job may be over, and gone from
/// `query-jobs`, before the reply is read. A job that is concluded but not dismissed automatically is dismissed (QEMU,
/// `qapi/job.json`, `JobStatus`). The state comes from `JOB_STATUS_CHANGE` and the `BLOCK_JOB_…` events. When events
/// may have been missed, and for each [report](Self::report), the procedure sends `query-jobs`.
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::procedure::FollowJob;
/// use qemu_machine_core::json;
///
/// let mirror = ("blockdev-mirror", json!({"job-id": "copy", "device": "disk", "target": "other", "sync": "full"}));
/// let copy = FollowJob::of(&mirror, "copy")
///     .complete_when_ready()
///     .report(Duration::from_secs(1), |job| println!("{} of {}", job.current_progress, job.total_progress));
/// // vm.run(copy, Duration::from_secs(600))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct FollowJob {
    id: String,
    start: Option<Result<Encoded, Misuse>>,
    begun: bool,
    when_ready: WhenReady,
    finalizes: bool,
    report: Option<(Duration, Report)>,
    mark: Mark,
    asked: Asked,
    /// `Some` means that the job is over, and the queued events about its end are being read.
    over: Option<Over>,
    evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// QEMU no longer lists the job.
    Gone,
    /// The job waits to be dismissed.
    Concluded,
}

type Report = Box<dyn FnMut(&Job) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenReady {
    Stop,
    Complete,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Start,
    Jobs,
    /// `job-complete` or `job-finalize`.
    Change,
    Dismiss,
}

/// Facts about the job so far.
#[derive(Clone, Debug, Default)]
struct Evidence {
    /// QEMU started the job, listed it, or reported an event of it.
    seen: bool,
    cancelled: bool,
    aborted: bool,
    error: Option<String>,
    /// QEMU refused to complete or finalize the job. The job may have ended in the meantime, so `query-jobs` decides.
    refusal: Option<Refusal>,
}

/// How a job ended, or the state in which the procedure left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnd {
    /// The job succeeded.
    Completed,
    /// The block job was cancelled (`BLOCK_JOB_CANCELLED`): by a client, or because another job of its transaction
    /// failed.
    Cancelled,
    /// The job is synchronized and waits for `job-complete`. See [`FollowJob::complete_when_ready`].
    Ready,
    /// The job has finished its work and waits for `job-finalize`. See [`FollowJob::finalize_when_pending`].
    Pending,
}

/// Why a job did not succeed, or could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job failed, for the reason that QEMU gave.
    #[error("the job failed: {0}")]
    Failed(UntrustedText),
    /// QEMU lists no job with this id, and reported no event of one.
    #[error("QEMU has no job with this id")]
    Unknown,
    /// A command was refused, the deadline passed, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl FollowJob {
    /// Returns a procedure that follows an existing job with this id.
    pub fn named(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            start: None,
            begun: false,
            when_ready: WhenReady::Stop,
            finalizes: false,
            report: None,
            mark: Mark::default(),
            asked: Asked::Jobs,
            over: None,
            evidence: Evidence::default(),
        }
    }

    /// Returns a procedure that executes a command, and follows the job with this id that the command starts.
    pub fn of<C: Command>(command: &C, id: impl Into<String>) -> Self {
        Self { start: Some(Encoded::command(command)), asked: Asked::Start, ..Self::named(id) }
    }

    /// Completes the job (`job-complete`) when it is ready. A mirror needs this: it keeps copying until it is completed
    /// (QEMU, `qapi/job.json`, `JobStatus`). By default the procedure ends with [`JobEnd::Ready`].
    pub fn complete_when_ready(self) -> Self {
        Self { when_ready: WhenReady::Complete, ..self }
    }

    /// Finalizes the job (`job-finalize`) when it is pending, which it is if its `auto-finalize` is off. By default the
    /// procedure ends with [`JobEnd::Pending`].
    pub fn finalize_when_pending(self) -> Self {
        Self { finalizes: true, ..self }
    }

    /// Calls `report` with the state of the job at this interval. QEMU sends no events about progress, so each report
    /// costs a `query-jobs`. By default there are no reports.
    pub fn report(self, every: Duration, report: impl FnMut(&Job) + Send + 'static) -> Self {
        Self { report: Some((every, Box::new(report))), ..self }
    }

    fn ask<C: Command>(&mut self, asked: Asked, command: &C) -> procedure::Output<Result<JobEnd, JobError>> {
        self.asked = asked;
        procedure::Output::execute(command)
    }

    fn change(&mut self, asked: Asked, command: &str) -> procedure::Output<Result<JobEnd, JobError>> {
        let arguments = json!({"id": self.id});
        self.ask(asked, &(command, arguments))
    }

    /// Waits for the next event of the job, or for the next report.
    fn wait(&self) -> procedure::Output<Result<JobEnd, JobError>> {
        let of_jobs =
            ["JOB_STATUS_CHANGE", "BLOCK_JOB_PENDING"].map(|name| Wait::event(name).with(json!({"id": self.id})));
        let things = of_jobs.into_iter().chain(self.ends()).collect();
        let within = self.report.as_ref().map(|(every, _)| *every);
        procedure::Output::Wait { from: self.mark.clone(), things, within }
    }

    /// The events about the end of a block job. QEMU sends them before the job becomes `concluded` (QEMU, `job.c`,
    /// `job_finalize_single`).
    fn ends(&self) -> [Wait; 2] {
        ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"].map(|name| Wait::event(name).with(json!({"device": self.id})))
    }

    /// Reads the events about the end that have already arrived, without waiting for more.
    fn read_end(&mut self, over: Over) -> procedure::Output<Result<JobEnd, JobError>> {
        self.over = Some(over);
        procedure::Output::Wait { from: self.mark.clone(), things: self.ends().into(), within: Some(Duration::ZERO) }
    }

    fn close(&mut self, over: Over) -> procedure::Output<Result<JobEnd, JobError>> {
        match over {
            Over::Gone => procedure::Output::Done(self.end()),
            Over::Concluded => self.change(Asked::Dismiss, "job-dismiss"),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> procedure::Output<Result<JobEnd, JobError>> {
        match (self.asked, reply) {
            (Asked::Start, Ok(_)) => {
                self.evidence.seen = true;
                self.wait()
            }
            (Asked::Jobs, Ok(reply)) => match reply.reply::<Vec<Job>>() {
                Ok(jobs) => self.listed(jobs.into_iter().find(|job| job.id == self.id)),
                Err(error) => procedure::Output::Done(Err(error.into())),
            },
            (Asked::Change, Ok(_)) => self.wait(),
            (Asked::Change, Err(CommandError::Refused(refusal))) => {
                self.evidence.refusal = Some(refusal);
                self.ask(Asked::Jobs, &QueryJobs)
            }
            (Asked::Dismiss, Ok(_) | Err(CommandError::Refused(_))) => procedure::Output::Done(self.end()),
            (_, Err(error)) => procedure::Output::Done(Err(error.into())),
        }
    }

    /// Handles the job's entry in the reply of `query-jobs`. `None` means that the job is not listed.
    fn listed(&mut self, job: Option<Job>) -> procedure::Output<Result<JobEnd, JobError>> {
        let Some(job) = job else {
            return if self.evidence.seen {
                self.read_end(Over::Gone)
            } else {
                procedure::Output::Done(Err(JobError::Unknown))
            };
        };
        self.evidence.seen = true;
        if let Some((_, report)) = &mut self.report {
            report(&job);
        }
        if let Some(error) = &job.error {
            self.evidence.error = Some(error.clone());
        }
        match (job.status.as_str(), self.evidence.refusal.take()) {
            ("concluded", _) => self.read_end(Over::Concluded),
            (_, Some(refusal)) => procedure::Output::Done(Err(CommandError::Refused(refusal).into())),
            (status, None) => self.is_now(status),
        }
    }

    fn is_now(&mut self, status: &str) -> procedure::Output<Result<JobEnd, JobError>> {
        self.evidence.seen = true;
        match (status, self.when_ready) {
            ("ready", WhenReady::Stop) => procedure::Output::Done(Ok(JobEnd::Ready)),
            ("ready", WhenReady::Complete) => self.change(Asked::Change, "job-complete"),
            ("concluded", _) => self.ask(Asked::Jobs, &QueryJobs),
            ("null", _) => procedure::Output::Done(self.end()),
            ("aborting", _) => {
                self.evidence.aborted = true;
                self.wait()
            }
            _ => self.wait(),
        }
    }

    fn happened(&mut self, hit: Hit) -> procedure::Output<Result<JobEnd, JobError>> {
        let Found::Event(event) = hit.found else { return self.wait() };
        self.mark = hit.mark;
        let data: Value = event.read_data().unwrap_or_default();
        match event.name() {
            "BLOCK_JOB_CANCELLED" => self.evidence.cancelled = true,
            "BLOCK_JOB_COMPLETED" => {
                let error = data["error"].as_str().map(ToString::to_string);
                self.evidence.error = error.or(self.evidence.error.take());
            }
            _ => {}
        }
        if let Some(over) = self.over {
            return self.close(over);
        }
        match event.name() {
            // Events were dropped from the history before they were read. `query-jobs` has the state that they
            // announced.
            _ if hit.missed.events > 0 => self.ask(Asked::Jobs, &QueryJobs),
            "BLOCK_JOB_PENDING" if self.finalizes => self.change(Asked::Change, "job-finalize"),
            "BLOCK_JOB_PENDING" => procedure::Output::Done(Ok(JobEnd::Pending)),
            "JOB_STATUS_CHANGE" => self.is_now(data["status"].as_str().unwrap_or_default()),
            _ => self.wait(),
        }
    }

    fn end(&self) -> Result<JobEnd, JobError> {
        let Evidence { cancelled, aborted, error, .. } = self.evidence.clone();
        match error {
            _ if cancelled => Ok(JobEnd::Cancelled),
            Some(error) => Err(JobError::Failed(error.into())),
            None if aborted => Err(JobError::Failed("QEMU aborted it and gave no reason".into())),
            None => Ok(JobEnd::Completed),
        }
    }
}

impl Procedure for FollowJob {
    type Return = Result<JobEnd, JobError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (input, self.over) {
            (procedure::Input::Begun(_), _) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            (procedure::Input::Begun(mark), _) => {
                self.mark = mark;
                match self.start.take() {
                    Some(start) => procedure::Output::Execute(start),
                    None => self.ask(Asked::Jobs, &QueryJobs),
                }
            }
            (procedure::Input::Reply(reply), _) => self.replied(reply),
            (procedure::Input::Found(Ok(hit)), _) => self.happened(hit),
            (procedure::Input::Found(Err(_)) | procedure::Input::Later, Some(over)) => self.close(over),
            (procedure::Input::Found(Err(error)), None) => procedure::Output::Done(Err(error.into())),
            (procedure::Input::Later, None) => self.ask(Asked::Jobs, &QueryJobs),
        }
    }
}

impl fmt::Debug for FollowJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowJob").field("id", &self.id).field("asked", &self.asked).finish_non_exhaustive()
    }
}

//! Decides what a job is doing and how it ended, from what QEMU tells and what it says when asked.

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
use crate::wait::{Found, Hit, Mark, Wait};
use crate::wire::Encoded;

/// Follows a job (of a mirror, a backup, a commit, a stream, an image that is made, a snapshot) to its end.
///
/// It begins before the command that starts the job, so that a job which is over before anybody looks is no riddle. A job
/// that waits to be dismissed is dismissed. What QEMU tells comes from `JOB_STATUS_CHANGE` and the `BLOCK_JOB_…` events;
/// where those may have been missed, or a [report](Self::report) is wanted, QEMU is asked (`query-jobs`).
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
    /// It is over, and what was told of that is still to be read.
    over: Option<Over>,
    evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Gone,
    /// It waits to be dismissed.
    Concluded,
}

type Report = Box<dyn FnMut(&Job) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenReady {
    Stop,
    Complete,
}

/// Which command has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Start,
    Jobs,
    /// To complete it, or to finalize it.
    Change,
    Dismiss,
}

/// What is known of the job.
#[derive(Clone, Debug, Default)]
struct Evidence {
    /// It was there.
    seen: bool,
    cancelled: bool,
    aborted: bool,
    error: Option<String>,
    /// It was not to be completed, or finalized. It may have gone by itself.
    refusal: Option<Refusal>,
}

/// How a job ended, or where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnd {
    /// It did what it was to do.
    Completed,
    /// Somebody cancelled it.
    Cancelled,
    /// It keeps up with what is written, and waits to be completed (`job-complete`), which was not asked for.
    Ready,
    /// It has done everything, and waits to be finalized (`job-finalize`), which was not asked for.
    Pending,
}

/// Why a job is not at its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It failed, and this is what QEMU says of it.
    #[error("the job failed: {0}")]
    Failed(String),
    /// There is no such job, and nothing was heard of one.
    #[error("there is no job of this name")]
    Unknown,
    /// A command was refused, or the deadline passed, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl FollowJob {
    /// A job of this name that is there already.
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

    /// The job of this name that a command starts. The command is executed first.
    pub fn of<C: Command>(command: &C, id: impl Into<String>) -> Self {
        Self { start: Some(Encoded::command(command)), asked: Asked::Start, ..Self::named(id) }
    }

    /// Completes the job when it is ready (`job-complete`), as a mirror needs it.
    pub fn complete_when_ready(self) -> Self {
        Self { when_ready: WhenReady::Complete, ..self }
    }

    /// Finalizes the job when it waits for that (`job-finalize`), as it does when it was started with `auto-finalize` off.
    pub fn finalize_when_pending(self) -> Self {
        Self { finalizes: true, ..self }
    }

    /// Tells how far the job is, so often. QEMU does not tell of it, so it is asked.
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

    /// Waits for whatever is told of the job.
    fn wait(&self) -> procedure::Output<Result<JobEnd, JobError>> {
        let of_jobs =
            ["JOB_STATUS_CHANGE", "BLOCK_JOB_PENDING"].map(|name| Wait::event(name).with(json!({"id": self.id})));
        let things = of_jobs.into_iter().chain(self.ends()).collect();
        let within = self.report.as_ref().map(|(every, _)| *every);
        procedure::Output::Wait { from: self.mark.clone(), things, within }
    }

    /// What is told of the end of a block job, just before its last change.
    fn ends(&self) -> [Wait; 2] {
        ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"].map(|name| Wait::event(name).with(json!({"device": self.id})))
    }

    /// Reads what has been told of its end, without waiting for more.
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

    /// What QEMU says of the job when it is asked.
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
            // What was forgotten before anybody looked is in no event, but in the list, as far as it matters.
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
            Some(error) => Err(JobError::Failed(error)),
            None if aborted => Err(JobError::Failed("it was aborted, and QEMU does not say why".to_string())),
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

//! Procedure that follows a background job to its end, from its events and from `query-jobs`.

mod end;
mod log;
mod progress;
mod stop;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde_json::json;

use super::{Procedure, Undo};
use crate::command::Command;
use crate::commands::{Job, QueryJobs, QueryStatus, Status};
use crate::error::{CommandError, WaitError};
use crate::fault::{Misuse, Refusal};
use crate::payload::Payload;
use crate::procedure;
use crate::text::UntrustedText;
use crate::time::Moment;
use crate::wait::{Found, Hit, Mark, Wait};
use crate::wire::Encoded;

use end::Evidence;
use log::Log;
use progress::Report;
use stop::Stop;

pub use end::{JobEnd, JobError, JobFailure};
pub use progress::{JobProgress, PROGRESS_WINDOW};

/// Follows a job (mirror, backup, commit, stream, image creation, snapshot) to its end.
///
/// The procedure reads events from before the command that starts the job: a short job may be over, and gone from
/// `query-jobs`, before the reply is read. A job that is concluded but not dismissed automatically is dismissed (QEMU,
/// `qapi/job.json`, `JobStatus`). The state comes from `JOB_STATUS_CHANGE` and the `BLOCK_JOB_…` events. When events
/// may have been missed, and for each [report](Self::report), the procedure sends `query-jobs`.
///
/// A job that the procedure has [started](Self::of) does not outlive a failure of the procedure. Otherwise the nodes of
/// the job stay in use, and the next job on them is refused as busy. When the deadline passes, or the run is cancelled
/// or fails, the procedure cancels the job (`job-cancel`), waits for its end, and dismisses it, within
/// [`CLEAN_UP_WITHIN`](super::CLEAN_UP_WITHIN); the error is still that of the deadline. If the job completes first, it
/// has completed. If it does not end in that time, the error is
/// [`ProcedureError::Remains`](super::ProcedureError::Remains). When the run is dropped,
/// the machine sends `job-cancel` for it, and dismisses the job. A job that was only [joined](Self::named) is left as it
/// is.
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
    /// Whether the procedure starts the job, and so cancels it when it fails.
    owns: bool,
    begun: bool,
    when_ready: WhenReady,
    finalizes: bool,
    report: Option<Report>,
    /// The time of the last input.
    now: Moment,
    log: Option<Log>,
    /// Where the procedure began. The events about the end are read from here.
    begin: Mark,
    mark: Mark,
    asked: Asked,
    /// `Some` means that the job is over, or cannot be followed any longer, and the events about its end that have
    /// arrived are being read.
    over: Option<Over>,
    evidence: Evidence,
    /// QEMU refused to complete or finalize the job. The job may have ended in the meantime, so `query-jobs` decides.
    refusal: Option<Refusal>,
    /// `Some` means that the procedure has failed, and cancels its job.
    stop: Option<Stop>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Over {
    /// QEMU no longer lists the job.
    Gone,
    /// The job waits to be dismissed.
    Concluded,
    /// QEMU has ended, or closed its monitor.
    Lost(WaitError),
    /// The command that starts the job had no reply in time. The job's entry in the reply of `query-jobs` is kept while
    /// the events are searched for the start.
    Unstarted(Option<Job>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenReady {
    Stop,
    Complete,
    Cancel,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Start,
    Jobs,
    /// `job-complete` or `job-finalize`.
    Change,
    Cancel,
    Dismiss,
    /// `query-status`, after a snapshot was not loaded.
    RunState,
}

type Step = procedure::Output<Result<JobEnd, JobError>>;

impl FollowJob {
    /// Returns a procedure that follows an existing job with this id.
    pub fn named(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            start: None,
            owns: false,
            begun: false,
            when_ready: WhenReady::Stop,
            finalizes: false,
            report: None,
            now: Moment::ORIGIN,
            log: None,
            begin: Mark::default(),
            mark: Mark::default(),
            asked: Asked::Jobs,
            over: None,
            evidence: Evidence::default(),
            refusal: None,
            stop: None,
        }
    }

    /// Returns a procedure that executes a command, and follows the job with this id that the command starts.
    pub fn of<C: Command>(command: &C, id: impl Into<String>) -> Self {
        Self { start: Some(Encoded::command(command)), owns: true, asked: Asked::Start, ..Self::named(id) }
    }

    /// Completes the job (`job-complete`) when it is ready. A mirror needs this: it keeps copying until it is completed
    /// (QEMU, `qapi/job.json`, `JobStatus`). By default the procedure ends with [`JobEnd::Ready`].
    pub fn complete_when_ready(self) -> Self {
        Self { when_ready: WhenReady::Complete, ..self }
    }

    /// Cancels the job when it is ready (`block-job-cancel` without `force`). For a mirror this is a success: its target is
    /// then a copy of the disk at that moment, the guest stays on its disk, and the end is [`JobEnd::Completed`] (QEMU,
    /// `qapi/block-core.json`, `block-job-cancel`).
    pub fn cancel_when_ready(self) -> Self {
        Self { when_ready: WhenReady::Cancel, ..self }
    }

    /// Finalizes the job (`job-finalize`) when it is pending, which it is if its `auto-finalize` is off. By default the
    /// procedure ends with [`JobEnd::Pending`].
    pub fn finalize_when_pending(self) -> Self {
        Self { finalizes: true, ..self }
    }

    fn ask<C: Command>(&mut self, asked: Asked, command: &C) -> Step {
        self.asked = asked;
        procedure::Output::execute(command)
    }

    fn change(&mut self, asked: Asked, command: &str) -> Step {
        let arguments = json!({"id": self.id});
        self.ask(asked, &(command, arguments))
    }

    /// Waits for the next event of the job that matters, or for the next report. The other events are not waited for:
    /// between two waits, events may be evicted from a small history.
    fn wait(&self) -> Step {
        let statuses = ["ready", "concluded", "null"].map(|status| self.status(status));
        let pending = Wait::event("BLOCK_JOB_PENDING").with(json!({"id": self.id}));
        let things = self.ends().into_iter().chain(statuses).chain([pending]).collect();
        let within = self.report.as_ref().filter(|_| self.stop.is_none()).map(|(every, _)| *every);
        procedure::Output::Wait { from: self.mark.clone(), things, within }
    }

    fn status(&self, status: &str) -> Wait {
        Wait::event("JOB_STATUS_CHANGE").with(json!({"id": self.id, "status": status}))
    }

    /// The events about the end of a block job. QEMU sends them before the job becomes `concluded` (QEMU, `job.c`,
    /// `job_finalize_single`).
    fn ends(&self) -> [Wait; 2] {
        ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"].map(|name| Wait::event(name).with(json!({"device": self.id})))
    }

    /// Reads the events about the end that have already arrived, without waiting for more.
    fn read_end(&mut self, over: Over) -> Step {
        let from = if self.over.replace(over).is_some() { &self.mark } else { &self.begin };
        let things = self.ends().into_iter().chain([self.status("aborting")]).collect();
        procedure::Output::Wait { from: from.clone(), things, within: Some(Duration::ZERO) }
    }

    fn close(&mut self, over: Over) -> Step {
        match over {
            Over::Concluded => self.change(Asked::Dismiss, "job-dismiss"),
            Over::Gone => self.end(),
            Over::Unstarted(job) => self.found_no_start(job),
            Over::Lost(_) if self.evidence.has_ended() => self.end(),
            Over::Lost(error) => self.fail(error.into()),
        }
    }

    fn replied(&mut self, reply: Result<Payload, CommandError>) -> Step {
        match (self.asked, reply) {
            (Asked::Start, Ok(_)) => {
                self.evidence.seen = true;
                self.wait()
            }
            (Asked::Jobs, Ok(reply)) => match reply.reply::<Vec<Job>>() {
                Ok(jobs) => self.listed(jobs.into_iter().find(|job| job.id == self.id)),
                Err(error) => self.fail(error.into()),
            },
            (Asked::Change, Ok(_)) => self.wait(),
            (Asked::Cancel, Ok(_)) => {
                self.stop.iter_mut().for_each(Stop::accept);
                self.wait()
            }
            (Asked::Change, Err(CommandError::Refused(refusal))) => {
                self.refusal = Some(refusal);
                self.ask(Asked::Jobs, &QueryJobs)
            }
            (Asked::Cancel, Err(CommandError::Refused(refusal))) => {
                self.stop.iter_mut().for_each(|stop| stop.refuse(refusal.clone()));
                self.ask(Asked::Jobs, &QueryJobs)
            }
            (Asked::Dismiss, Ok(_) | Err(CommandError::Refused(_))) => self.end(),
            (Asked::RunState, reply) => {
                let status = reply.ok().and_then(|reply| reply.reply::<Status>().ok());
                self.finish(status.filter(|status| !status.running).map(|status| status.status))
            }
            // The wait ends with the reason, if QEMU has ended, and may find the end of the job.
            (asked, Err(CommandError::Disconnected(_))) if asked != Asked::Start => self.wait(),
            (_, Err(error)) => self.fail(error.into()),
        }
    }

    /// Handles the job's entry in the reply of `query-jobs`. `None` means that the job is not listed.
    fn listed(&mut self, job: Option<Job>) -> Step {
        if !self.evidence.seen && self.owns {
            return self.look_for_start(job);
        }
        let Some(job) = job else {
            return if self.evidence.seen {
                self.read_end(Over::Gone)
            } else {
                procedure::Output::Done(Err(JobError::Unknown))
            };
        };
        self.evidence.list(&job);
        if let Some((_, report)) = self.report.as_mut().filter(|_| self.stop.is_none()) {
            report(self.now, &job);
        }
        match (job.status.as_str(), self.refusal.take()) {
            ("concluded", _) => self.read_end(Over::Concluded),
            ("aborting" | "null", _) | (_, None) => self.is_now(&job.status),
            (_, Some(refusal)) => self.fail(CommandError::Refused(refusal).into()),
        }
    }

    fn is_now(&mut self, status: &str) -> Step {
        self.evidence.seen = true;
        match (status, self.when_ready) {
            ("concluded", _) => self.ask(Asked::Jobs, &QueryJobs),
            ("null", _) => self.read_end(Over::Gone),
            ("aborting", _) => {
                self.evidence.aborted = true;
                self.wait()
            }
            _ if self.stop.is_some() => self.go_on_cancelling(),
            ("ready", WhenReady::Stop) => procedure::Output::Done(Ok(JobEnd::Ready)),
            ("ready", WhenReady::Complete) => self.change(Asked::Change, "job-complete"),
            ("ready", WhenReady::Cancel) => {
                let arguments = json!({"device": self.id});
                self.ask(Asked::Change, &("block-job-cancel", arguments))
            }
            _ => self.wait(),
        }
    }

    fn happened(&mut self, hit: Hit) -> Step {
        let Found::Event(event) = &hit.found else { return self.wait() };
        let data = self.evidence.note(event, &hit);
        let missed = hit.missed.events > 0;
        let name = event.name().to_owned();
        self.mark = hit.mark;
        if let Some(over) = self.over.clone() {
            return self.read_end(over);
        }
        match &*name {
            // Events were dropped from the history before they were read. `query-jobs` has the state that they
            // announced.
            _ if missed => self.ask(Asked::Jobs, &QueryJobs),
            "BLOCK_JOB_PENDING" if self.stop.is_some() => self.wait(),
            "BLOCK_JOB_PENDING" if self.finalizes => self.change(Asked::Change, "job-finalize"),
            "BLOCK_JOB_PENDING" => procedure::Output::Done(Ok(JobEnd::Pending)),
            "JOB_STATUS_CHANGE" => self.is_now(data["status"].as_str().unwrap_or_default()),
            _ => self.wait(),
        }
    }

    /// Ends the procedure, when the job is over.
    fn end(&mut self) -> Step {
        let of_snapshot = self.evidence.kind.as_deref() == Some("snapshot-load");
        if of_snapshot && matches!(self.evidence.end(), Err(JobError::Failed(_))) && self.asked != Asked::RunState {
            return self.ask(Asked::RunState, &QueryStatus);
        }
        self.finish(None)
    }

    fn finish(&mut self, run_state: Option<String>) -> Step {
        let mut end = self.evidence.end();
        if let Err(JobError::Failed(failure)) = &mut end {
            failure.run_state = run_state.map(UntrustedText::from);
            failure.log = self.log.as_mut().map(Log::printed).unwrap_or_default().into();
        }
        procedure::Output::Done(match &self.stop {
            Some(stop) => stop.end(end),
            None => end,
        })
    }
}

impl Procedure for FollowJob {
    type Return = Result<JobEnd, JobError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (input, self.over.clone()) {
            (procedure::Input::Begun(_), _) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            (procedure::Input::Begun(mark), _) => {
                (self.begin, self.mark) = (mark.clone(), mark);
                self.log.iter_mut().for_each(Log::begin);
                match self.start.take() {
                    Some(start) => procedure::Output::Execute(start),
                    None => self.ask(Asked::Jobs, &QueryJobs),
                }
            }
            (procedure::Input::Reply(reply), _) => self.replied(reply),
            (procedure::Input::Found(Ok(_)), Some(Over::Unstarted(job))) => self.found_start(job),
            (procedure::Input::Found(Ok(hit)), _) => self.happened(hit),
            (procedure::Input::Missed(oldest), over) => {
                (self.mark, self.evidence.missed) = (oldest, true);
                match over {
                    Some(over) => self.close(over),
                    None => self.ask(Asked::Jobs, &QueryJobs),
                }
            }
            (procedure::Input::Found(Err(_)) | procedure::Input::Later, Some(over)) => self.close(over),
            (procedure::Input::Found(Err(error @ (WaitError::Ended(_) | WaitError::Disconnected))), None) => {
                self.read_end(Over::Lost(error))
            }
            (procedure::Input::Found(Err(error)), None) => self.fail(error.into()),
            (procedure::Input::Later, None) => self.ask(Asked::Jobs, &QueryJobs),
        }
    }

    fn step_at(&mut self, now: Moment, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.now = now;
        self.step(input)
    }

    fn undo(&self) -> Vec<Undo> {
        self.cancel_when_dropped().into_iter().collect()
    }
}

impl fmt::Debug for FollowJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowJob").field("id", &self.id).field("asked", &self.asked).finish_non_exhaustive()
    }
}

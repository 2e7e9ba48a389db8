//! End of a job: how it ended, why it failed, and the evidence for it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::super::{ProcedureError, Remnant, listed};
use crate::commands::Job;
use crate::error::WaitError;
use crate::event::Event;
use crate::text::{Printable, UntrustedText};
use crate::wait::Hit;
use serde_json::Value;

/// How a job ended, or the state in which the procedure left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnd {
    /// The job succeeded.
    Completed,
    /// The block job was cancelled (`BLOCK_JOB_CANCELLED`): by a client, by the end of QEMU (QEMU,
    /// `system/runstate.c`, `qemu_cleanup`), or because another job of its transaction failed.
    Cancelled,
    /// The job is synchronized and waits for `job-complete`. See
    /// [`FollowJob::complete_when_ready`](super::FollowJob::complete_when_ready).
    Ready,
    /// The job has finished its work and waits for `job-finalize`. See
    /// [`FollowJob::finalize_when_pending`](super::FollowJob::finalize_when_pending).
    Pending,
}

/// Why a job did not succeed, or could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job failed.
    #[error("the job failed: {0}")]
    Failed(JobFailure),
    /// QEMU lists no job with this id, and reported no event of one.
    #[error("QEMU has no job with this id")]
    Unknown,
    /// The job is over and dismissed, and whether it succeeded is not known: the events of its end were evicted from the
    /// history before they were read. A larger [`Limits::events`](crate::Limits::events) keeps them; so does a job with
    /// `auto-dismiss` off, which `query-jobs` lists until the procedure dismisses it.
    #[error(
        "the job is over, and its end was not seen: its events were evicted from the history; raise `Limits::events`, \
         or start the job with `auto-dismiss` off"
    )]
    Unobserved,
    /// A command was refused, the deadline passed, or the machine ended. A job that the procedure has started is
    /// cancelled then; [`ProcedureError::Remains`] says that this was not possible.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
    /// Another client cancelled the job of a [`Backup`](super::super::Backup), [`Mirror`](super::super::Mirror) or
    /// [`Snapshot`](super::super::Snapshot), or QEMU did, because it ended.
    #[error("the job was cancelled by another client, or because QEMU ended")]
    Cancelled,
    /// QEMU has no block node of this name, or one without a size, so that a target of this size cannot be created.
    #[error("QEMU has no block node `{0}` with a size")]
    UnknownNode(UntrustedText),
    /// The job did not succeed, and what it used could not be removed.
    #[error("{error}; still in QEMU: {}", listed(remains))]
    Remains {
        /// Why the job did not succeed.
        error: Box<JobError>,
        /// Objects that the procedure created and did not remove.
        remains: Vec<Remnant>,
    },
}

impl JobError {
    /// Returns what the procedure has created in QEMU and could not remove.
    #[must_use]
    pub fn remains(&self) -> &[Remnant] {
        match self {
            Self::Remains { remains, .. } => remains,
            Self::Procedure(error) => error.remains(),
            _ => &[],
        }
    }

    /// Returns the error of a procedure that failed with this one, and could not remove these things.
    pub(in crate::procedure) fn with(self, more: Vec<Remnant>) -> Self {
        match self {
            Self::Procedure(ProcedureError::Remains { error, mut remains }) => {
                remains.extend(more);
                Self::Procedure(ProcedureError::Remains { error, remains })
            }
            Self::Procedure(error) => Self::Procedure(error.with(more)),
            error => Self::Remains { error: Box::new(error), remains: more },
        }
    }

    /// Returns whether the machine has ended, so that nothing remains of it.
    pub(in crate::procedure) fn is_of_ended_machine(&self) -> bool {
        matches!(self, Self::Procedure(ProcedureError::Wait(WaitError::Ended(_))))
    }
}

/// Failure of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFailure {
    /// The reason that QEMU gave.
    pub reason: UntrustedText,
    /// The run state of the guest after a `snapshot-load` that failed, in which the guest does not run: `restore-vm`.
    /// QEMU may have loaded a part of the snapshot, and still accepts `cont`, which runs the guest in that mixed state
    /// (measured with QEMU 7.2.22). To start the guest over, send `system_reset` and `cont`; or load a snapshot that
    /// fits, and send `cont`. `None` for other jobs.
    pub run_state: Option<UntrustedText>,
    /// What QEMU printed since the job was started, if the procedure [reads the log](super::FollowJob::log). Empty
    /// otherwise.
    pub log: UntrustedText,
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(state) = &self.run_state {
            write!(
                f,
                "; the guest is left in run state {}, perhaps with a part of the snapshot: `system_reset` and then `cont` \
                 start it over, `cont` alone runs it as it is",
                state
            )?;
        }
        let mut lines = self.log.lines().filter(|line| !line.trim().is_empty()).peekable();
        if lines.peek().is_some() {
            f.write_str("\n  printed:")?;
        }
        lines.try_for_each(|line| write!(f, "\n    {}", Printable::log_line(line)))
    }
}

/// Facts about the job so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// QEMU started the job, listed it, or reported an event of it.
    pub(super) seen: bool,
    pub(super) cancelled: bool,
    pub(super) aborted: bool,
    /// `BLOCK_JOB_COMPLETED` arrived, or `query-jobs` listed the job as concluded.
    pub(super) is_known: bool,
    /// Events were evicted before they were read.
    pub(super) missed: bool,
    pub(super) error: Option<String>,
    /// The type of the job, such as `mirror`, if `query-jobs` listed it.
    pub(super) kind: Option<String>,
}

impl Evidence {
    /// Notes an entry in the reply of `query-jobs`.
    pub(super) fn list(&mut self, job: &Job) {
        self.seen = true;
        self.is_known |= job.status == "concluded";
        self.kind = Some(job.kind.clone());
        self.error = job.error.clone().or(self.error.take());
    }

    /// Notes an event of the job, and returns its data.
    pub(super) fn note(&mut self, event: &Event, hit: &Hit) -> Value {
        let data: Value = event.read_data().unwrap_or_default();
        self.missed |= hit.missed.events > 0;
        match event.name() {
            "BLOCK_JOB_CANCELLED" => self.cancelled = true,
            "BLOCK_JOB_COMPLETED" => {
                self.is_known = true;
                let error = data["error"].as_str().map(ToString::to_string);
                self.error = error.or(self.error.take());
            }
            "JOB_STATUS_CHANGE" => {
                self.seen = true;
                self.aborted |= data["status"] == "aborting";
            }
            _ => {}
        }
        data
    }

    /// Returns whether an event has announced the end.
    pub(super) fn has_ended(&self) -> bool {
        self.cancelled || self.is_known || self.error.is_some()
    }

    /// Returns how the job ended, when it is over.
    pub(super) fn end(&self) -> Result<JobEnd, JobError> {
        let failed =
            |reason: &str| Err(JobError::Failed(JobFailure { reason: reason.into(), ..JobFailure::default() }));
        match &self.error {
            _ if self.cancelled => Ok(JobEnd::Cancelled),
            Some(error) => failed(error),
            None if self.aborted => failed("QEMU aborted it and gave no reason"),
            None if self.missed && !self.is_known => Err(JobError::Unobserved),
            None => Ok(JobEnd::Completed),
        }
    }
}

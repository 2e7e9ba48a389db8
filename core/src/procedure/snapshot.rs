//! Procedure that saves, loads or deletes a snapshot of a machine inside of its images.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde_json::{Value, json};

use super::listed_node::ListedNode;
use super::{Created, FollowJob, JobEnd, JobError, JobProgress, Procedure, ProcedureError, Remnant, Undo};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::procedure;
use crate::time::Moment;
use crate::wait::{Mark, Wait};

/// Saves, loads or deletes a snapshot of a machine: its memory, the state of its devices, and the content of its disks
/// at one moment, inside of images that support that, such as qcow2 (QEMU, `qapi/migration.json`, `snapshot-save`).
/// This is what managers call a snapshot, or a checkpoint, of a running machine.
///
/// For the content of the disks alone, in files of its own, put an overlay on each
/// ([`ExternalSnapshot`](super::ExternalSnapshot)), or copy them ([`Backup`](super::Backup)).
///
/// QEMU executes the job in its main loop, and neither the guest runs nor the monitor answers meanwhile (QEMU,
/// `migration/savevm.c`, `snapshot_save_job_bh`; measured with QEMU 7.2.22): a deadline should leave time to write the
/// memory. The job cannot be cancelled, only its result can be removed. When saving fails, when the deadline passes,
/// and when the run is cancelled or dropped, a snapshot that was saved in spite of that is deleted again; what could
/// not be removed is in [`JobError::remains`]. A snapshot with this tag that existed before stays, and QEMU refuses to
/// replace it.
///
/// When loading fails, [`JobFailure`](super::JobFailure) contains the run state in which the guest is left.
///
/// ```
/// use qemu_machine_core::procedure::Snapshot;
///
/// let save = Snapshot::save("before-upgrade", ["disk", "data"]);
/// // vm.run(save, Duration::from_secs(300))?;
/// let load = Snapshot::load("before-upgrade", ["disk", "data"]);
/// // vm.run(load, Duration::from_secs(300))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct Snapshot {
    action: Action,
    tag: String,
    nodes: Vec<String>,
    state_node: Option<String>,
    id: String,
    progress: Option<(Duration, Report)>,
    log: Option<ReadLog>,
    stage: Stage,
    begin: Mark,
    job: Option<FollowJob>,
    /// Whether an image had a snapshot with this tag before.
    existed: bool,
    error: Option<JobError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Save,
    Load,
    Delete,
}

/// The step that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// `query-named-block-nodes`, before the snapshot is saved.
    Before,
    Job,
    /// `query-named-block-nodes`, after the snapshot was not saved.
    After,
    /// The job that deletes the snapshot again.
    Remove,
    Over,
}

type Report = Box<dyn FnMut(JobProgress) + Send>;
type ReadLog = Box<dyn FnMut() -> Vec<u8> + Send>;
type Step = procedure::Output<Result<(), JobError>>;

impl Snapshot {
    /// Returns a procedure that saves a snapshot with this tag in the images of these nodes, which should be all that
    /// the guest writes to. The first one holds the state of the machine, unless [`state_in`](Self::state_in) names
    /// another.
    pub fn save(tag: impl Into<String>, nodes: impl IntoIterator<Item: Into<String>>) -> Self {
        Self::new(Action::Save, tag.into(), nodes.into_iter().map(Into::into).collect())
    }

    /// Returns a procedure that loads the snapshot with this tag from the images of these nodes. The machine must have
    /// the configuration that it had when the snapshot was saved. If the guest runs, it is stopped, and runs on from
    /// the snapshot (QEMU, `migration/savevm.c`, `snapshot_load_job_bh`).
    pub fn load(tag: impl Into<String>, nodes: impl IntoIterator<Item: Into<String>>) -> Self {
        Self::new(Action::Load, tag.into(), nodes.into_iter().map(Into::into).collect())
    }

    /// Returns a procedure that deletes the snapshot with this tag from the images of these nodes. It succeeds without
    /// effect if there is none (measured with QEMU 7.2.22).
    pub fn delete(tag: impl Into<String>, nodes: impl IntoIterator<Item: Into<String>>) -> Self {
        Self::new(Action::Delete, tag.into(), nodes.into_iter().map(Into::into).collect())
    }

    fn new(action: Action, tag: String, nodes: Vec<String>) -> Self {
        Self {
            action,
            tag,
            nodes,
            state_node: None,
            id: action.command().to_string(),
            progress: None,
            log: None,
            stage: Stage::New,
            begin: Mark::default(),
            job: None,
            existed: false,
            error: None,
        }
    }

    /// Names the node whose image holds the state of the machine. It must be one of the nodes of the snapshot (QEMU,
    /// `block/snapshot.c`, `bdrv_all_find_vmstate_bs`).
    pub fn state_in(self, node: impl Into<String>) -> Self {
        Self { state_node: Some(node.into()), ..self }
    }

    /// Gives the job this id. By default it is the name of the command, such as `snapshot-save`. A job that deletes a
    /// snapshot again adds `-undo`.
    pub fn job_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Calls `report` with the progress at this interval, and when the job has ended. QEMU 7.2 counts one step for all,
    /// and does not answer during it.
    pub fn progress(self, every: Duration, report: impl FnMut(JobProgress) + Send + 'static) -> Self {
        Self { progress: Some((every, Box::new(report))), ..self }
    }

    /// Reads QEMU's log, as [`FollowJob::log`] does: the reason why a snapshot cannot be loaded is often only there.
    pub fn log(self, read: impl FnMut() -> Vec<u8> + Send + 'static) -> Self {
        Self { log: Some(Box::new(read)), ..self }
    }

    /// Returns a command of snapshots with its arguments.
    fn command(&self, action: Action, id: &str) -> (&'static str, Value) {
        let mut arguments = json!({"job-id": id, "tag": self.tag, "devices": self.nodes});
        if let (Action::Save | Action::Load, Some(members)) = (action, arguments.as_object_mut()) {
            let state = self.state_node.as_ref().or(self.nodes.first());
            members.extend(state.map(|node| ("vmstate".to_string(), node.as_str().into())));
        }
        (action.command(), arguments)
    }

    fn undo_id(&self) -> String {
        format!("{}-undo", self.id)
    }

    fn start(&mut self, now: Moment) -> Step {
        let mut job = FollowJob::of(&self.command(self.action, &self.id), self.id.clone());
        if let Some((every, report)) = self.progress.take() {
            job = job.progress(every, report);
        }
        if let Some(read) = self.log.take() {
            job = job.log(read);
        }
        self.follow_new(now, Stage::Job, job)
    }

    fn follow_new(&mut self, now: Moment, stage: Stage, job: FollowJob) -> Step {
        (self.stage, self.job) = (stage, Some(job));
        self.follow(now, procedure::Input::Begun(self.begin.clone()))
    }

    /// Passes an input to the job, and goes on when the job is over.
    fn follow(&mut self, now: Moment, input: procedure::Input) -> Step {
        let Some(job) = &mut self.job else { return self.done() };
        let end = match job.step_at(now, input) {
            procedure::Output::Execute(command) => return procedure::Output::Execute(command),
            procedure::Output::Wait { from, things, within } => {
                return procedure::Output::Wait { from, things, within };
            }
            procedure::Output::Write { console, bytes, from, things, within } => {
                return procedure::Output::Write { console, bytes, from, things, within };
            }
            procedure::Output::Done(end) => end,
        };
        self.job = None;
        let failed = match end {
            Ok(JobEnd::Completed) => return self.done(),
            Ok(_) => JobError::Cancelled,
            Err(error) => error,
        };
        if self.stage == Stage::Remove {
            return self.remain(failed.into());
        }
        let is_over = failed.is_of_ended_machine() || self.existed || self.action != Action::Save;
        self.error = Some(failed);
        if is_over {
            return self.done();
        }
        // A job that was cancelled too late has saved the snapshot.
        self.stage = Stage::After;
        ListedNode::query()
    }

    fn replied(&mut self, now: Moment, nodes: &[ListedNode]) -> Step {
        let mut ours = nodes.iter().filter(|node| self.nodes.iter().any(|name| node.is_named(name)));
        let exists = ours.any(|node| node.has_snapshot(&self.tag));
        match self.stage {
            Stage::Before => {
                self.existed = exists;
                self.start(now)
            }
            Stage::After if exists => {
                let id = self.undo_id();
                self.follow_new(now, Stage::Remove, FollowJob::of(&self.command(Action::Delete, &id), id))
            }
            _ => self.done(),
        }
    }

    /// Handles that a command of the procedure itself has failed.
    fn fail(&mut self, why: ProcedureError) -> Step {
        match self.stage {
            Stage::After => self.remain(why),
            _ => procedure::Output::Done(Err(why.into())),
        }
    }

    /// Ends the procedure with its first error, and reports that the snapshot may stay, since this has failed.
    fn remain(&mut self, why: ProcedureError) -> Step {
        let snapshot = Remnant { created: Created::Snapshot(self.tag.clone()), why: why.clone() };
        let error = self.error.take().unwrap_or_else(|| why.into());
        self.stage = Stage::Over;
        procedure::Output::Done(Err(error.with([snapshot].into())))
    }

    fn done(&mut self) -> Step {
        self.stage = Stage::Over;
        procedure::Output::Done(self.error.take().map_or(Ok(()), Err))
    }

    /// Returns the event that a job has this status.
    fn status(id: &str, status: &str) -> Wait {
        Wait::event("JOB_STATUS_CHANGE").with(json!({"id": id, "status": status}))
    }
}

impl Action {
    fn command(self) -> &'static str {
        match self {
            Self::Save => "snapshot-save",
            Self::Load => "snapshot-load",
            Self::Delete => "snapshot-delete",
        }
    }
}

impl Procedure for Snapshot {
    type Return = Result<(), JobError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.step_at(Moment::ORIGIN, input)
    }

    fn step_at(&mut self, now: Moment, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (self.stage, input) {
            (Stage::New, procedure::Input::Begun(mark)) => {
                self.begin = mark;
                if self.action != Action::Save {
                    return self.start(now);
                }
                self.stage = Stage::Before;
                ListedNode::query()
            }
            (_, procedure::Input::Begun(_)) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (Stage::Job | Stage::Remove, input) => self.follow(now, input),
            (_, procedure::Input::Reply(Ok(reply))) => match reply.reply::<Vec<ListedNode>>() {
                Ok(nodes) => self.replied(now, &nodes),
                Err(error) => self.fail(error.into()),
            },
            (_, procedure::Input::Reply(Err(error))) => self.fail(error.into()),
            // It waits for nothing else.
            (_, procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_)) => {
                self.fail(WaitError::FoundOther.into())
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        let id = self.undo_id();
        let delete = self.command(Action::Delete, &id);
        let dismiss = ("job-dismiss", json!({"id": id}));
        let concluded = Self::status(&id, "concluded");
        match (self.stage, &self.job) {
            (Stage::Job, Some(job)) if self.action == Action::Save && !self.existed => {
                job.undo_and_then(&[(Self::status(&self.id, "null"), delete), (concluded, dismiss)])
            }
            (Stage::Job, Some(job)) => job.undo_and_then(&[]),
            (Stage::After, _) => {
                Undo::new(&delete).and_then(|undo| undo.then(concluded, &dismiss)).into_iter().collect()
            }
            // The job goes on. It may be concluded already, or be so later, after a command that changes nothing.
            (Stage::Remove, _) => {
                let later = Undo::new(&"query-jobs").and_then(|undo| undo.then(concluded, &dismiss));
                [Undo::new(&dismiss), later].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Snapshot");
        debug.field("action", &self.action).field("tag", &self.tag).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

//! Procedure that puts an overlay on each of several disks at one moment: an external snapshot.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::{Value, json};

use super::super::listed_node::ListedNode;
use super::super::{Created, FollowJob, JobEnd, JobError, Procedure, ProcedureError, Remnant, Undo};
use super::{CopyTarget, delete};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::time::Moment;
use crate::wait::Mark;

/// Puts an overlay on each of several disks at one moment, while the guest runs: an external snapshot (QEMU,
/// `qapi/block-core.json`, `blockdev-snapshot`, in one `transaction`). From then on the guest writes to the overlays,
/// and the images of the disks stay as they were. It contains no memory: [`Snapshot`](super::super::Snapshot) does.
///
/// An overlay is an image of the size of the disk whose backing file is the disk. [`CopyTarget::file`] creates one (in
/// a format that can have a backing file, such as qcow2), and names in it the file that QEMU reports for the disk. Open
/// one of your own with [`CopyTarget::image`] and `backing` of `null`.
///
/// When the snapshot fails, and when the deadline passes or the run is cancelled or dropped, the overlays that the
/// procedure has opened are closed; what could not be removed is in [`JobError::remains`]. If the transaction had no
/// reply in time, it may have taken effect; then the guest uses the overlays, and they remain.
///
/// ```
/// use qemu_machine_core::procedure::{CopyTarget, ExternalSnapshot};
///
/// let snapshot = ExternalSnapshot::of("disk", CopyTarget::file("disk-1", "/overlays/disk-1.qcow2", "qcow2"))
///     .and("data", CopyTarget::file("data-1", "/overlays/data-1.qcow2", "qcow2"));
/// // vm.run(snapshot, Duration::from_secs(30))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct ExternalSnapshot {
    /// The disks with their overlays.
    disks: Vec<(String, CopyTarget)>,
    id: String,
    stage: Stage,
    begin: Mark,
    nodes: Vec<ListedNode>,
    /// How many overlays are open, or exist. The next one is being opened.
    ready: usize,
    /// The jobs that create the next overlay, the last one first.
    creation: Vec<(String, FollowJob)>,
    job: Option<FollowJob>,
    /// Why the snapshot failed.
    error: Option<JobError>,
    /// The overlays to close after a failure.
    closing: VecDeque<String>,
    remains: Vec<Remnant>,
}

/// The step that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// `query-named-block-nodes`, for the sizes and files of the disks.
    Nodes,
    Create,
    /// `blockdev-add`.
    Open,
    /// `query-named-block-nodes`, after `blockdev-add` had no reply in time.
    Look,
    Transaction,
    /// `blockdev-del`.
    Close,
}

type Step = procedure::Output<Result<(), JobError>>;

impl ExternalSnapshot {
    /// Returns a procedure that puts this overlay on the node of this name.
    pub fn of(node: impl Into<String>, overlay: CopyTarget) -> Self {
        Self {
            disks: [(node.into(), overlay)].into(),
            id: "external-snapshot".to_string(),
            stage: Stage::New,
            begin: Mark::default(),
            nodes: Vec::new(),
            ready: 0,
            creation: Vec::new(),
            job: None,
            error: None,
            closing: VecDeque::new(),
            remains: Vec::new(),
        }
    }

    /// Puts another overlay on another node at the same moment.
    pub fn and(mut self, node: impl Into<String>, overlay: CopyTarget) -> Self {
        self.disks.push((node.into(), overlay));
        self
    }

    /// Gives the jobs that create the overlays ids that begin so. By default it is `external-snapshot`; `-file` and
    /// `-format` are added.
    pub fn job_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    fn listed(&self, name: &str) -> Option<&ListedNode> {
        self.nodes.iter().find(|node| node.is_named(name))
    }

    /// Begins to open the next overlay, or executes the transaction.
    fn next(&mut self, now: Moment) -> Step {
        let Some((node, overlay)) = self.disks.get(self.ready) else { return self.transaction() };
        if !overlay.is_opened() {
            self.ready += 1;
            return self.next(now);
        }
        let creation = self.listed(node).and_then(|disk| Some(overlay.overlay(&self.id, disk.size()?, disk.backing())));
        match creation {
            Some(creation) => self.creation = creation,
            None => {
                let error = JobError::UnknownNode(node.as_str().into());
                return self.close_all(error);
            }
        }
        self.create(now)
    }

    fn create(&mut self, now: Moment) -> Step {
        if let Some((_, job)) = self.creation.pop() {
            (self.stage, self.job) = (Stage::Create, Some(job));
            return self.follow(now, procedure::Input::Begun(self.begin.clone()));
        }
        self.stage = Stage::Open;
        let arguments = self.disks.get(self.ready).map(|(_, overlay)| overlay.overlay_arguments());
        procedure::Output::execute(&("blockdev-add", arguments.unwrap_or_default()))
    }

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
        match end {
            Ok(JobEnd::Completed) => self.create(now),
            Ok(_) => self.close_all(JobError::Cancelled),
            Err(error) => self.close_all(error),
        }
    }

    fn transaction(&mut self) -> Step {
        self.stage = Stage::Transaction;
        let action = |(node, overlay): &(String, CopyTarget)| -> Value {
            json!({"type": "blockdev-snapshot", "data": {"node": node, "overlay": overlay.name()}})
        };
        let actions: Vec<_> = self.disks.iter().map(action).collect();
        procedure::Output::execute(&("transaction", json!({"actions": actions})))
    }

    fn opened(&self) -> impl Iterator<Item = &CopyTarget> {
        self.disks.iter().take(self.ready).map(|(_, overlay)| overlay).filter(|overlay| overlay.is_opened())
    }

    /// Closes the overlays that are open, after this failure.
    fn close_all(&mut self, error: JobError) -> Step {
        if !error.is_of_ended_machine() {
            self.closing = self.opened().map(|overlay| overlay.name().to_string()).collect();
        }
        self.error = Some(error);
        self.close()
    }

    fn close(&mut self) -> Step {
        self.stage = Stage::Close;
        match self.closing.front() {
            Some(node) => procedure::Output::execute(&delete(node)),
            None => self.done(),
        }
    }

    fn done(&mut self) -> Step {
        let remains = core::mem::take(&mut self.remains);
        procedure::Output::Done(match self.error.take() {
            Some(error) if remains.is_empty() => Err(error),
            Some(error) => Err(error.with(remains)),
            None => Ok(()),
        })
    }

    fn replied(&mut self, now: Moment, reply: Payload) -> Step {
        match self.stage {
            Stage::Nodes => match reply.reply() {
                Ok(nodes) => {
                    self.nodes = nodes;
                    self.next(now)
                }
                Err(error) => self.fail(error.into()),
            },
            Stage::Look => match reply.reply::<Vec<ListedNode>>() {
                Ok(nodes) => {
                    let name = self.disks.get(self.ready).map(|(_, overlay)| overlay.name());
                    let is_ours = name.is_some_and(|name| {
                        self.listed(name).is_none() && nodes.iter().any(|node| node.is_named(name))
                    });
                    self.ready += usize::from(is_ours);
                    let error = self.error.take().unwrap_or_else(|| WaitError::FoundOther.into());
                    self.close_all(error)
                }
                Err(error) => self.fail(error.into()),
            },
            Stage::Open => {
                self.ready += 1;
                self.next(now)
            }
            Stage::Close => {
                self.closing.pop_front();
                self.close()
            }
            Stage::New | Stage::Create | Stage::Transaction => self.done(),
        }
    }

    /// Handles that a command of the procedure itself has failed.
    fn fail(&mut self, why: ProcedureError) -> Step {
        let remnant = |node: String| Remnant { created: Created::Node(node), why: why.clone() };
        match self.stage {
            Stage::Open if why.may_have_effect() => {
                (self.stage, self.error) = (Stage::Look, Some(why.into()));
                ListedNode::query()
            }
            Stage::Look => {
                let node = self.disks.get(self.ready).map(|(_, overlay)| overlay.name().to_string());
                self.remains.extend(node.map(remnant));
                let error = self.error.take().unwrap_or_else(|| why.into());
                self.close_all(error)
            }
            Stage::Close => {
                let node = self.closing.pop_front();
                self.remains.extend(node.map(remnant));
                self.close()
            }
            _ => self.close_all(why.into()),
        }
    }
}

impl Procedure for ExternalSnapshot {
    type Return = Result<(), JobError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.step_at(Moment::ORIGIN, input)
    }

    fn step_at(&mut self, now: Moment, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (self.stage, input) {
            (Stage::New, procedure::Input::Begun(mark)) => {
                (self.begin, self.stage) = (mark, Stage::Nodes);
                ListedNode::query()
            }
            (_, procedure::Input::Begun(_)) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (Stage::Create, input) => self.follow(now, input),
            (_, procedure::Input::Reply(Ok(reply))) => self.replied(now, reply),
            (_, procedure::Input::Reply(Err(error))) => self.fail(error.into()),
            // It waits for nothing else.
            (_, procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_)) => {
                self.fail(WaitError::FoundOther.into())
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        let close = |node: &str| Undo::new(&delete(node)).ok();
        if self.stage == Stage::Close {
            // The first one is being closed.
            return self.closing.iter().skip(1).filter_map(|node| close(node)).collect();
        }
        let mut all: Vec<_> = match (self.stage, &self.job) {
            (Stage::Create, Some(job)) => job.undo_and_then(&[]),
            (Stage::Open, _) => {
                let next = self.disks.get(self.ready).and_then(|(_, overlay)| close(overlay.name()));
                next.map(Undo::if_created).into_iter().collect()
            }
            _ => Vec::new(),
        };
        // QEMU refuses to close an overlay that a guest uses.
        all.extend(self.opened().filter_map(|overlay| close(overlay.name())));
        all
    }
}

impl fmt::Debug for ExternalSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalSnapshot").field("disks", &self.disks).finish_non_exhaustive()
    }
}

//! Copy of a disk while QEMU has it open: the procedures for it, and the steps that they share.

mod backup;
mod external_snapshot;
mod mirror;
mod target;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};

use super::listed_node::ListedNode;
use super::{Created, FollowJob, JobEnd, JobError, JobProgress, ProcedureError, Remnant, Undo};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::time::Moment;
use crate::wait::{Mark, Wait};

pub use backup::Backup;
pub use external_snapshot::ExternalSnapshot;
pub use mirror::Mirror;
pub use target::CopyTarget;

/// Leftovers of a complete copy in QEMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The name of the target's node, if it is still open: it existed before, or the guest has moved to it. `None`
    /// means that the procedure has closed the node that it had opened.
    pub node: Option<String>,
    /// The node that the procedure has opened and could not close, and why. The copy is complete all the same.
    pub remains: Vec<Remnant>,
}

/// Steps of a copy: the target is created and opened, the job copies, the target is closed.
struct Copying {
    node: String,
    target: CopyTarget,
    id: String,
    command: &'static str,
    /// The arguments that the caller has chosen.
    arguments: Value,
    /// Whether the guest moves to the target.
    pivots: bool,
    progress: Option<(Duration, Report)>,
    stage: Stage,
    begin: Mark,
    /// The job that creates the target, or copies to it, with its id.
    job: Option<(String, FollowJob)>,
    /// The jobs that follow before the target is opened, the last one first.
    creation: Vec<(String, FollowJob)>,
    /// Whether a node had the name of the target before.
    existed: bool,
    /// Why the copy failed.
    error: Option<JobError>,
}

type Report = alloc::boxed::Box<dyn FnMut(JobProgress) + Send>;
type Step = procedure::Output<Result<Copied, JobError>>;

/// The step that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// `query-named-block-nodes`, for the size of the disk and the names of the nodes.
    Nodes,
    Create,
    /// `blockdev-add`.
    Open,
    /// `query-named-block-nodes`, after `blockdev-add` had no reply in time.
    Look,
    Copy,
    /// `blockdev-del`.
    Close,
}

impl Copying {
    fn new(command: &'static str, node: String, target: CopyTarget) -> Self {
        let id = format!("{}-{}", command.trim_start_matches("blockdev-"), node).replace(|c| !is_in_id(c), "_");
        Self {
            node,
            target,
            id,
            command,
            arguments: json!({"sync": "full"}),
            pivots: false,
            progress: None,
            stage: Stage::New,
            begin: Mark::default(),
            job: None,
            creation: Vec::new(),
            existed: false,
            error: None,
        }
    }

    /// Sets arguments of the command that the caller has chosen.
    fn set(&mut self, arguments: Value) {
        self.arguments = merged(self.arguments.take(), arguments);
    }

    fn step(&mut self, now: Moment, input: procedure::Input) -> Step {
        match (self.stage, input) {
            (Stage::New, procedure::Input::Begun(mark)) => {
                self.begin = mark;
                if !self.target.is_opened() {
                    return self.copy(now);
                }
                self.query(Stage::Nodes)
            }
            (_, procedure::Input::Begun(_)) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (Stage::Create | Stage::Copy, input) => self.follow(now, input),
            (_, procedure::Input::Reply(Ok(reply))) => self.replied(now, reply),
            (_, procedure::Input::Reply(Err(error))) => self.fail(error.into()),
            // It waits for nothing else.
            (_, procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_)) => {
                self.fail(WaitError::FoundOther.into())
            }
        }
    }

    fn query(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        ListedNode::query()
    }

    fn replied(&mut self, now: Moment, reply: Payload) -> Step {
        match self.stage {
            Stage::Nodes => match reply.reply::<Vec<ListedNode>>() {
                Ok(nodes) => self.prepare(now, &nodes),
                Err(error) => self.fail(error.into()),
            },
            Stage::Look => match reply.reply::<Vec<ListedNode>>() {
                Ok(nodes) if !self.existed && self.has_target(&nodes) => self.close(),
                Ok(_) => self.done(),
                Err(error) => self.fail(error.into()),
            },
            Stage::Open => self.copy(now),
            Stage::New | Stage::Create | Stage::Copy | Stage::Close => self.done(),
        }
    }

    fn has_target(&self, nodes: &[ListedNode]) -> bool {
        nodes.iter().any(|node| node.is_named(self.target.name()))
    }

    fn prepare(&mut self, now: Moment, nodes: &[ListedNode]) -> Step {
        self.existed = self.has_target(nodes);
        let size = nodes.iter().find(|node| node.is_named(&self.node)).and_then(ListedNode::size);
        match size {
            Some(size) => self.creation = self.target.creation(&self.id, size),
            None if self.target.is_created() => {
                self.error = Some(JobError::UnknownNode(self.node.as_str().into()));
                return self.done();
            }
            None => {}
        }
        self.create(now)
    }

    /// Starts the next job that creates the target, or opens the target.
    fn create(&mut self, now: Moment) -> Step {
        match self.creation.pop() {
            Some(job) => self.start(now, Stage::Create, job),
            None => {
                self.stage = Stage::Open;
                procedure::Output::execute(&("blockdev-add", self.target.arguments()))
            }
        }
    }

    fn copy(&mut self, now: Moment) -> Step {
        let fixed = json!({
            "job-id": self.id, "device": self.node, "target": self.target.name(), "auto-dismiss": false,
        });
        let command = (self.command, merged(self.arguments.take(), fixed));
        // Not every job becomes ready.
        let job = FollowJob::of(&command, self.id.clone()).finalize_when_pending();
        let job = if self.pivots { job.complete_when_ready() } else { job.cancel_when_ready() };
        let job = match self.progress.take() {
            Some((every, report)) => job.progress(every, report),
            None => job,
        };
        self.start(now, Stage::Copy, (self.id.clone(), job))
    }

    fn start(&mut self, now: Moment, stage: Stage, job: (String, FollowJob)) -> Step {
        (self.stage, self.job) = (stage, Some(job));
        self.follow(now, procedure::Input::Begun(self.begin.clone()))
    }

    /// Passes an input to the job, and goes on when the job is over.
    fn follow(&mut self, now: Moment, input: procedure::Input) -> Step {
        let Some((_, job)) = &mut self.job else { return self.done() };
        let end = match procedure::Procedure::step_at(job, now, input) {
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
        match (self.stage, end) {
            (Stage::Create, Ok(JobEnd::Completed)) => return self.create(now),
            (_, Ok(JobEnd::Completed)) => {}
            (_, Ok(_)) => self.error = Some(JobError::Cancelled),
            (_, Err(error)) => self.error = Some(error),
        }
        let is_ended = self.error.as_ref().is_some_and(JobError::is_of_ended_machine);
        let moves = self.pivots && self.error.is_none();
        let closes = self.stage == Stage::Copy && self.target.is_opened() && !moves && !is_ended;
        if closes { self.close() } else { self.done() }
    }

    fn close(&mut self) -> Step {
        self.stage = Stage::Close;
        procedure::Output::execute(&delete(self.target.name()))
    }

    /// Handles that a command of the copy itself has failed.
    fn fail(&mut self, why: ProcedureError) -> Step {
        let error = self.error.take();
        match self.stage {
            Stage::Open if why.may_have_effect() => {
                self.error = Some(why.into());
                self.query(Stage::Look)
            }
            Stage::Look | Stage::Close => {
                let remains = [Remnant { created: Created::Node(self.target.name().to_string()), why }].into();
                procedure::Output::Done(match error {
                    Some(error) => Err(error.with(remains)),
                    None => Ok(Copied { node: Some(self.target.name().to_string()), remains }),
                })
            }
            _ => procedure::Output::Done(Err(why.into())),
        }
    }

    fn done(&mut self) -> Step {
        let is_open = self.stage != Stage::Close;
        procedure::Output::Done(match self.error.take() {
            Some(error) => Err(error),
            None => Ok(Copied { node: is_open.then(|| self.target.name().to_string()), remains: Vec::new() }),
        })
    }

    fn undo(&self) -> Vec<Undo> {
        let delete = delete(self.target.name());
        let opened = self.target.is_opened().then_some(&delete);
        match (self.stage, &self.job) {
            (Stage::Create, Some((_, job))) => job.undo_and_then(&[]),
            (Stage::Copy, Some((id, job))) => {
                // The node is in use until the job is gone. There may be no job any more.
                let gone = Wait::event("JOB_STATUS_CHANGE").with(json!({"id": id, "status": "null"}));
                let then: Vec<_> = opened.iter().map(|delete| (gone.clone(), (*delete).clone())).collect();
                job.undo_and_then(&then).into_iter().chain(opened.and_then(|delete| Undo::new(delete).ok())).collect()
            }
            (Stage::Open, _) => Undo::new(&delete).map(Undo::if_created).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns the command that removes a node.
fn delete(node: &str) -> (&'static str, Value) {
    ("blockdev-del", json!({"node-name": node}))
}

/// Returns whether QEMU accepts a character in an id (QEMU, `util/id.c`, `id_wellformed`).
fn is_in_id(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_')
}

/// Returns the members of both objects; of the same name, those of the second. Arguments that are no object stay as
/// they are, and are refused when the command is encoded.
fn merged(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Object(mut first), Value::Object(second)) => {
            first.extend(second);
            Value::Object(first)
        }
        (Value::Null | Value::Object(_), second) => second,
        (first, _) => first,
    }
}

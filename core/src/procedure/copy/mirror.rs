//! Procedure that copies a disk as it is when the procedure ends, and can move the guest to the copy.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde_json::{Value, json};

use super::super::{JobError, JobProgress, Procedure, Undo};
use super::{Copied, CopyTarget, Copying};
use crate::procedure;
use crate::time::Moment;

/// Copies a disk while the guest writes to it, until the copy is the same as the disk (QEMU, `qapi/block-core.json`,
/// `blockdev-mirror`). Then the guest stays on its disk, and the copy is closed (`block-job-cancel`); or, with
/// [`pivot`](Self::pivot), the guest moves to the copy (`job-complete`).
///
/// When the copy fails, and when the deadline passes or the run is cancelled or dropped, the job is cancelled, and the
/// node that the procedure has opened is closed; what could not be removed is in [`JobError::remains`]. The guest is on
/// its disk then, unless it had moved already. A job that another client cancels is [`JobError::Cancelled`]; but one
/// that is ready and is cancelled without `force` has succeeded, without a pivot.
///
/// ```
/// use qemu_machine_core::procedure::{CopyTarget, Mirror};
///
/// let moving = Mirror::of("disk", CopyTarget::file("new-disk", "/faster/disk.qcow2", "qcow2")).pivot();
/// // let copied = vm.run(moving, Duration::from_secs(3600))?; // The guest uses `new-disk`.
/// // vm.execute(("blockdev-del", json!({"node-name": "disk"})))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct Mirror(Copying);

impl Mirror {
    /// Returns a procedure that copies the whole content of the node of this name.
    pub fn of(node: impl Into<String>, target: CopyTarget) -> Self {
        Self(Copying::new("blockdev-mirror", node.into(), target))
    }

    /// Moves the guest to the copy when it is the same as the disk. The node of the copy stays open, and so does the
    /// node of the disk, which no guest uses any longer: the caller closes it.
    pub fn pivot(mut self) -> Self {
        self.0.pivots = true;
        self
    }

    /// Copies only what the topmost image of the disk contains, and not what its backing files contain (`sync` is
    /// `top`).
    pub fn top(self) -> Self {
        self.arguments(json!({"sync": "top"}))
    }

    /// Adds arguments of `blockdev-mirror`, an object: `speed`, `copy-mode`, `on-source-error` and others. `job-id`,
    /// `device`, `target` and `auto-dismiss` are those of the procedure.
    pub fn arguments(mut self, arguments: Value) -> Self {
        self.0.set(arguments);
        self
    }

    /// Gives the job this id. By default it is `mirror-` and the name of the node. The jobs that create the target add
    /// `-file` and `-format`.
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// Calls `report` with the progress at this interval, and when the copy has ended. The creation of the target is
    /// not reported. Each report costs a `query-jobs`.
    pub fn progress(mut self, every: Duration, report: impl FnMut(JobProgress) + Send + 'static) -> Self {
        self.0.progress = Some((every, Box::new(report)));
        self
    }
}

impl Procedure for Mirror {
    type Return = Result<Copied, JobError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.step_at(Moment::ORIGIN, input)
    }

    fn step_at(&mut self, now: Moment, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.0.step(now, input)
    }

    fn undo(&self) -> Vec<Undo> {
        self.0.undo()
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("node", &self.0.node).field("target", &self.0.target).finish_non_exhaustive()
    }
}

//! Procedure that copies a disk as it is when the procedure begins.

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

/// Copies a disk as it is when the copy begins, while the guest writes to it (QEMU, `qapi/block-core.json`,
/// `blockdev-backup`). It is done when the target is complete and closed.
///
/// When the copy fails, and when the deadline passes or the run is cancelled or dropped, the job is cancelled, and the
/// node that the procedure has opened is closed; what could not be removed is in [`JobError::remains`]. A job that
/// another client cancels is [`JobError::Cancelled`].
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::procedure::{Backup, CopyTarget};
///
/// let backup = Backup::of("disk", CopyTarget::file("copy", "/backups/disk.qcow2", "qcow2"))
///     .progress(Duration::from_secs(1), |progress| println!("{} of {} bytes", progress.done, progress.total));
/// // vm.run(backup, Duration::from_secs(3600))?;
/// ```
#[must_use = "a procedure does nothing until it is run"]
pub struct Backup(Copying);

impl Backup {
    /// Returns a procedure that copies the whole content of the node of this name.
    pub fn of(node: impl Into<String>, target: CopyTarget) -> Self {
        Self(Copying::new("blockdev-backup", node.into(), target))
    }

    /// Copies only what the topmost image of the disk contains, and not what its backing files contain (`sync` is
    /// `top`).
    pub fn top(self) -> Self {
        self.arguments(json!({"sync": "top"}))
    }

    /// Copies only what the guest has written since the dirty bitmap of this name was created, or used for a backup
    /// that succeeded (`sync` is `incremental`). QEMU clears the bitmap when the backup succeeds, and keeps it
    /// otherwise (QEMU, `docs/interop/bitmaps.rst`). Use an [image](CopyTarget::image) whose backing file is the
    /// previous backup as the target.
    pub fn incremental(self, bitmap: impl Into<String>) -> Self {
        self.arguments(json!({"sync": "incremental", "bitmap": bitmap.into()}))
    }

    /// Adds arguments of `blockdev-backup`, an object: `speed`, `compress`, `on-source-error` and others. `job-id`,
    /// `device`, `target` and `auto-dismiss` are those of the procedure.
    pub fn arguments(mut self, arguments: Value) -> Self {
        self.0.set(arguments);
        self
    }

    /// Gives the job this id. By default it is `backup-` and the name of the node. The jobs that create the target add
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

impl Procedure for Backup {
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

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("node", &self.0.node).field("target", &self.0.target).finish_non_exhaustive()
    }
}

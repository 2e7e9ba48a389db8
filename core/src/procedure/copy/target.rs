//! Target of a copy: a node that exists, an image that is opened, or a file that is created.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::{Value, json};

use super::super::FollowJob;

/// Where a [`Backup`](super::Backup) or a [`Mirror`](super::Mirror) copies to, or the overlay of an
/// [`ExternalSnapshot`](super::ExternalSnapshot).
///
/// ```
/// use qemu_machine_core::procedure::CopyTarget;
/// use qemu_machine_core::json;
///
/// // A node that the caller has opened, and closes again: perhaps by `OpenNode`, on a descriptor.
/// let node = CopyTarget::node("copy");
/// // An image that exists, such as one of `qemu-img create`.
/// let image = CopyTarget::image("copy", json!({"driver": "qcow2", "file": {"driver": "file", "filename": "/copy.qcow2"}}));
/// // A file that QEMU creates.
/// let file = CopyTarget::file("copy", "/copy.qcow2", "qcow2");
/// ```
#[derive(Clone, PartialEq)]
pub struct CopyTarget {
    node: String,
    what: What,
}

#[derive(Clone, PartialEq)]
enum What {
    Node,
    /// The arguments of `blockdev-add` apart from `node-name`.
    Image(Value),
    File {
        path: String,
        format: String,
    },
}

impl CopyTarget {
    /// Returns a target that is a node of QEMU already. It stays when the copy is over.
    pub fn node(name: impl Into<String>) -> Self {
        Self { node: name.into(), what: What::Node }
    }

    /// Returns a target that is an image, which the procedure opens as the node of this name (at most 31 bytes; QEMU,
    /// `include/block/block_int-common.h`, `node_name`) and closes again. The arguments are those of `blockdev-add`
    /// apart from `node-name`. The image must have the size of the disk (QEMU, `block/backup.c`, `backup_job_create`).
    pub fn image(node: impl Into<String>, arguments: Value) -> Self {
        Self { node: node.into(), what: What::Image(arguments) }
    }

    /// Returns a target that is a file, which QEMU creates (`blockdev-create`) with the size of the disk, and the
    /// procedure opens as the node of this name and closes again. The format is `raw`, `qcow2` or another one that
    /// `blockdev-create` knows with the members `file` and `size`. **A file that exists is overwritten**, unless a
    /// process uses it as an image. The file stays when the copy fails: QEMU has no command that removes one.
    pub fn file(node: impl Into<String>, path: impl Into<String>, format: impl Into<String>) -> Self {
        Self { node: node.into(), what: What::File { path: path.into(), format: format.into() } }
    }

    /// Returns the name of its node.
    pub(super) fn name(&self) -> &str {
        &self.node
    }

    /// Returns whether the procedure opens the node.
    pub(super) fn is_opened(&self) -> bool {
        self.what != What::Node
    }

    /// Returns whether the procedure creates the file, which has the size of the source.
    pub(super) fn is_created(&self) -> bool {
        matches!(self.what, What::File { .. })
    }

    /// Returns the jobs that create the file with this size in bytes, the last one first, given the id of the job that
    /// copies.
    pub(super) fn creation(&self, id: &str, size: u64) -> Vec<(String, FollowJob)> {
        self.overlay(id, size, None)
    }

    /// As [`creation`](Self::creation), of a file whose backing file is this one, with its format.
    pub(super) fn overlay(&self, id: &str, size: u64, backing: Option<(&str, &str)>) -> Vec<(String, FollowJob)> {
        let What::File { path, format } = &self.what else { return Vec::new() };
        let is_raw = format == "raw";
        let file = json!({"driver": "file", "filename": path});
        let on_disk = json!({"driver": "file", "filename": path, "size": if is_raw { size } else { 0 }});
        let mut formatted = json!({"driver": format, "file": file, "size": size});
        if let Some((path, format)) = backing {
            (formatted["backing-file"], formatted["backing-fmt"]) = (path.into(), format.into());
        }
        let job = |part: &str, options: Value| {
            let id = format!("{id}-{part}");
            let create = FollowJob::of(&("blockdev-create", json!({"job-id": id, "options": options})), id.clone());
            (id, create)
        };
        (!is_raw).then(|| job("format", formatted)).into_iter().chain([job("file", on_disk)]).collect()
    }

    /// Returns the arguments of `blockdev-add`.
    pub(super) fn arguments(&self) -> Value {
        let mut arguments = match &self.what {
            What::Node => Value::Null,
            What::Image(arguments) => arguments.clone(),
            What::File { path, format } => json!({"driver": format, "file": {"driver": "file", "filename": path}}),
        };
        if let Some(members) = arguments.as_object_mut() {
            members.insert("node-name".to_string(), self.node.clone().into());
        }
        arguments
    }

    /// Returns the arguments of `blockdev-add` for an overlay: QEMU attaches the disk below a created one later, and
    /// must not open it twice.
    pub(super) fn overlay_arguments(&self) -> Value {
        let mut arguments = self.arguments();
        if let (What::File { .. }, Some(members)) = (&self.what, arguments.as_object_mut()) {
            members.insert("backing".to_string(), Value::Null);
        }
        arguments
    }
}

impl fmt::Debug for CopyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyTarget").field("node", &self.node).finish_non_exhaustive()
    }
}

//! Block nodes of QEMU, as `query-named-block-nodes` lists them.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::json;

use crate::procedure;

/// An entry in the reply of `query-named-block-nodes`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ListedNode {
    node_name: Option<String>,
    /// The driver, which is the format of an image.
    drv: Option<String>,
    image: Option<ListedImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListedImage {
    virtual_size: u64,
    filename: Option<String>,
    #[serde(default)]
    snapshots: Vec<ListedSnapshot>,
}

#[derive(Deserialize)]
struct ListedSnapshot {
    name: String,
}

impl ListedNode {
    /// Returns the step that lists the nodes. Their backing files are nodes themselves.
    pub(super) fn query<T>() -> procedure::Output<T> {
        procedure::Output::execute(&("query-named-block-nodes", json!({"flat": true})))
    }

    /// Returns whether the node has this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.node_name.as_deref() == Some(name)
    }

    /// Returns the size that a guest would see, in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        self.image.as_ref().map(|image| image.virtual_size)
    }

    /// Returns the file and the format of the image, as an overlay on it names them.
    pub(super) fn backing(&self) -> Option<(&str, &str)> {
        Some((self.image.as_ref()?.filename.as_deref()?, self.drv.as_deref()?))
    }

    /// Returns whether the image has a snapshot with this tag.
    pub(super) fn has_snapshot(&self, tag: &str) -> bool {
        self.image.as_ref().is_some_and(|image| image.snapshots.iter().any(|snapshot| snapshot.name == tag))
    }
}

//! Fd sets of QEMU: their removal, and whether QEMU has closed their descriptors.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Created, ProcedureError, Remnant};
use crate::command::Command;

/// `remove-fd`: removes all descriptors of the fd set with this id.
pub(super) struct Removing(pub(super) u32);

impl Command for Removing {
    type Reply = Value;

    fn name(&self) -> &str {
        "remove-fd"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(json!({"fdset-id": self.0}))
    }
}

/// The reply of `add-fd`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Added {
    pub(super) fdset_id: u32,
}

/// The reply of `query-fdsets`.
#[derive(Deserialize)]
pub(super) struct FdSets(Vec<ListedSet>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListedSet {
    fdset_id: u32,
    fds: Vec<ListedFd>,
}

#[derive(Deserialize)]
struct ListedFd {
    opaque: Option<String>,
}

impl FdSets {
    /// Returns the ids of the fd sets with a descriptor of this `opaque` string.
    pub(super) fn named(&self, opaque: &str) -> Vec<u32> {
        let has_name = |set: &&ListedSet| set.fds.iter().any(|fd| fd.opaque.as_deref() == Some(opaque));
        self.0.iter().filter(has_name).map(|set| set.fdset_id).collect()
    }

    /// Returns the fd set with this id, if QEMU holds its descriptor although it was removed. QEMU closes it only while
    /// the guest runs, and then at the next `remove-fd` of this set, or when a node on it is closed (QEMU 7.2,
    /// `monitor/fds.c`, `monitor_fdset_cleanup`; measured with QEMU 7.2.22).
    pub(super) fn remnant(&self, id: u32) -> Option<Remnant> {
        let is_open = self.0.iter().any(|set| set.fdset_id == id && !set.fds.is_empty());
        is_open.then(|| Remnant { created: Created::FdSet(id), why: ProcedureError::DescriptorOpen(id) })
    }
}

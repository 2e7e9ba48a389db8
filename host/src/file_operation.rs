//! File operation of a run that is in progress: the creation of its files, the reading of its log, or the removal.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::HostFault;

use crate::background::Background;
use crate::prepare::Preparations;

/// A file operation in progress. A run has one at a time.
#[derive(Debug)]
pub(crate) enum FileOperation {
    Prepare(Background<Prepared>),
    /// The preparation of a run that has ended: what it created is removed. The result of that is reported as the
    /// removal of the run as well.
    UndoPreparation(Background<Prepared>),
    ReadLog(Background<Result<Vec<u8>, HostFault>>),
    Remove(Background<Result<(), HostFault>>),
}

/// Result of a preparation.
#[derive(Debug)]
pub(crate) enum Prepared {
    Ready(Box<Preparations>),
    Failed(HostFault),
    /// It was cancelled, and removed everything, or failed to.
    Undone(Result<(), HostFault>),
}

impl FileOperation {
    /// Returns the descriptor to watch: it is readable when the operation is over.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        match self {
            Self::Prepare(work) | Self::UndoPreparation(work) => work.descriptor(),
            Self::ReadLog(work) => work.descriptor(),
            Self::Remove(work) => work.descriptor(),
        }
    }
}

//! Process of a lifecycle, as the operating system knows it.

use crate::fault::HostFault;
use crate::input::ExitStatus;

/// The process, from before its start to after its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Process {
    /// There is none.
    #[default]
    Unborn,
    /// What it needs is being made.
    Preparing,
    /// What it needs is there; nobody has asked for it to be started yet.
    Prepared,
    /// It is being started.
    Spawning,
    /// It was started; its channels are not open yet.
    Spawned {
        /// Its id.
        pid: u32,
    },
    /// It runs.
    Alive {
        /// Its id.
        pid: u32,
    },
    /// It ended.
    Dead(ExitStatus),
    /// It could not be started.
    Failed,
    /// It is not ours: somebody else launched it.
    Foreign,
}

/// An event of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessEvent {
    /// What it needs is there.
    Prepared,
    /// What it needs cannot be made.
    PrepareFailed(HostFault),
    /// It was started.
    Spawned {
        /// Its id.
        pid: u32,
    },
    /// It cannot be started.
    SpawnFailed(HostFault),
    /// It ended.
    Exited(ExitStatus),
}

impl Process {
    pub(super) fn step(self, event: &ProcessEvent) -> Self {
        match (self, event) {
            (Self::Preparing, ProcessEvent::Prepared) => Self::Prepared,
            (Self::Preparing, ProcessEvent::PrepareFailed(_)) => Self::Failed,
            (Self::Spawning, ProcessEvent::Spawned { pid }) => Self::Spawned { pid: *pid },
            (Self::Spawning, ProcessEvent::SpawnFailed(_)) => Self::Failed,
            (Self::Spawned { .. } | Self::Alive { .. }, ProcessEvent::Exited(status)) => Self::Dead(*status),
            // Events that complete no effect change nothing.
            (
                state,
                ProcessEvent::Prepared
                | ProcessEvent::PrepareFailed(_)
                | ProcessEvent::Spawned { .. }
                | ProcessEvent::SpawnFailed(_)
                | ProcessEvent::Exited(_),
            ) => state,
        }
    }
}

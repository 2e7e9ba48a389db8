//! Process of a lifecycle, from before its start to its end.

use crate::fault::HostFault;
use crate::input::ExitStatus;

/// The state of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Process {
    /// No process exists yet.
    #[default]
    Unborn,
    /// The host prepares the files and sockets of the run.
    Preparing,
    /// The run is prepared; the process was not started yet.
    Prepared,
    /// The host starts the process. That can take long: the file system of the program may be slow, or unreachable.
    Spawning,
    /// The process was started or found; its channels are not open yet.
    Spawned {
        /// The id of the process.
        pid: u32,
    },
    /// The process runs.
    Alive {
        /// The id of the process.
        pid: u32,
    },
    /// The process ended.
    Dead(ExitStatus),
    /// The process could not be prepared or started.
    Failed,
    /// Another program launched the process, or it was detached: it is not ours.
    Foreign,
}

/// An event of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessEvent {
    /// The run is prepared.
    Prepared,
    /// The run could not be prepared.
    PrepareFailed(HostFault),
    /// The process was started.
    Spawned {
        /// The id of the process.
        pid: u32,
    },
    /// The process could not be started.
    SpawnFailed(HostFault),
    /// The run is prepared, and the process that an earlier program started was found.
    Found {
        /// The id of the process.
        pid: u32,
    },
    /// The process ended.
    Exited(ExitStatus),
}

impl Process {
    pub(super) fn step(self, event: &ProcessEvent) -> Self {
        match (self, event) {
            (Self::Preparing, ProcessEvent::Prepared) => Self::Prepared,
            (Self::Preparing, ProcessEvent::PrepareFailed(_)) => Self::Failed,
            (Self::Preparing, ProcessEvent::Found { pid }) | (Self::Spawning, ProcessEvent::Spawned { pid }) => {
                Self::Spawned { pid: *pid }
            }
            (Self::Spawning, ProcessEvent::SpawnFailed(_)) => Self::Failed,
            (Self::Spawned { .. } | Self::Alive { .. }, ProcessEvent::Exited(status)) => Self::Dead(*status),
            // Events that complete no effect change nothing.
            (
                state,
                ProcessEvent::Prepared
                | ProcessEvent::PrepareFailed(_)
                | ProcessEvent::Spawned { .. }
                | ProcessEvent::SpawnFailed(_)
                | ProcessEvent::Found { .. }
                | ProcessEvent::Exited(_),
            ) => state,
        }
    }
}

//! Decides which commands are types here: those that nearly everybody needs.
//!
//! Every other one is a name, or a pair of a name and arguments, or a type of your own: see [`Command`].
//!
//! ```
//! use qemu_machine_core::commands::{QueryStatus, Stop};
//! use qemu_machine_core::Command;
//!
//! // let status = vm.execute(QueryStatus)?;
//! // if status.running {
//! //     vm.execute(Stop)?;
//! // }
//! # assert_eq!((QueryStatus.name(), Stop.name()), ("query-status", "stop"));
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};
#[cfg(feature = "schema")]
use crate::schema::Schema;

macro_rules! without_arguments {
    ($($(#[$docs:meta])+ $command:ident = $name:literal -> $reply:ty;)+) => {
        $(
            $(#[$docs])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $command;

            impl Command for $command {
                type Reply = $reply;

                fn name(&self) -> &str {
                    $name
                }

                fn arguments(&self) -> Option<impl Serialize> {
                    None::<()>
                }
            }
        )+
    };
}

without_arguments! {
    /// `query-status`: whether the guest runs.
    QueryStatus = "query-status" -> Status;
    /// `stop`: pauses the guest. QEMU tells of it with `STOP`, unless it was paused.
    Stop = "stop" -> Empty;
    /// `cont`: lets the guest go on, or begin (`-S`). QEMU tells of it with `RESUME`, unless it ran.
    Cont = "cont" -> Empty;
    /// `system_reset`: resets the guest, as its reset button does.
    SystemReset = "system_reset" -> Empty;
    /// `system_powerdown`: presses the power button. What follows is up to the guest; to end a machine, there is
    /// `shutdown`.
    SystemPowerdown = "system_powerdown" -> Empty;
    /// `query-jobs`: the jobs that run, and those that are over and not dismissed.
    QueryJobs = "query-jobs" -> Vec<Job>;
}

#[cfg(feature = "schema")]
without_arguments! {
    /// `query-qmp-schema`: what this QEMU understands, in some 200 KB of JSON.
    QuerySchema = "query-qmp-schema" -> Schema;
}

/// `human-monitor-command`: a command for people, answered by what they would read. For what QMP has no command for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HumanMonitorCommand {
    /// The line, as people type it: `info registers`.
    pub command_line: String,
}

impl Command for HumanMonitorCommand {
    type Reply = String;

    fn name(&self) -> &str {
        "human-monitor-command"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(self)
    }
}

/// Whether the guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// Whether its processors run.
    pub running: bool,
    /// Why, or why not: `running`, `paused`, `prelaunch`, `guest-panicked` and others (`RunState` in QEMU).
    pub status: String,
}

/// A job: something that takes QEMU long, beside everything else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Job {
    /// Its name.
    pub id: String,
    /// What it does: `mirror`, `commit`, `create` and others (`JobType` in QEMU).
    #[serde(rename = "type")]
    pub kind: String,
    /// How far it is in its run: `running`, `ready`, `concluded` and others (`JobStatus` in QEMU).
    pub status: String,
    /// How much is done, in units of its own.
    pub current_progress: i64,
    /// How much there is, in the same units. It may grow, and what was done may be more than was expected.
    pub total_progress: i64,
    /// Why it failed, where it did.
    pub error: Option<String>,
}

//! Types of frequent commands.
//!
//! Send any other command by its name, as a pair of name and arguments, or as a type of your own: see [`Command`].
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

pub use crate::human_monitor::{HumanMonitorCommand, HumanMonitorError, HumanText};
pub use crate::usernet::{ActiveForward, HostForwards, InfoUsernet};

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
    /// `query-status`: returns the run state of the guest.
    QueryStatus = "query-status" -> Status;
    /// `stop`: pauses the guest. QEMU sends `STOP` before the reply; a guest that is paused already causes no event
    /// (measured with QEMU 7.2.22).
    Stop = "stop" -> Empty;
    /// `cont`: resumes the guest, or starts it (`-S`). QEMU sends `RESUME` before the reply; a guest that runs already
    /// causes no event (measured with QEMU 7.2.22).
    Cont = "cont" -> Empty;
    /// `system_reset`: resets the guest, like its reset button.
    SystemReset = "system_reset" -> Empty;
    /// `system_powerdown`: presses the power button (ACPI on a PC). The reply does not mean that the guest powers off:
    /// it may ignore the button (QEMU, `qapi/machine.json`, `system_powerdown`).
    ///
    /// To end a machine for certain, use a shutdown with [`Shutdown::power_down`](crate::Shutdown::power_down). It
    /// presses the button and waits for the given time. For a guest that does not obey, it goes on with `quit`, SIGTERM
    /// and SIGKILL.
    SystemPowerdown = "system_powerdown" -> Empty;
    /// `query-jobs`: returns the jobs that run, and those that are concluded and not dismissed.
    QueryJobs = "query-jobs" -> Vec<Job>;
    /// `query-current-machine`: returns what this machine type is capable of. Since QEMU 4.0.
    QueryCurrentMachine = "query-current-machine" -> CurrentMachine;
}

#[cfg(feature = "schema")]
without_arguments! {
    /// `query-qmp-schema`: returns the commands, events and types of this QEMU. The reply has about 200 KB (207,009
    /// bytes measured with QEMU 7.2.22).
    QuerySchema = "query-qmp-schema" -> Schema;
}

/// Run state of the guest (QEMU, `qapi/run-state.json`, `StatusInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// Whether the virtual processors can run.
    pub running: bool,
    /// The run state: `running`, `paused`, `prelaunch`, `guest-panicked` and others (QEMU, `qapi/run-state.json`,
    /// `RunState`). The set is open.
    pub status: String,
}

/// Capabilities of the present machine (QEMU, `qapi/machine.json`, `CurrentMachineParams`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct CurrentMachine {
    /// Whether a guest that is suspended to RAM can be woken up.
    pub wakeup_suspend_support: bool,
}

/// A background job (QEMU, `qapi/job.json`, `JobInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Job {
    /// The id of the job.
    pub id: String,
    /// The type: `mirror`, `commit`, `create` and others (QEMU, `qapi/job.json`, `JobType`).
    #[serde(rename = "type")]
    pub kind: String,
    /// The status: `running`, `ready`, `concluded` and others (QEMU, `qapi/job.json`, `JobStatus`).
    pub status: String,
    /// The progress so far, in an arbitrary unit. Only its ratio to [`total_progress`](Self::total_progress) has a
    /// meaning.
    pub current_progress: i64,
    /// The estimated progress at completion, in the same unit. It may change in both directions while the job runs.
    pub total_progress: i64,
    /// Why the job failed. `None` means that it did not fail, or not yet.
    pub error: Option<String>,
}

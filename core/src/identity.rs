//! Decides what a machine is known by to a program that did not launch it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// What a machine that was launched to [be kept](crate::Config::outlive_parent) is known by: for another program, or for
/// this one after its own restart. It is plain data, to be stored as JSON or in any other way that serde knows.
///
/// A process is known by its id together with the time of its start and the boot in which that counts: ids are used
/// again. Its monitor is known by the path of the socket and by which socket that is.
///
/// ```
/// # let identity = r#"{"boot":"4f","pid":7,"started":9,"monitor":"/tmp/vm/monitor.sock","socket":[1,2],"directory":null}"#;
/// use qemu_machine_core::{Config, Identity};
///
/// // What was stored with `serde_json::to_string(&vm.identity()?)`.
/// let identity: Identity = serde_json::from_str(identity)?;
/// let config = Config::resume(identity);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which boot of the system (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// When it was started, in ticks since the boot (`starttime` in `proc_pid_stat(5)`).
    pub started: u64,
    /// The path of the socket on which it listens.
    pub monitor: String,
    /// Device and inode of that socket.
    pub socket: (u64, u64),
    /// The private directory, which whoever ends the machine removes.
    pub directory: Option<String>,
}

/// Between two sessions with a machine, events may have been missed: what is to be known of it (`query-status`,
/// `query-jobs`, `query-block` …) is to be asked.
#[must_use = "events may have been missed: ask for what is to be known"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap;

impl Gap {
    /// The gap before a session with a machine that was resumed: for runtimes, which tell of it.
    pub fn before_this_session() -> Self {
        Self
    }
}

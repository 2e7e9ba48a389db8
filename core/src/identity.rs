//! Identity of a machine that outlives its parent, and the gap before it is resumed.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Identity of a machine that [outlives its parent](crate::Config::outlive_parent), for another program or for this one
/// after its restart. It is plain data: store it as JSON or in any other format of serde, before this program dies.
///
/// Process ids are reused, so a process is identified by its id, its start time and the boot of the system. The monitor
/// is identified by the path of its socket, and by device and inode, since another socket may take the path.
///
/// ```
/// # let identity = r#"{"boot":"4f","pid":7,"started":9,"monitor":"/tmp/vm/monitor.sock","socket":[1,2],"directory":null}"#;
/// use qemu_machine_core::{Config, Identity};
///
/// // The text was stored with `serde_json::to_string(&vm.identity()?)`.
/// let identity: Identity = serde_json::from_str(identity)?;
/// let config = Config::resume(identity);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Id of the boot of the system (`/proc/sys/kernel/random/boot_id`, `random(4)`).
    pub boot: String,
    /// Id of the process.
    pub pid: u32,
    /// Start time of the process, in clock ticks since the boot (`proc(5)`, `starttime`).
    pub started: u64,
    /// Path of the socket on which the monitor listens.
    pub monitor: String,
    /// Device and inode of that socket.
    pub socket: (u64, u64),
    /// The private directory, which the program that ends the machine removes. `None` means that there is none.
    pub directory: Option<String>,
}

/// Gap between two sessions with a machine. QEMU keeps no events for a client that is not connected, so events may have
/// been missed: [`resync`](Self::resync) queries the state that they may have announced.
#[must_use = "events may have been missed: query the state of the machine (`Gap::resync`)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap;

impl Gap {
    /// Returns the gap before a session with a resumed machine. For runtimes, which report it to their callers.
    pub fn before_this_session() -> Self {
        Self
    }
}

//! Identity of a machine that outlives its parent, and the gap before it is resumed.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Identity of a machine that [outlives its parent](crate::Config::outlive_parent), for another program or for this one
/// after its restart. It is plain data: store it as JSON or in any other format of serde, before this program dies.
///
/// Process ids are reused, so a process is identified by its id, its start time and the boot of the system. The monitor
/// is identified by the path of its socket, and by device and inode, since another socket may take the path.
///
/// A later version of this library reads what this one has stored, and refuses with an error what it cannot resume, so
/// that a program can be replaced while its machines run.
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
#[non_exhaustive]
pub struct Identity {
    /// Version of this form: [`VERSION`](Self::VERSION) of the library that stored it. The first form did not contain it.
    #[serde(default = "first")]
    pub version: u32,
    /// Name of the machine ([`Config::name`](crate::Config::name)). Empty in the first form.
    #[serde(default)]
    pub name: String,
    /// Id of the boot of the system (`/proc/sys/kernel/random/boot_id`, `random(4)`).
    pub boot: String,
    /// Id of the process that was started.
    pub pid: u32,
    /// Start time of the process, in clock ticks since the boot (`proc(5)`, `starttime`).
    pub started: u64,
    /// The pid namespace in which the process has that id, by its inode (`pid_namespaces(7)`). `None` in the first form,
    /// and on systems without them.
    #[serde(default)]
    pub pid_namespace: Option<u64>,
    /// Path of the socket on which the monitor listens.
    pub monitor: String,
    /// Device and inode of that socket.
    pub socket: (u64, u64),
    /// The private directory, which the program that ends the machine removes. `None` means that there is none.
    pub directory: Option<String>,
    /// Path of the log. `None` in the first form: then it is the file `log` in the private directory, if that exists.
    #[serde(default)]
    pub log: Option<String>,
    /// Each console that has a [log](crate::Config::console_log), with the path of that.
    #[serde(default)]
    pub console_logs: Vec<(String, String)>,
    /// The socket of each [extra monitor](crate::Config::extra_monitor). The program that ends the machine removes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_monitors: Vec<ExtraMonitorSocket>,
}

/// Socket of an extra monitor, as its machine created it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExtraMonitorSocket {
    /// The absolute path of the socket.
    pub path: String,
    /// What tells it from a later file at that path.
    #[serde(flatten)]
    pub file: FileId,
}

impl ExtraMonitorSocket {
    /// Returns the socket that was created at this path. For hosts, which know these.
    #[must_use]
    pub fn new(path: String, file: FileId) -> Self {
        Self { path, file }
    }
}

/// What tells a file from a later one at the same path. Some file systems reuse the inode number of a removed file at once
/// (ext4), so device and inode do not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub struct FileId {
    /// The device of the file system (`inode(7)`).
    pub device: u64,
    /// The inode number of the file, unique within the file system at any time.
    pub inode: u64,
    /// When the file was created (`statx(2)`, `stx_btime`), in nanoseconds since 1970. `None` means that the file system does
    /// not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
}

impl FileId {
    /// Returns the id of a file. For hosts, which know these.
    #[must_use]
    pub fn new(device: u64, inode: u64, created: Option<u64>) -> Self {
        Self { device, inode, created }
    }

    /// Returns whether both may be the same file: they are on one device and have one inode, and no different times of
    /// creation.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let is_one_time = self.created.is_none() || other.created.is_none() || self.created == other.created;
        (self.device, self.inode) == (other.device, other.inode) && is_one_time
    }
}

/// Returns the version of identities that contain none.
fn first() -> u32 {
    1
}

impl Identity {
    /// The version of the identities that this library stores. It resumes those of this version and of earlier ones.
    pub const VERSION: u32 = 2;

    /// Returns the identity of a process and of the socket on which its monitor listens, without a directory, a log and a
    /// name. For hosts, which know these.
    #[must_use]
    pub fn new(boot: String, (pid, started): (u32, u64), monitor: String, socket: (u64, u64)) -> Self {
        Self {
            version: Self::VERSION,
            name: String::new(),
            boot,
            pid,
            started,
            pid_namespace: None,
            monitor,
            socket,
            directory: None,
            log: None,
            console_logs: Vec::new(),
            extra_monitors: Vec::new(),
        }
    }
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

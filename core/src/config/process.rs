//! Process attributes of a configuration: credentials, resource limits, environment, standard streams and inherited
//! descriptors.

use alloc::vec::Vec;

use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::os_bytes::OsBytes;

/// Attributes of a process, which the driver applies between its start and the execution of its program. By default the
/// process has those of this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a driver applies each")]
pub struct ProcessAttributes {
    /// The user id. `None` means that of this program.
    pub uid: Option<u32>,
    /// The group id. `None` means that of this program.
    pub gid: Option<u32>,
    /// The supplementary group ids. `None` means those of this program, or none at all when `uid` is set.
    pub groups: Option<Vec<u32>>,
    /// The file mode creation mask (`umask(2)`). `None` means that of this program.
    pub umask: Option<u32>,
    /// The resource limits to set, in this order.
    pub limits: Vec<ResourceLimit>,
    /// The working directory. `None` means that of this program.
    pub working_directory: Option<Vec<u8>>,
    /// Whether the environment begins empty instead of as that of this program.
    pub environment_is_empty: bool,
    /// The variables to set in the environment, or to remove from it, in this order.
    pub environment: Vec<Variable>,
    /// The network namespace to enter (`network_namespaces(7)`). `None` means that of this program.
    pub network_namespace: Option<Descriptor>,
    /// Whether the standard input is that of this program instead of `/dev/null`.
    pub inherits_stdin: bool,
    /// Whether the standard output is that of this program instead of the log.
    pub inherits_stdout: bool,
    /// The directory of the cgroup to enter (`cgroups(7)`, version 2). `None` means that of this program.
    pub cgroup: Option<Vec<u8>>,
}

/// A limit on a resource of the process, soft and hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_structs, reason = "a driver sets each")]
pub struct ResourceLimit {
    /// The resource.
    pub resource: Resource,
    /// The limit, in the unit of the resource.
    pub value: u64,
}

/// A resource of a process that can be limited (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver sets each")]
pub enum Resource {
    /// Size of the address space, in bytes. QEMU maps all memory of the guest, and more.
    AddressSpace,
    /// Size of a core dump, in bytes. Zero means that there is none.
    CoreDump,
    /// Processor time, in seconds.
    ProcessorTime,
    /// Size of a file that the process writes, in bytes.
    FileSize,
    /// Memory that is locked, in bytes. A device that is passed through locks all memory of the guest.
    LockedMemory,
    /// Number of open descriptors.
    OpenFiles,
    /// Number of processes and threads of the user.
    Processes,
}

/// A change of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_structs, reason = "a driver applies each")]
pub struct Variable {
    /// The name of the variable.
    pub name: Vec<u8>,
    /// The value. `None` means that the variable is removed.
    pub value: Option<Vec<u8>>,
}

impl Config {
    /// The first descriptor number that a process inherits, behind its standard streams.
    pub(crate) const FIRST_INHERITED: i32 = 3;

    /// Returns the attributes of the process.
    pub(crate) fn attributes(&self) -> ProcessAttributes {
        self.attributes.as_deref().cloned().unwrap_or_default()
    }

    fn attributes_mut(&mut self) -> &mut ProcessAttributes {
        self.attributes.get_or_insert_default()
    }

    /// Passes a descriptor to QEMU, and returns the number that it has there, for options that take a number:
    /// `-netdev tap,fd=…`, `vhostfd=…`, `-chardev socket,fd=…`. No other process inherits it. It is closed in this program
    /// as with [`add_fd`](Self::add_fd).
    ///
    /// [`add_fd`](Self::add_fd) is for options that take a path: QEMU opens the descriptor as a member of an fdset,
    /// under a number that the caller does not need to know.
    ///
    /// The first call returns 3, the second 4, and so on.
    ///
    /// ```
    /// use qemu_machine_core::{Config, Descriptor};
    ///
    /// # let opened_tap = Descriptor::new(());
    /// let mut config = Config::new("qemu-system-x86_64");
    /// let tap = config.inherit_fd(opened_tap);
    /// let config = config.args(["-netdev".to_string(), format!("tap,id=net0,fd={tap}")]);
    /// # assert!(config.command_line().unwrap().to_string().contains("fd=3"));
    /// ```
    pub fn inherit_fd(&mut self, descriptor: Descriptor) -> i32 {
        let passed = i32::try_from(self.passed.len()).unwrap_or(i32::MAX);
        self.passed.push(descriptor);
        Self::FIRST_INHERITED.saturating_add(passed)
    }

    /// Sets the user id of the process. Default: that of this program. The process then has no supplementary groups,
    /// unless [`groups`](Self::groups) sets some. Only a privileged program can change it (`setuid(2)`, `CAP_SETUID`);
    /// otherwise the launch fails.
    ///
    /// The private directory and the sockets in it belong to this program, so the process cannot open them: keep the
    /// default [`Monitor::Inherited`](crate::Monitor::Inherited). The log is inherited, and can be written.
    ///
    /// A process that gets its credentials here ends with this program as any other: the parent-death signal is set
    /// after them. One that changes them itself (`-runas`) has a guard: see [`wrapper`](Self::wrapper).
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.attributes_mut().uid = Some(uid);
        self
    }

    /// Sets the group id of the process. Default: that of this program (`setgid(2)`).
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.attributes_mut().gid = Some(gid);
        self
    }

    /// Sets the supplementary group ids of the process: that of `kvm`, for example. Default: those of this program, or
    /// none at all when [`uid`](Self::uid) is set (`setgroups(2)`).
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.attributes_mut().groups = Some(groups.into_iter().collect());
        self
    }

    /// Sets the file mode creation mask of the process (`umask(2)`). Default: that of this program. Bits beyond
    /// `0o777` are ignored.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.attributes_mut().umask = Some(mask);
        self
    }

    /// Sets a resource limit of the process, soft and hard (`setrlimit(2)`). Default: those of this program. Only a
    /// privileged program can raise a limit above its own hard limit; otherwise the launch fails.
    #[must_use]
    pub fn resource_limit(mut self, resource: Resource, value: u64) -> Self {
        self.attributes_mut().limits.push(ResourceLimit { resource, value });
        self
    }

    /// Sets the working directory of the process. Default: that of this program. Relative paths in the arguments, and a
    /// program with a slash, are relative to it.
    #[must_use]
    pub fn working_directory(mut self, path: impl OsBytes) -> Self {
        self.attributes_mut().working_directory = Some(path.as_os_bytes().to_vec());
        self
    }

    /// Sets a variable in the environment of the process. Default: the environment of this program. If `PATH` is
    /// changed, the program is searched there.
    #[must_use]
    pub fn env(mut self, name: impl OsBytes, value: impl OsBytes) -> Self {
        let (name, value) = (name.as_os_bytes().to_vec(), Some(value.as_os_bytes().to_vec()));
        self.attributes_mut().environment.push(Variable { name, value });
        self
    }

    /// Removes a variable from the environment of the process.
    #[must_use]
    pub fn env_remove(mut self, name: impl OsBytes) -> Self {
        self.attributes_mut().environment.push(Variable { name: name.as_os_bytes().to_vec(), value: None });
        self
    }

    /// Removes all variables from the environment of the process. Variables that are set later are kept.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        let attributes = self.attributes_mut();
        attributes.environment_is_empty = true;
        attributes.environment.clear();
        self
    }

    /// Runs the process in a network namespace, by an open descriptor of it: `/run/netns/NAME`, or `/proc/PID/ns/net`
    /// (`setns(2)`, `CAP_SYS_ADMIN`). Default: that of this program. Sockets that this program creates for the machine
    /// stay in its own namespace.
    #[must_use]
    pub fn network_namespace(mut self, namespace: Descriptor) -> Self {
        self.attributes_mut().network_namespace = Some(namespace);
        self
    }

    /// Places the process in a cgroup of version 2, by the directory of that: `/sys/fs/cgroup/vms/1` (`cgroups(7)`).
    /// Default: that of this program. The process enters it before it executes its program, so its limits hold from the
    /// beginning, and for all that the process starts. The guard of a [`wrapper`](Self::wrapper) is not in it.
    ///
    /// The cgroup must exist, and stays after the end: the library neither creates nor removes one. If the process cannot
    /// enter it, the launch fails with [`LaunchFailure::Host`](crate::LaunchFailure::Host), which names the cgroup:
    ///
    /// | reason | cause |
    /// |---|---|
    /// | No such file or directory (ENOENT) | There is no such cgroup. |
    /// | Operation not supported (EOPNOTSUPP) | It is no cgroup of version 2, or its type does not permit processes (`domain invalid`, or `threaded`). |
    /// | Permission denied (EACCES) | This program may not write to `cgroup.procs` in it, or in the nearest common ancestor of it and the cgroup of this program. |
    /// | Device or resource busy (EBUSY) | It passes controllers on to cgroups below it (`cgroup.subtree_control`), and so cannot have processes. |
    #[must_use]
    pub fn cgroup(mut self, path: impl OsBytes) -> Self {
        self.attributes_mut().cgroup = Some(path.as_os_bytes().to_vec());
        self
    }

    /// Gives the process the standard input of this program, for `-serial mon:stdio` or `-monitor stdio`. Default:
    /// `/dev/null`. This program must not read its standard input meanwhile, since each byte reaches one of the two.
    ///
    /// It implies [`share_terminal`](Self::share_terminal): the kernel stops a process that reads from a terminal and is
    /// not in its foreground process group (`tty_ioctl(4)`; SIGTTIN in `signal(7)`).
    ///
    /// QEMU changes the mode of a terminal, and restores it when it exits (QEMU, `chardev/char-stdio.c`, `term_exit`).
    /// After SIGKILL the terminal keeps that mode: `stty sane` restores it.
    #[must_use]
    pub fn inherit_stdin(mut self) -> Self {
        self.attributes_mut().inherits_stdin = true;
        self.share_terminal()
    }

    /// Gives the process the standard output of this program, to which `-serial mon:stdio` and `-monitor stdio` write.
    /// Default: the log. What QEMU itself reports is on its standard error, and still in the log.
    ///
    /// Output of the guest then reaches a terminal as it comes, with the escape sequences that the guest chose.
    ///
    /// ```
    /// use qemu_machine_core::Config;
    ///
    /// // The terminal is the guest's serial console, and the human monitor after Ctrl-A C.
    /// let config = Config::new("qemu-system-x86_64").args(["-serial", "mon:stdio"]).inherit_stdin().inherit_stdout();
    /// # assert!(config.command_line().is_ok());
    /// ```
    #[must_use]
    pub fn inherit_stdout(mut self) -> Self {
        self.attributes_mut().inherits_stdout = true;
        self
    }

    /// Returns whether the process may change its credentials, by which the kernel drops the signal that kills it with
    /// its parent (`prctl(2)`, `PR_SET_PDEATHSIG`), or may be another one than QEMU.
    pub(crate) fn may_escape(&self) -> bool {
        let changes = |argument: &Vec<u8>| {
            matches!(argument.strip_prefix(b"-"), Some(b"runas" | b"-runas" | b"run-with" | b"-run-with"))
        };
        !self.outlives_parent && (!self.wrapper.is_empty() || self.args.iter().any(changes))
    }
}

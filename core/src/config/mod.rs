//! Configuration of a machine: the program to run, its arguments, and what is created around them.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::companion::Companion;
use crate::descriptor::Descriptor;
use crate::identity::Identity;
use crate::os_bytes::OsBytes;
use crate::time::Deadline;
use crate::transport::{Monitor, Peer};
use crate::wait::Wait;

mod check;
mod companions;
mod consoles;
mod extra_monitor;
mod limits;
mod networks;
mod parts;
mod preparation;
mod process;
mod start;

pub use extra_monitor::{ExtraMonitor, MonitorSocket};
pub use limits::Limits;
pub(crate) use parts::{Added, ConsolePart, Frontend, UserNetwork};
pub use parts::{Dialect, Service};
pub use process::{ProcessAttributes, Resource, ResourceLimit, Variable};

/// Configuration of a machine: which program to run, with which arguments, monitor, consoles and limits.
///
/// Each method takes the configuration and returns it changed; none fails. [`Machine::new`](crate::Machine::new) and
/// [`command_line`](Self::command_line) check the whole and report [`Misuse::Config`](crate::Misuse::Config).
///
/// Paths and arguments are bytes, as in the operating system. Each method takes a text, a path or bytes, owned or
/// borrowed ([`OsBytes`]): `&str`, `&String`, `&Path`, `OsString`, `&[u8]`, and [`args`](Self::args) a list of them.
///
/// | setting | default |
/// |---|---|
/// | [`accelerators`](Self::accelerators) | QEMU's own |
/// | [`companion`](Self::companion) | none |
/// | [`launch_within`](Self::launch_within) | 30 seconds |
/// | [`monitor`](Self::monitor) | [`Monitor::Inherited`] |
/// | [`extra_monitor`](Self::extra_monitor) | none: no other program has a monitor |
/// | [`name`](Self::name) | `qemu-machine` |
/// | display and VGA card | none (`-display none -vga none`) |
/// | consoles, guest agent, qtest | none |
/// | descriptors for QEMU | closed here when QEMU has them ([`keep_fds`](Self::keep_fds)) |
/// | user-mode networks | none of the library's own ([`host_forward`](Self::host_forward)) |
/// | [`temporary_directory`](Self::temporary_directory) | the system's directory for temporary files |
/// | [`log_directory`](Self::log_directory) | none: the log is a file without a path, which the kernel frees with its last descriptor |
/// | [`follow_log`](Self::follow_log) | no: the log is a file, which can be read at any time |
/// | [`log_limit`](Self::log_limit) | none: a log grows as long as QEMU writes to it |
/// | [`trust_peer`](Self::trust_peer) | no: a process that does not belong to the process that was started cannot dial the monitor |
/// | credentials, umask, resource limits, working directory, environment, network namespace, cgroup | those of this program |
/// | [`inherit_stdin`](Self::inherit_stdin), [`inherit_stdout`](Self::inherit_stdout) | no: `/dev/null`, and the log |
/// | [`limits`](Self::limits) | [`Limits::default`] |
/// | the guest | held (`-S`) until the monitor is ready ([`autostart`](Self::autostart)) |
/// | heartbeats | sent ([`without_heartbeat`](Self::without_heartbeat)) |
///
/// ```
/// use qemu_machine_core::Config;
///
/// let config = Config::new("qemu-system-x86_64").accelerators(["kvm", "tcg"]).serial("tty");
/// assert!(config.command_line()?.to_string().contains("-accel kvm"));
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) wrapper: Vec<Vec<u8>>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) machine: Option<Vec<u8>>,
    pub(crate) display: bool,
    pub(crate) vga: bool,
    pub(crate) monitor: Monitor,
    pub(crate) trusts_peer: bool,
    /// Whether an address at which no process listens is dialled again.
    pub(crate) waits_for_listener: bool,
    pub(crate) autostart: bool,
    /// The filters of [`Config::subscribe`].
    pub(crate) subscriptions: Vec<Vec<Wait>>,
    pub(crate) null_monitor: bool,
    pub(crate) extra_monitors: Vec<ExtraMonitor>,
    pub(crate) consoles: Vec<ConsolePart>,
    /// The name given to [`Config::console_log`] that no console has.
    pub(crate) unknown_log: Option<String>,
    pub(crate) services: Vec<Service>,
    /// The user-mode networks of [`Config::host_forward`].
    pub(crate) networks: Vec<UserNetwork>,
    /// The programs of [`Config::companion`].
    pub(crate) companions: Vec<Companion>,
    pub(crate) added: Vec<Added>,
    /// The descriptors of [`Config::inherit_fd`].
    pub(crate) passed: Vec<Descriptor>,
    /// Whether the descriptors above are kept for another run.
    pub(crate) keeps_fds: bool,
    /// `None` means the defaults. Boxed, since most machines have those.
    pub(crate) attributes: Option<Box<ProcessAttributes>>,
    pub(crate) share_terminal: bool,
    pub(crate) peer: Option<Peer>,
    pub(crate) dialect: Dialect,
    pub(crate) temporary_directory: Option<Vec<u8>>,
    pub(crate) socket_directory: Option<Vec<u8>>,
    pub(crate) log_directory: Option<Vec<u8>>,
    /// In bytes. `None` means that logs are not bounded.
    pub(crate) log_limit: Option<u64>,
    pub(crate) launch_within: Deadline,
    pub(crate) heartbeat: bool,
    pub(crate) outlives_parent: bool,
    #[cfg(feature = "record")]
    pub(crate) recorded: bool,
    pub(crate) limits: Limits,
}

impl Config {
    /// Id of the monitor's chardev. A console cannot have this name, since the ids of chardevs are unique.
    pub(crate) const MONITOR: &'static str = "mon";

    /// Name of the console that is the log, if that is [followed](Self::follow_log).
    pub const LOG: &'static str = "log";

    /// Default of [`launch_within`](Self::launch_within): 30 seconds, as in QEMU's Python class (QEMU,
    /// `python/qemu/machine/machine.py`, `qmp_timer`).
    pub const LAUNCH_WITHIN: Duration = Duration::from_secs(30);

    /// Returns the configuration of a machine that runs this program, with a monitor and without a display. A program
    /// without a slash is searched on the `PATH`.
    #[must_use]
    pub fn new(program: impl OsBytes) -> Self {
        Self {
            program: program.as_os_bytes().to_vec(),
            args: Vec::new(),
            wrapper: Vec::new(),
            name: Cow::Borrowed("qemu-machine"),
            machine: None,
            display: false,
            vga: false,
            monitor: Monitor::default(),
            trusts_peer: false,
            waits_for_listener: false,
            autostart: false,
            subscriptions: Vec::new(),
            null_monitor: false,
            extra_monitors: Vec::new(),
            consoles: Vec::new(),
            unknown_log: None,
            services: Vec::new(),
            networks: Vec::new(),
            companions: Vec::new(),
            added: Vec::new(),
            passed: Vec::new(),
            keeps_fds: false,
            attributes: None,
            share_terminal: false,
            peer: None,
            dialect: Dialect::default(),
            temporary_directory: None,
            socket_directory: None,
            log_directory: None,
            log_limit: None,
            launch_within: Deadline::after(Self::LAUNCH_WITHIN),
            heartbeat: true,
            outlives_parent: false,
            #[cfg(feature = "record")]
            recorded: false,
            limits: Limits::default(),
        }
    }

    /// Returns the configuration of a machine that another program launched. Only its monitor is used: the machine has
    /// commands and events, but no process, consoles or log. Arguments, consoles, services, descriptors and monitors
    /// cannot be added; [`Machine::new`](crate::Machine::new) refuses them. [`launch_within`](Self::launch_within)
    /// bounds the connection, the greeting and the negotiation.
    ///
    /// QEMU's socket serves one client at a time. A second client connects, but gets no greeting before the first one
    /// leaves (measured with QEMU 7.2.22), and a third one cannot connect: then the library dials again every 100
    /// milliseconds, except on FreeBSD and macOS, where that fails the launch at once. A launch that is not served in
    /// time fails at its deadline with [`LaunchFailure::Busy`](crate::LaunchFailure::Busy), or with
    /// [`LaunchFailure::TimedOut`](crate::LaunchFailure::TimedOut) if the library cannot see the other client. To share a
    /// machine, launch it with an [extra monitor](Self::extra_monitor), or give QEMU a second `-qmp` option.
    ///
    /// [`Machine::kill`](crate::Machine::kill) is refused with [`Misuse::NotOurs`](crate::Misuse::NotOurs).
    /// [`Machine::shutdown`](crate::Machine::shutdown) sends the commands of its policy, and no signals: `quit`, and
    /// before it `system_powerdown` if the policy says so. If QEMU has not closed the monitor within the time of these
    /// commands (20 seconds by default), the machine is disconnected from, and runs on.
    /// [`Machine::disconnect`](crate::Machine::disconnect) sends nothing, and lets the machine run on.
    ///
    /// ```
    /// use qemu_machine_core::{Address, Config, Peer};
    ///
    /// let config = Config::attach(Peer::Dial(Address::unix("/run/vm/monitor")));
    /// # assert!(config.command_line().is_ok());
    /// ```
    #[must_use]
    pub fn attach(peer: Peer) -> Self {
        Self { peer: Some(peer), ..Self::new("") }
    }

    /// Waits for a process that listens at the address of [`Peer::Dial`]: until the deadline of the launch, the library
    /// dials again every 100 milliseconds. Default: a launch fails at once if no process listens. The `Vm::attach` of
    /// the runtimes has no such option: launch this configuration instead.
    ///
    /// Three errors are retried (`connect(2)`, `unix(7)`): ECONNREFUSED, ENOENT, and EAGAIN, which means that the backlog
    /// of a Unix socket is full. The last one is retried by default as well; on FreeBSD and macOS it is ECONNREFUSED too.
    /// Any other error, such as EACCES, fails the launch at once with
    /// [`LaunchFailure::Host`](crate::LaunchFailure::Host).
    ///
    /// If no process listens in time, the launch fails as it would without this setting: with
    /// [`LaunchFailure::NotListening`](crate::LaunchFailure::NotListening) or
    /// [`LaunchFailure::Dead`](crate::LaunchFailure::Dead). With [`FOREVER`](crate::FOREVER) as
    /// [`launch_within`](Self::launch_within), it waits for ever. For any other configuration than one of [`Peer::Dial`]
    /// the setting is refused with [`Misuse::Config`](crate::Misuse::Config).
    #[must_use]
    pub fn wait_for_listener(mut self) -> Self {
        self.waits_for_listener = true;
        self
    }

    /// Returns the configuration that resumes a machine which [outlives its parent](Self::outlive_parent): launched by
    /// this program before its restart, or by another program.
    ///
    /// The machine is as if it had been launched here: it has its process id, log and command line, and is
    /// [detached](crate::Machine::detach) or [shut down](crate::Machine::shutdown) like one that was, with signals. Its
    /// [outcome](crate::Outcome) has its exit status where the kernel reports that of other processes (from Linux 6.15
    /// on), and otherwise [`ExitStatus::Unknown`](crate::ExitStatus::Unknown). Its consoles are those of the program
    /// before, whose output is in the [logs of the consoles](Self::console_log) alone. Dropping the last handle kills it;
    /// until the launch is complete it leaves the machine running. Events between the two sessions are missed;
    /// [`Notice::Gap`](crate::Notice::Gap) reports that: [`Gap::resync`](crate::Gap::resync) queries the state that matters.
    ///
    /// The library dials the monitor only when process and socket are those that the identity names, so that a new
    /// process with a reused id is not taken for the machine, and is not signalled.
    ///
    /// - The process has ended, or the system was booted since: the launch fails with
    ///   [`LaunchFailure::Exited`](crate::LaunchFailure::Exited), and its outcome has the end of the log. The private
    ///   directory is removed.
    /// - The process runs, and another socket has the path of the monitor, or the system does not report these: the launch
    ///   fails with [`LaunchFailure::Host`](crate::LaunchFailure::Host) and
    ///   [`FaultKind::Gone`](crate::FaultKind::Gone). The machine is left as it is.
    ///
    /// An identity of a later version of this library is refused with [`Misuse::Config`](crate::Misuse::Config).
    #[must_use]
    pub fn resume(identity: Identity) -> Self {
        Self::attach(Peer::Detached(identity.into()))
    }

    /// Sets the protocol of the peer that the machine is [attached](Self::attach) to. Default: [`Dialect::Qmp`]. A
    /// machine that is launched always speaks QMP.
    #[must_use]
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Adds an argument of QEMU, after those that the library adds. `-daemonize` is refused: a run ends with the
    /// process that was started, and with `-daemonize` that process ends as soon as QEMU runs.
    #[must_use]
    pub fn arg(mut self, argument: impl OsBytes) -> Self {
        self.args.push(argument.as_os_bytes().to_vec());
        self
    }

    /// Adds several arguments, as [`arg`](Self::arg).
    #[must_use]
    pub fn args<A: OsBytes>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(arguments.into_iter().map(|argument| argument.as_os_bytes().to_vec()));
        self
    }

    /// Returns the arguments so far, without those that the library adds.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.args
    }

    /// Sets a program, with its arguments, that starts QEMU: `strace -f`, `gdb --args`, `timeout 60`. An earlier
    /// wrapper is replaced.
    ///
    /// The wrapper must pass on the descriptors that it inherits; without them QEMU has no monitor.
    ///
    /// A wrapper may execute QEMU in its place (`env`), stay (`timeout`), leave the process group (`setsid`) or end
    /// before QEMU. The run ends with the process that was started:
    ///
    /// - Signals of the shutdown go to the process group of the wrapper, to the wrapper if it has left that group, and
    ///   to QEMU if it is another process. The library finds QEMU by its monitor: the kernel names the sender of the
    ///   greeting, or the process that dialled. [`qemu_pid`](crate::Machine::qemu_pid) returns its id.
    /// - When the wrapper has ended, the rest of its process group, QEMU, and the processes that still hold an
    ///   inherited monitor are killed.
    ///
    /// # When this program is killed
    ///
    /// The kernel kills the process that was started (`prctl(2)`, `PR_SET_PDEATHSIG`), but not a QEMU behind it. So a
    /// machine with a wrapper has a *guard*: a process that is notified by the kernel when this program ends, in
    /// whichever way. It kills the process that was started, its group, and QEMU. A default launch has no guard. The
    /// library starts one where the kernel alone would leave something behind:
    ///
    /// - with a wrapper;
    /// - when QEMU changes its credentials (`-runas`, `-run-with`), or has changed them by the time of its greeting
    ///   (set-user-ID, file capabilities), since the kernel then drops the parent-death signal;
    /// - when sockets or a private directory must be removed.
    ///
    /// Each [companion](Self::companion) has a guard of its own, which also removes the files of the machine.
    ///
    /// A machine that [outlives its parent](Self::outlive_parent) has none. A guard is a child of this program with the
    /// name `qemu-guard`, which ends with the machine. Its start copies the page tables of this program once, which
    /// takes milliseconds for a program of some gigabytes. It closes the descriptors of this program, unmaps its large
    /// memory, and blocks in one system call.
    ///
    /// # Not possible
    ///
    /// - *A wrapper that changes to another user, while this program is an ordinary user* (`sudo`). The kernel permits
    ///   neither this program nor the guard to send it a signal (`kill(2)`, EPERM). `quit` still ends that QEMU; if
    ///   QEMU does not obey, the cause of the end is [`Cause::Unkillable`](crate::Cause::Unkillable), and only root can
    ///   kill it.
    /// - *A QEMU that the library does not find*: without a monitor, in another pid namespace, or if it dials its
    ///   monitor with [`trust_peer`](Self::trust_peer). Signals reach it only in the process group of the wrapper.
    /// - *Another process that the wrapper leaves behind*, outside of its process group and without the monitor.
    #[must_use]
    pub fn wrapper<A: OsBytes>(mut self, wrapper: impl IntoIterator<Item = A>) -> Self {
        self.wrapper = wrapper.into_iter().map(|word| word.as_os_bytes().to_vec()).collect();
        self
    }

    /// Sets the first part of the name of everything that is created on the host. Default: `qemu-machine`. The library
    /// appends an unpredictable part, so two machines with the same name share no path.
    ///
    /// An empty name, a slash or a NUL byte is refused with [`Misuse::Config`](crate::Misuse::Config).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Cow::Owned(name.into());
        self
    }

    /// Sets the machine type and its options (`-machine`). Default: QEMU's own.
    #[must_use]
    pub fn machine(mut self, machine: impl OsBytes) -> Self {
        self.machine = Some(machine.as_os_bytes().to_vec());
        self
    }

    /// Leaves out `-display none`, so that QEMU opens its default display.
    #[must_use]
    pub fn with_display(mut self) -> Self {
        self.display = true;
        self
    }

    /// Leaves out `-vga none`, so that the guest has the default VGA card of its machine type.
    #[must_use]
    pub fn with_vga(mut self) -> Self {
        self.vga = true;
        self
    }

    /// Sets how QEMU gets its monitor. Default: [`Monitor::Inherited`].
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// Accepts the first client that dials [`Monitor::Socket`] or [`Monitor::At`] and greets, whichever process it is.
    ///
    /// Default: only the process that was started, its descendants, and the processes of its process group are
    /// accepted. By TCP, the socket must also belong to the user of this program, or to [`uid`](Self::uid). The
    /// connection of another process is closed, and the library listens on. If the library cannot find out which
    /// process has dialled, the launch fails with [`LaunchFailure::Host`](crate::LaunchFailure::Host).
    ///
    /// The setting has no effect with other monitors. For an [attached](Self::attach) machine it is refused with
    /// [`Misuse::Config`](crate::Misuse::Config); see [`Peer::Listen`] for which process is accepted there.
    ///
    /// Use it for a [`wrapper`](Self::wrapper) that starts QEMU on another host, in another network namespace, in a
    /// container, or as a daemon, which descends from no process of the wrapper. Then any process that reaches the
    /// address can take the place of QEMU, and receives all commands, with their secrets. The library does not know the
    /// process of QEMU, so it cannot kill a QEMU that is neither the process that was started nor in its process group:
    /// the wrapper must end it.
    #[must_use]
    pub fn trust_peer(mut self) -> Self {
        self.trusts_peer = true;
        self
    }

    /// Sets [`Monitor::None`]: the machine is ready as soon as its process is started, has no commands and no events,
    /// and is ended by signals. Commands are refused with [`Misuse::NoMonitor`](crate::Misuse::NoMonitor).
    #[must_use]
    pub fn without_monitor(self) -> Self {
        self.monitor(Monitor::None)
    }

    /// Adds an unused human monitor (`-monitor null`), for tests that need a QEMU with two monitors (QEMU,
    /// `python/qemu/machine/machine.py`, `add_monitor_null`).
    #[must_use]
    pub fn null_monitor(mut self) -> Self {
        self.null_monitor = true;
        self
    }

    /// Leaves QEMU in the process group of this program, so that Ctrl-C on the terminal reaches QEMU too. Default: QEMU
    /// leads a group of its own.
    ///
    /// Signals of the shutdown then go to the process that was started, and, behind a [`wrapper`](Self::wrapper) that
    /// stays, to QEMU itself as soon as its monitor has greeted. Without a process group of its own, other processes
    /// that the wrapper started get no signal, and are not killed with it.
    #[must_use]
    pub fn share_terminal(mut self) -> Self {
        self.share_terminal = true;
        self
    }

    /// Sets where the log without a path and the private directory (mode 0700) are created. The directory must exist.
    /// Default: the system's directory for temporary files.
    ///
    /// A private directory is created only when something is in it: the socket of [`Monitor::Socket`] or
    /// [`Monitor::Offered`], unless [`socket_directory`](Self::socket_directory) is set; the log of a machine that
    /// [outlives its parent](Self::outlive_parent); or the socket of a [companion](Self::companion) that has a path. A
    /// default launch has none, so nothing of it can be left behind.
    #[must_use]
    pub fn temporary_directory(mut self, path: impl OsBytes) -> Self {
        self.temporary_directory = Some(path.as_os_bytes().to_vec());
        self
    }

    /// Sets where the socket of [`Monitor::Socket`] and [`Monitor::Offered`] is created. The directory must exist.
    /// Default: the private directory. The path of the socket has 107 bytes at most (`unix(7)`), so a deep temporary
    /// directory needs a shorter one here.
    #[must_use]
    pub fn socket_directory(mut self, path: impl OsBytes) -> Self {
        self.socket_directory = Some(path.as_os_bytes().to_vec());
        self
    }

    /// Sets where the log is created, and kept after the end. The log holds what QEMU prints on stdout (unless
    /// [`inherit_stdout`](Self::inherit_stdout) is set) and stderr. The directory must exist.
    ///
    /// Default: the log is a file without a path (`open(2)`, `O_TMPFILE`) in the [temporary
    /// directory](Self::temporary_directory). It can be read through the machine, also after the end, and the kernel
    /// frees it with its last descriptor, however this program ends. [`Outcome::log`](crate::Outcome::log) has its end.
    /// The log of a machine that [outlives its parent](Self::outlive_parent) is in the private directory.
    ///
    /// A QEMU that prints all the time (`-d guest_errors`, `-trace`) fills the disk, in either place:
    /// [`log_limit`](Self::log_limit) bounds the log.
    #[must_use]
    pub fn log_directory(mut self, path: impl OsBytes) -> Self {
        self.log_directory = Some(path.as_os_bytes().to_vec());
        self
    }

    /// Bounds the disk space of the log, and of each [console log](Self::console_log), to this number of bytes. When a
    /// file is larger, its oldest bytes are removed, so that the latest half of the limit is kept (rounded up to a
    /// block). Default: the logs are not bounded. Less than 64 KiB, and any limit for an [attached](Self::attach)
    /// machine that is not resumed, is refused with [`Misuse::Config`](crate::Misuse::Config).
    ///
    /// QEMU writes to the file directly; no thread of this program has to read for it. The library looks at a file 10
    /// milliseconds after QEMU has written to it. So a file may exceed the limit by what QEMU writes in that time and
    /// during a removal. A removal that fails, as on a full disk, is tried again at the next write. A write of QEMU
    /// waits only for a removal in progress: ext4 first writes the rest of the file to the disk, which took 15
    /// milliseconds for a limit of 16 MiB (measured with Linux 6.18).
    ///
    /// | file system | bounded log |
    /// |---|---|
    /// | ext4, XFS, F2FS | The file shrinks (`fallocate(2)`, `FALLOC_FL_COLLAPSE_RANGE`). It begins in the middle of a line. |
    /// | tmpfs, Btrfs, NFS 4.2, and others with `FALLOC_FL_PUNCH_HOLE` | The disk space is freed, but the file keeps its length, and its head reads as zeros. [`Outcome::log`](crate::Outcome::log) has none of them. With [`Resource::FileSize`], QEMU gets SIGXFSZ when all bytes that it ever wrote to the file reach that limit (`setrlimit(2)`, RLIMIT_FSIZE). |
    /// | others | The log is not bounded. With the feature `tracing` the library logs that at the launch, as a fault; without it, nothing reports that. |
    ///
    /// The bound ends with the machine. One that [outlives its parent](Self::outlive_parent) is bounded only while this
    /// program runs. A program that [resumes](Self::resume) it bounds the log by the limit of its own configuration, and no
    /// console log.
    ///
    /// All bounded logs of this program share one thread, `qemu-log`, and one inotify instance (`inotify(7)`). The
    /// launch fails with [`LaunchFailure::Host`](crate::LaunchFailure::Host) when the log cannot be watched: without
    /// `/proc`, or at the limit of inotify instances or watches. A file system that does not answer delays the bounding
    /// of all logs, but nothing else of other machines.
    #[must_use]
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.log_limit = Some(bytes);
        self
    }

    /// Sets the deadline of the launch, from its start until the monitor is ready: the execution of the program, the
    /// greeting, the capabilities negotiation, and, if the guest is [held](Self::autostart), the reply to
    /// `query-status`. With [`outlive_parent`](Self::outlive_parent), the reply to the `cont` that follows is awaited
    /// as well. Default: [`LAUNCH_WITHIN`](Self::LAUNCH_WITHIN), 30 seconds. When the deadline passes, also while the
    /// file system of the program does not answer, the process is killed, and the launch fails with
    /// [`LaunchFailure::TimedOut`](crate::LaunchFailure::TimedOut). With [`FOREVER`](crate::FOREVER), a QEMU that never
    /// greets blocks the launch for ever.
    #[must_use]
    pub fn launch_within(mut self, deadline: impl Into<Deadline>) -> Self {
        self.launch_within = deadline.into();
        self
    }

    /// Lets QEMU run on when this program dies without dropping the machine (SIGKILL, a crash, `exit`), and when the
    /// machine is [detached](crate::Machine::detach). Dropping the last handle still kills QEMU, also while a panic
    /// unwinds: detach first.
    ///
    /// It sets [`Monitor::Offered`], so that a program that has the [`Identity`] can [resume](Self::resume) the
    /// machine. Store the identity as soon as the machine runs.
    ///
    /// The connections of consoles and services close with this program. Console output after that is lost, except in
    /// [console logs](Self::console_log).
    #[must_use]
    pub fn outlive_parent(mut self) -> Self {
        self.outlives_parent = true;
        self.monitor(Monitor::Offered)
    }

    /// Sends no heartbeats: the monitor receives nothing but the negotiation, the commands that start a held guest
    /// (without [`autostart`](Self::autostart)), and the commands of callers and of the shutdown. A command that times
    /// out then always reports [`Liveness::Unknown`](crate::Liveness::Unknown), not whether QEMU is busy or stuck.
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = false;
        self
    }

    /// Records every input and output of the machine, up to [`Limits::record`] bytes: for a bug report, or for
    /// [tests without a QEMU](crate::record::Mock). The [`record`](crate::record) is attached to the outcome, and so to
    /// the errors that carry one. It contains the passwords that went over the wire, unless they are
    /// [redacted](crate::record::Record::redact).
    #[cfg(feature = "record")]
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// Sets the bounds of what is kept in memory. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

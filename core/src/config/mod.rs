//! Decides what can be asked of a machine before it is launched.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::descriptor::Descriptor;
use crate::identity::Identity;
use crate::time::Deadline;
use crate::transport::{Monitor, Peer};

mod check;
mod limits;
mod parts;
mod preparation;

pub use limits::Limits;
pub(crate) use parts::{Added, ConsolePart, Frontend};
pub use parts::{Dialect, Service};

/// What to run, and how.
///
/// Paths and arguments are bytes, as the operating system has them: text converts by itself, and a path through
/// `path.as_os_str().as_encoded_bytes()`.
///
/// ```
/// use qemu_machine_core::Config;
///
/// let config = Config::new("qemu-system-x86_64").args(["-accel", "kvm", "-accel", "tcg"]).serial("tty");
/// assert!(config.command_line()?.to_string().contains("-accel kvm"));
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) wrapper: Vec<Vec<u8>>,
    pub(crate) name: String,
    pub(crate) machine: Option<Vec<u8>>,
    pub(crate) display: bool,
    pub(crate) vga: bool,
    pub(crate) monitor: Monitor,
    pub(crate) null_monitor: bool,
    pub(crate) consoles: Vec<ConsolePart>,
    /// A console that was to have a log and is not there.
    pub(crate) unknown_log: Option<String>,
    pub(crate) services: Vec<Service>,
    pub(crate) added: Vec<Added>,
    pub(crate) share_terminal: bool,
    pub(crate) peer: Option<Peer>,
    pub(crate) dialect: Dialect,
    pub(crate) temporary_directory: Option<Vec<u8>>,
    pub(crate) socket_directory: Option<Vec<u8>>,
    pub(crate) log_directory: Option<Vec<u8>>,
    pub(crate) launch_within: Deadline,
    pub(crate) heartbeat: bool,
    pub(crate) outlives_parent: bool,
    #[cfg(feature = "record")]
    pub(crate) recorded: bool,
    pub(crate) limits: Limits,
}

impl Config {
    /// The chardev that is the monitor. A console cannot have this name.
    pub(crate) const MONITOR: &'static str = "mon";

    /// How long a launch takes at most, unless said otherwise: QEMU's own Python class waits as long.
    pub const LAUNCH_WITHIN: Duration = Duration::from_secs(30);

    /// A machine that runs this program, with a monitor and without a display.
    #[must_use]
    pub fn new(program: impl Into<Vec<u8>>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            wrapper: Vec::new(),
            name: "qemu-machine".to_string(),
            machine: None,
            display: false,
            vga: false,
            monitor: Monitor::default(),
            null_monitor: false,
            consoles: Vec::new(),
            unknown_log: None,
            services: Vec::new(),
            added: Vec::new(),
            share_terminal: false,
            peer: None,
            dialect: Dialect::default(),
            temporary_directory: None,
            socket_directory: None,
            log_directory: None,
            launch_within: Deadline::after(Self::LAUNCH_WITHIN),
            heartbeat: true,
            outlives_parent: false,
            #[cfg(feature = "record")]
            recorded: false,
            limits: Limits::default(),
        }
    }

    /// A machine that somebody else launched, and that we only speak with. It has commands and events like any other,
    /// but no process, no consoles and no log of ours; what [`Config::launch_within`] bounds is the connection,
    /// greeting and negotiation.
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

    /// A machine that was launched to be [kept](Self::outlive_parent), by us before a restart or by another program.
    /// Nothing is dialled unless the process is the very same, and its socket too. Events between the two sessions are
    /// missed; that is told with [`Notice::Gap`](crate::Notice::Gap).
    #[must_use]
    pub fn resume(identity: Identity) -> Self {
        Self::attach(Peer::Detached(identity))
    }

    /// What is spoken by what we are [attached](Self::attach) to, when it is not QMP.
    #[must_use]
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// One more argument, behind those that the library adds.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.args.push(argument.into());
        self
    }

    /// More arguments, behind those that the library adds.
    #[must_use]
    pub fn args<A: Into<Vec<u8>>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The arguments so far, without those that the library adds.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.args
    }

    /// A program with its arguments that runs QEMU for us: `strace -f`, `gdb --args`, `timeout 60`.
    ///
    /// It must hand on the descriptors that it inherits. It is in one process group with QEMU, and at the end of the
    /// machine the whole group is ended.
    ///
    /// When our own program is killed, the kernel ends the wrapper. One that becomes QEMU (`env`) is QEMU then; one
    /// that stays (`timeout`) leaves QEMU behind, unless it is told to pass its end on: `timeout 60 setpriv
    /// --pdeathsig KILL`.
    #[must_use]
    pub fn wrapper<A: Into<Vec<u8>>>(mut self, wrapper: impl IntoIterator<Item = A>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// The first part of the name of what is made on the host. What cannot be predicted is added to it: unlike in QEMU's
    /// Python class, two machines of one name share no path, and neither do two without a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The machine type (`-machine`), with its options if there are any.
    #[must_use]
    pub fn machine(mut self, machine: impl Into<Vec<u8>>) -> Self {
        self.machine = Some(machine.into());
        self
    }

    /// Leaves out `-display none`.
    #[must_use]
    pub fn with_display(mut self) -> Self {
        self.display = true;
        self
    }

    /// Leaves out `-vga none`.
    #[must_use]
    pub fn with_vga(mut self) -> Self {
        self.vga = true;
        self
    }

    /// How QEMU comes by its monitor, instead of inheriting it.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// A machine without a monitor: it is ready when it is started, has no commands and no events, and is ended by
    /// signals.
    #[must_use]
    pub fn without_monitor(self) -> Self {
        self.monitor(Monitor::None)
    }

    /// One more human monitor (`-monitor null`) that nobody uses. Some tests want to see that QEMU has two.
    #[must_use]
    pub fn null_monitor(mut self) -> Self {
        self.null_monitor = true;
        self
    }

    /// One more serial console, under this name. The first is the guest's first serial port, and so on.
    ///
    /// What it prints is read all the time, whether anybody looks or not, so that it never stops the guest.
    #[must_use]
    pub fn serial(self, name: impl Into<String>) -> Self {
        self.console(Some(name.into()), Frontend::Serial)
    }

    /// Leaves the guest's next serial port unconnected (`-serial null`), so that the console behind it is a later one.
    #[must_use]
    pub fn no_serial(self) -> Self {
        self.console(None, Frontend::Serial)
    }

    /// A console on a device, which is given up to its chardev: `isa-debugcon,iobase=0xe9`, say. QEMU makes devices in
    /// the order of the command line, so for one that needs another of the caller's arguments before it (`virtconsole`),
    /// take [`chardev`](Self::chardev).
    #[must_use]
    pub fn console_on(self, name: impl Into<String>, device: impl Into<Vec<u8>>) -> Self {
        self.console(Some(name.into()), Frontend::Device(device.into()))
    }

    /// A console as a chardev of this name, for which the caller's own arguments find a use: `-debugcon chardev:NAME`,
    /// or a second human monitor.
    #[must_use]
    pub fn chardev(self, name: impl Into<String>) -> Self {
        self.console(Some(name.into()), Frontend::Chardev)
    }

    /// Also writes what a console prints to a file, from its first byte to its last. QEMU itself does it; QEMU's Python
    /// class begins only when its console is first asked for.
    ///
    /// The file is made at launch, for its owner alone; one that is there is emptied. It stays after the end. The console
    /// is named before its log.
    #[must_use]
    pub fn console_log(mut self, name: &str, path: impl Into<Vec<u8>>) -> Self {
        match self.consoles.iter_mut().find(|console| console.name.as_deref() == Some(name)) {
            Some(console) => console.log = Some(path.into()),
            None => self.unknown_log = Some(name.into()),
        }
        self
    }

    fn console(mut self, name: Option<String>, frontend: Frontend) -> Self {
        self.consoles.push(ConsolePart { name, frontend, log: None });
        self
    }

    /// A port for the guest agent: a virtio-serial device with `org.qemu.guest_agent.0` on it.
    #[must_use]
    pub fn guest_agent(self) -> Self {
        self.service(Service::GuestAgent)
    }

    /// A port for QEMU's qtest. Debian's QEMU takes its commands beside any accelerator, but has no
    /// `-accel qtest`, and so no clock that can be stepped.
    #[must_use]
    pub fn qtest(self) -> Self {
        self.service(Service::Qtest)
    }

    fn service(mut self, service: Service) -> Self {
        if !self.services.contains(&service) {
            self.services.push(service);
        }
        self
    }

    /// Has QEMU inherit a descriptor in a set of its own (`-add-fd`), where `/dev/fdset/SET` stands for it. No other
    /// process inherits it. It stays open with us as long as the configuration is kept. `opaque` is a note that
    /// `query-fdsets` gives back; it may be empty.
    #[must_use]
    pub fn add_fd(mut self, descriptor: Descriptor, set: u32, opaque: impl Into<Vec<u8>>) -> Self {
        self.added.push(Added { descriptor, set, opaque: opaque.into() });
        self
    }

    /// Leaves QEMU in our process group, so that the keys of our terminal (Ctrl-C) reach it as well, as they do under
    /// QEMU's Python class. Signals of the
    /// shutdown then reach the process that we started, and not what a wrapper has started in turn.
    #[must_use]
    pub fn share_terminal(mut self) -> Self {
        self.share_terminal = true;
        self
    }

    /// Where the private directory is made, instead of the host's directory for temporary files.
    #[must_use]
    pub fn temporary_directory(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.temporary_directory = Some(path.into());
        self
    }

    /// Where the socket of [`Monitor::Socket`] is made, instead of the private directory. The directory must be there.
    #[must_use]
    pub fn socket_directory(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.socket_directory = Some(path.into());
        self
    }

    /// Where the log is kept after the end. Without it, the log goes with the private directory.
    #[must_use]
    pub fn log_directory(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.log_directory = Some(path.into());
        self
    }

    /// How long it may take from the start of the launch to the end of the negotiation. In most versions
    /// of QEMU's Python class, the greeting has no deadline.
    #[must_use]
    pub fn launch_within(mut self, deadline: impl Into<Deadline>) -> Self {
        self.launch_within = deadline.into();
        self
    }

    /// Lets QEMU live on when we die, or when the machine is [detached](crate::Machine::detach): its monitor is
    /// [`Monitor::Offered`], so that whoever knows its [`Identity`] can go on with it. While we live, it is ours as any
    /// other machine: dropped, it is ended.
    ///
    /// Its consoles are at their end with us; what the guest prints after that is lost, except in the
    /// [logs of consoles](Self::console_log). So are the ports.
    #[must_use]
    pub fn outlive_parent(mut self) -> Self {
        self.outlives_parent = true;
        self.monitor(Monitor::Offered)
    }

    /// Never asks QEMU for a heartbeat: what is sent is what the callers said, and a command that runs out of time
    /// does not say whether QEMU is busy or stuck. See [`Liveness`](crate::Liveness).
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = false;
        self
    }

    /// Records every input and output of the machine, up to [`Limits::record`] bytes: for a bug report, or for
    /// [tests without a QEMU](crate::record::Mock). The [`record`](crate::record) is attached to the outcome, and so to the errors
    /// that carry one. It contains the passwords that went over the wire, unless they are
    /// [redacted](crate::record::Record::redact).
    #[cfg(feature = "record")]
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// The bounds of what is kept in memory.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

//! Decides what can be asked of a machine before it is launched.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::fault::Misuse;
use crate::time::Deadline;

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
    pub(crate) headless: bool,
    pub(crate) monitor: bool,
    pub(crate) serials: Vec<String>,
    pub(crate) temporary: Option<Vec<u8>>,
    pub(crate) log_directory: Option<Vec<u8>>,
    pub(crate) launch_within: Deadline,
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
            headless: true,
            monitor: true,
            serials: Vec::new(),
            temporary: None,
            log_directory: None,
            launch_within: Deadline::after(Self::LAUNCH_WITHIN),
            limits: Limits::default(),
        }
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

    /// The first part of the name of what is made on the host. What cannot be predicted is added to it.
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

    /// Leaves out `-display none -vga none`.
    #[must_use]
    pub fn with_display(mut self) -> Self {
        self.headless = false;
        self
    }

    /// A machine without a monitor: it is ready when it is started, has no commands and no events, and is ended by
    /// signals.
    #[must_use]
    pub fn without_monitor(mut self) -> Self {
        self.monitor = false;
        self
    }

    /// One more serial console, under this name. The first is the guest's first serial port, and so on.
    ///
    /// What it prints is read all the time, whether anybody looks or not, so that it never stops the guest.
    #[must_use]
    pub fn serial(mut self, name: impl Into<String>) -> Self {
        self.serials.push(name.into());
        self
    }

    /// Where the private directory is made, instead of the host's directory for temporary files.
    #[must_use]
    pub fn temporary_directory(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.temporary = Some(path.into());
        self
    }

    /// Where the log is kept after the end. Without it, the log goes with the private directory.
    #[must_use]
    pub fn log_directory(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.log_directory = Some(path.into());
        self
    }

    /// How long it may take from the start of the launch to the end of the negotiation.
    #[must_use]
    pub fn launch_within(mut self, deadline: impl Into<Deadline>) -> Self {
        self.launch_within = deadline.into();
        self
    }

    /// The bounds of what is kept in memory.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What cannot become a command line.
    pub(crate) fn check(&self) -> Result<(), Misuse> {
        let wrong = |what: &str| Err(Misuse::Config(what.to_string()));
        if self.program.is_empty() {
            return wrong("the program has no name");
        }
        let mut all = self.wrapper.iter().chain(&self.args).chain([&self.program]).chain(&self.machine);
        if all.any(|argument| argument.contains(&0)) {
            return wrong("an argument contains a NUL byte");
        }
        if self.args.iter().any(|argument| matches!(&**argument, b"-daemonize" | b"--daemonize")) {
            return wrong("-daemonize takes QEMU out of our hands, and nobody would end it");
        }
        if self.name.is_empty() || self.name.contains(['/', '\0']) {
            return wrong("the name is empty or contains a slash");
        }
        for (index, name) in self.serials.iter().enumerate() {
            if !is_identifier(name) || name == Self::MONITOR || self.serials[..index].contains(name) {
                return Err(Misuse::Config(alloc::format!(
                    "`{name}` cannot name a console: it must be an identifier that is not used yet"
                )));
            }
        }
        Ok(())
    }
}

/// QEMU's rule for ids: a letter, then letters, digits and `-._`.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|next| next.is_ascii_alphanumeric() || "-._".contains(next))
}

/// The bounds of what is kept in memory, each with what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One message of the monitor, in bytes: 64 MiB, the bound of QEMU's own parser. Beyond it the message is
    /// skipped, and the oldest command fails with [`ProtocolError::TooLarge`](crate::ProtocolError::TooLarge).
    pub message: usize,
    /// The past events, in bytes: 1 MiB is some five thousand. Beyond it the oldest are forgotten and counted.
    pub events: usize,
    /// The events that wait for one listener, in bytes: as many as are remembered, so that a listener may begin with
    /// all of them. Beyond it the oldest are dropped and counted, for that listener alone.
    pub listener: usize,
    /// Listeners at once: 64 full queues are as much as one message may be. Each looks at every event. Beyond it,
    /// listening is refused.
    pub listeners: usize,
    /// The output of one console, in bytes: 1 MiB is a long boot. Beyond it the oldest bytes are forgotten and
    /// counted.
    pub console: usize,
    /// What waits to be typed on one console, in bytes. Beyond it, typing is refused.
    pub console_input: usize,
    /// Commands that wait for their reply or for its being claimed. Beyond it, commands are refused.
    pub commands: usize,
    /// Waits that are pending, or over and not claimed. Beyond it, waits are refused.
    pub waits: usize,
    /// The end of the log and of each console in an outcome, in bytes: what fits on a few screens.
    pub last_words: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 64 << 20,
            events: 1 << 20,
            listener: 1 << 20,
            listeners: 64,
            console: 1 << 20,
            console_input: 1 << 20,
            commands: 10_000,
            waits: 10_000,
            last_words: 8 << 10,
        }
    }
}

//! Consoles, services, extra monitors and fdsets of a configuration: the connections to a machine beside its monitor.

use alloc::format;
use alloc::string::String;

use super::{Added, Config, ConsolePart, ExtraMonitor, Frontend, Service};
use crate::descriptor::Descriptor;
use crate::os_bytes::OsBytes;

impl Config {
    /// Adds a serial console under this name. The first one is the guest's first serial port, the second one its
    /// second, and so on.
    ///
    /// The name is the id of a chardev: a letter, then letters, digits and `-._`, different from all other ids. The
    /// console is read all the time, since a console that is not read stops the guest. The latest
    /// [`Limits::console`](crate::Limits::console) bytes are kept.
    #[must_use]
    pub fn serial(self, name: impl Into<String>) -> Self {
        self.console(Some(name.into()), Frontend::Serial)
    }

    /// Leaves the guest's next serial port unconnected (`-serial null`). The next [`serial`](Self::serial) is the port
    /// after it.
    #[must_use]
    pub fn no_serial(self) -> Self {
        self.console(None, Frontend::Serial)
    }

    /// Adds a console on a device. `device` is the value of `-device` without its chardev, for example
    /// `isa-debugcon,iobase=0xe9`.
    ///
    /// QEMU creates devices in the order of the command line. A device that needs another device before it
    /// (`virtconsole` needs `virtio-serial`) comes too early here: use [`chardev`](Self::chardev) for it.
    #[must_use]
    pub fn console_on(self, name: impl Into<String>, device: impl OsBytes) -> Self {
        self.console(Some(name.into()), Frontend::Device(device.as_os_bytes().to_vec()))
    }

    /// Adds a console as a chardev only. The caller's own arguments connect it: `-debugcon chardev:NAME`, or a second
    /// human monitor (`-monitor chardev:NAME`).
    #[must_use]
    pub fn chardev(self, name: impl Into<String>) -> Self {
        self.console(Some(name.into()), Frontend::Chardev)
    }

    /// Follows the log, what the process prints on its standard output and error, while it runs: as a console named
    /// `log`, which takes no input. [`Wait::log`](crate::Wait::log) waits for the next line of a level, and the waits and
    /// streams of consoles work as well.
    ///
    /// The process then prints to a pipe instead of a file. That has consequences:
    ///
    /// - The log is in memory: the last [`Limits::console`](crate::Limits::console) bytes, 1 MiB by default, for the
    ///   waits, and again for `log` of the runtimes and [`Outcome::log`](crate::Outcome::log). There is no file, so the
    ///   setting is refused with [`log_directory`](Self::log_directory), and for a machine that [outlives its
    ///   parent](Self::outlive_parent): without this program there would be no reader.
    /// - The process waits while the log is not read. A driver reads it all the time, as it reads the consoles. A QEMU that
    ///   prints more than that (`-d in_asm`) is slowed down.
    /// - When another process keeps the pipe open after the end, one that a [`wrapper`](Self::wrapper) has left behind,
    ///   the run ends two seconds later.
    ///
    /// ```
    /// use qemu_machine_core::{Config, LogLevel, Wait};
    ///
    /// let config = Config::new("qemu-system-x86_64").follow_log();
    /// let things = [Wait::log(LogLevel::Warning), Wait::end()];
    /// # assert!(config.command_line().is_ok());
    /// ```
    #[must_use]
    pub fn follow_log(self) -> Self {
        if self.log_console().is_some() { self } else { self.console(Some(Self::LOG.into()), Frontend::Log) }
    }

    /// Returns the index of the console that is the log. `None` means that the log is not followed.
    pub(crate) fn log_console(&self) -> Option<usize> {
        let mut named = self.consoles.iter().filter(|console| console.name.is_some());
        named.position(|console| console.frontend == Frontend::Log)
    }

    /// Returns the name by which QEMU reports: that of its program without directories (QEMU, `util/error-report.c`,
    /// `error_init`).
    pub(crate) fn reporter(&self) -> &[u8] {
        self.program.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Also writes the output of a console to a file, from its first byte on. QEMU itself writes it (QEMU,
    /// `chardev/char.c`, `qemu_chr_write_log`), so the log goes on after [`detach`](crate::Machine::detach). QEMU skips
    /// what it cannot write, on a full disk for example. A byte that the console's socket does not accept at once, since
    /// this program reads too slowly, may be in the file twice (QEMU, `chardev/char.c`, `qemu_chr_write_buffer`; measured
    /// with QEMU 7.2.22). [`log_limit`](Self::log_limit) bounds it: QEMU opens the file with
    /// `O_APPEND` (same file, `qemu_char_open`; the library sets `logappend=on`).
    ///
    /// The file is created at launch with mode 0600; a regular file that exists is emptied and keeps its mode. A
    /// symbolic link, a directory or a special file at the path fails the launch with
    /// [`LaunchFailure::Host`](crate::LaunchFailure::Host). The file is kept after the end. Add the console before its
    /// log: a name that no console has is refused with [`Misuse::UnknownConsole`](crate::Misuse::UnknownConsole).
    #[must_use]
    pub fn console_log(mut self, name: &str, path: impl OsBytes) -> Self {
        let is_meant =
            |console: &&mut ConsolePart| console.name.as_deref() == Some(name) && console.frontend != Frontend::Log;
        match self.consoles.iter_mut().find(is_meant) {
            Some(console) => console.log = Some(path.as_os_bytes().to_vec()),
            None => self.unknown_log = Some(name.into()),
        }
        self
    }

    fn console(mut self, name: Option<String>, frontend: Frontend) -> Self {
        self.consoles.push(ConsolePart { name, frontend, log: None });
        self
    }

    /// Adds a port for the guest agent: a virtio-serial device with the port `org.qemu.guest_agent.0`. The agent in the
    /// guest opens the port some time after the boot: [`Wait::agent_up`](crate::Wait::agent_up).
    #[must_use]
    pub fn guest_agent(self) -> Self {
        self.service(Service::GuestAgent)
    }

    /// Adds a connection to QEMU's qtest (`-qtest`), which works with any accelerator. Debian's QEMU has no
    /// `-accel qtest` (measured with QEMU 7.2.22), so that `clock_step` cannot be used there.
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

    /// Adds a monitor for other programs, on a Unix socket at this path: a shell (`qmpsh PATH`), a debugger, `nc -U`. It
    /// speaks QMP unless it is [human](ExtraMonitor::human). It serves one program after the other, while the machine has its
    /// own monitor for itself.
    ///
    /// The library creates the socket before QEMU is started, with the [mode](ExtraMonitor::mode) 0600 by default, and QEMU
    /// inherits it: at no moment can a user connect whom that mode excludes. The directory must exist. The launch fails with
    /// [`LaunchFailure::Host`](crate::LaunchFailure::Host) if the path exists: a socket that a killed program has left
    /// behind must be removed first. A path that is relative or too long is refused with
    /// [`Misuse::Config`](crate::Misuse::Config), as is each extra monitor of an [attached](Self::attach) machine.
    ///
    /// The socket is removed when the machine ends. When the program is killed, its [guard](Self::wrapper) removes it: so a
    /// machine with an extra monitor has one. The socket of a machine that [outlives its parent](Self::outlive_parent) stays
    /// in use after [`detach`](crate::Machine::detach), and the program that [resumes](Self::resume) and ends the machine
    /// removes it. A file that another program has created at the path meanwhile is kept.
    ///
    /// The machine receives the events that commands of the other program cause (`STOP`, `RESUME`, `SHUTDOWN`). If the other
    /// program executes `quit`, the run ends with [`Cause::QuitByOther`](crate::Cause::QuitByOther), under three conditions:
    ///
    /// - The launch is complete. Before, it fails with [`LaunchFailure::Exited`](crate::LaunchFailure::Exited).
    /// - The machine has a monitor. With [`Monitor::None`](crate::Monitor::None) it receives no event, and the cause is
    ///   [`Cause::Exit`](crate::Cause::Exit) with the status 0.
    /// - The machine has not sent its own `quit`, to which the end is ascribed otherwise.
    #[must_use]
    pub fn extra_monitor(mut self, monitor: impl Into<ExtraMonitor>) -> Self {
        self.extra_monitors.push(monitor.into());
        self
    }

    /// Returns the id of the chardev of the extra monitor with this index.
    pub(crate) fn extra_monitor_id(index: usize) -> String {
        format!("extra-monitor-{index}")
    }

    /// Adds a descriptor that QEMU inherits (`-add-fd`) and opens as `/dev/fdset/SET`, wherever an option takes a path.
    /// No other process inherits it. `opaque` is a note that `query-fdsets` returns; it may be empty.
    ///
    /// The descriptor is handed over: it is closed in this program when QEMU is started, or when the launch has failed. So
    /// the other end of a pipe or socket sees the end of QEMU while the machine is kept. (A clone of the configuration or of
    /// the [`Descriptor`] that the caller keeps leaves it open.) The machine can then be launched only once:
    /// [`keep_fds`](Self::keep_fds) keeps the descriptors for the next run.
    ///
    /// [`inherit_fd`](Self::inherit_fd) is for options that take the number of a descriptor: a tap device, a socket.
    #[must_use]
    pub fn add_fd(mut self, descriptor: Descriptor, set: u32, opaque: impl OsBytes) -> Self {
        self.added.push(Added { descriptor, set, opaque: opaque.as_os_bytes().to_vec() });
        self
    }

    /// Keeps the descriptors of [`add_fd`](Self::add_fd) and [`inherit_fd`](Self::inherit_fd) open in this program as long
    /// as the machine exists, so that it can be launched again with them. Default: they are closed when QEMU has them, and
    /// a second launch is refused with [`Misuse::UsedUp`](crate::Misuse::UsedUp).
    ///
    /// The runs share the open file descriptions: the second run of a file begins at the offset where the first one ended
    /// (`open(2)`).
    #[must_use]
    pub fn keep_fds(mut self) -> Self {
        self.keeps_fds = true;
        self
    }
}

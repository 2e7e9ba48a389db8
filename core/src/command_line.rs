//! Command line of a machine: the arguments that a configuration becomes, and their display for a shell.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::channel::Channel;
use crate::companion::Companion;
use crate::config::{Added, Config, ExtraMonitor, Frontend, Service, UserNetwork};
use crate::fault::Misuse;
use crate::input::{Inherited, Prepared};
use crate::text::{LeftOut, is_printable, shortened};
use crate::transport::{Address, Monitor};

/// The command line of a machine.
///
/// [`arguments`](Self::arguments) returns what is executed. `{}` displays a line that can be pasted into a shell: there
/// the monitor is the terminal (`stdio`), and consoles and services are unconnected (`null`), since a shell serves no
/// sockets. All of it is printable: bash's `$'…'` escapes other characters. The middle of an argument of more than
/// 4 KiB is left out, so that a shell refuses the line; `{:#}` displays the complete line.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    executed: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
}

impl Config {
    /// Checks the configuration, and returns its command line. Descriptor numbers and socket addresses are assigned at
    /// launch. Here, descriptors have the numbers of a process with nothing else open (3 and up), and a socket without
    /// an address is the terminal.
    ///
    /// The command line of an attached machine is empty, since it is not known. That of a resumed one is known from its
    /// launch on.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] for an empty program, `-daemonize`, a NUL byte in an argument, a path or a variable, an invalid
    /// name, a console name that QEMU refuses or that is used twice, the id of a network that QEMU refuses, a host forward
    /// to port 0 of the guest, the path or name of a socket that is empty or longer than 107 bytes, a limit of the log below
    /// 64 KiB, a log that is [followed](Self::follow_log) and is to be a file as well, a dialect other than QMP for a machine
    /// that is launched,
    /// [`wait_for_listener`](Self::wait_for_listener) without [`Peer::Dial`](crate::Peer::Dial), and settings of a launch
    /// for an attached machine, and a [companion](Self::companion) that cannot be started or reached: without a program, with
    /// the name or id of another, with a backend but no socket, or for a machine that outlives its parent.
    /// [`Misuse::UnknownConsole`] for the log of a console that does not exist.
    /// [`Misuse::EmptyFilter`] and [`Misuse::NotAnEvent`] for a filter of [`subscribe`](Self::subscribe).
    pub fn command_line(&self) -> Result<CommandLine, Misuse> {
        self.check()?;
        let descriptors = self.inherited().into_iter().zip(Self::FIRST_INHERITED..).collect();
        let monitor = match &self.monitor {
            Monitor::At(address) => Some(address.clone()),
            Monitor::Inherited | Monitor::Socket | Monitor::Offered | Monitor::None => None,
        };
        let socket = |(index, companion): (usize, &Companion)| (index, companion.socket_name().into_bytes());
        let companions = self.companions.iter().enumerate().map(socket).collect();
        Ok(self.command_line_with(&Prepared { descriptors, monitor, companions, ..Prepared::default() }))
    }

    /// Returns the command line with the descriptor numbers and the address that the host prepared.
    pub(crate) fn command_line_with(&self, prepared: &Prepared) -> CommandLine {
        if self.peer.is_some() {
            // That of a machine that is resumed was composed by an earlier program.
            let found = prepared.process.as_ref().map(|process| process.arguments.clone()).unwrap_or_default();
            return CommandLine { executed: found.clone(), shown: found };
        }
        let number = |what: Inherited| prepared.descriptor(what);
        let executed = |what: Inherited| match (what, &prepared.monitor) {
            (Inherited::Channel(Channel::Monitor), _) if self.monitor == Monitor::Offered => serve(number(what)),
            (Inherited::MonitorSocket(_), _) => serve(number(what)),
            (Inherited::Channel(Channel::Monitor), Some(address)) => dial(address),
            (Inherited::Channel(Channel::Monitor), None) if self.monitor == Monitor::Socket => b"stdio".to_vec(),
            _ => format!("socket,fd={}", number(what)).into_bytes(),
        };
        let shown = |what: Inherited| match what {
            Inherited::Channel(Channel::Monitor) => b"stdio".to_vec(),
            Inherited::Channel(Channel::Console(_)) | Inherited::Service(_) => b"null".to_vec(),
            Inherited::MonitorSocket(index) => self.extra_monitors.get(index).map(served_at).unwrap_or_default(),
            Inherited::Passed(_) | Inherited::Added(_) | Inherited::Companion(_) => Vec::new(),
        };
        let added = |index| format!("fd={}", number(Inherited::Added(index)));
        let hold = self.holds_guest().then(|| Self::HOLD.to_vec());
        let companions = self.companion_options(prepared);
        CommandLine {
            executed: self.compose(executed, added, &companions, hold),
            shown: self.compose(shown, added, &companions, None),
        }
    }

    /// Returns the channels of the machine, the monitor first.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let monitor = (self.monitor != Monitor::None).then_some(Channel::Monitor);
        monitor.into_iter().chain((0..self.console_names().count()).map(Channel::Console)).collect()
    }

    pub(crate) fn console_names(&self) -> impl Iterator<Item = &String> {
        self.consoles.iter().filter_map(|console| console.name.as_ref())
    }

    /// Returns what the process inherits, in the order of the command line.
    fn inherited(&self) -> Vec<Inherited> {
        let dials = self.monitor != Monitor::Inherited;
        let log = self.log_console().map(Channel::Console);
        let channels = self.channels().into_iter().filter(|channel| *channel != Channel::Monitor || !dials);
        let channels = channels.filter(|channel| Some(*channel) != log);
        let ports = self.services.iter().copied().map(Inherited::Service);
        let passed = (0..self.passed.len()).map(Inherited::Passed);
        let added = (0..self.added.len()).map(Inherited::Added);
        let monitors = (0..self.extra_monitors.len()).map(Inherited::MonitorSocket);
        let companions = self.connected_companions().map(Inherited::Companion);
        let channels = passed.chain(channels.map(Inherited::Channel)).chain(ports);
        channels.chain(monitors).chain(added).chain(companions).collect()
    }

    /// Composes the arguments: display, monitors, machine type, consoles, services, networks, companions, descriptors,
    /// `-S`, and then
    /// those of the caller, which can override the others.
    fn compose(
        &self,
        backend: impl Fn(Inherited) -> Vec<u8>,
        added: impl Fn(usize) -> String,
        companions: &[[Vec<u8>; 2]],
        hold: Option<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let mut line = self.wrapper.clone();
        line.push(self.program.clone());
        let mut add = |arguments: &[&[u8]]| line.extend(arguments.iter().map(|argument| argument.to_vec()));
        if !self.display {
            add(&[b"-display", b"none"]);
        }
        if !self.vga {
            add(&[b"-vga", b"none"]);
        }
        self.compose_monitors(&backend, &mut add);
        if let Some(machine) = &self.machine {
            add(&[b"-machine", machine]);
        }
        self.compose_consoles(&backend, &mut add);
        for port in &self.services {
            add(&[b"-chardev", &chardev(backend(Inherited::Service(*port)), port.id())]);
            match port {
                Service::GuestAgent => add(&[b"-device", b"virtio-serial", b"-device", AGENT]),
                Service::Qtest => add(&[b"-qtest", b"chardev:qtest"]),
            }
        }
        for network in &self.networks {
            add(&[b"-netdev", network.option().as_bytes()]);
        }
        for [option, value] in companions {
            add(&[option, value]);
        }
        for (index, part) in self.added.iter().enumerate() {
            add(&[b"-add-fd", &part.option(&added(index))]);
        }
        line.extend(hold);
        line.extend(self.args.iter().cloned());
        line
    }

    fn compose_monitors(&self, backend: &impl Fn(Inherited) -> Vec<u8>, add: &mut impl FnMut(&[&[u8]])) {
        if self.monitor != Monitor::None {
            add(&[b"-chardev", &chardev(backend(Inherited::Channel(Channel::Monitor)), Self::MONITOR)]);
            // The same as `-mon chardev=mon,mode=control` (QEMU, `system/vl.c`, `monitor_parse`).
            add(&[b"-qmp", &by_id(Self::MONITOR)]);
        }
        if self.null_monitor {
            add(&[b"-monitor", b"null"]);
        }
        for (index, monitor) in self.extra_monitors.iter().enumerate() {
            let id = Self::extra_monitor_id(index);
            let option = if monitor.is_human { b"-monitor".as_slice() } else { b"-qmp" };
            add(&[b"-chardev", &chardev(backend(Inherited::MonitorSocket(index)), &id), option, &by_id(&id)]);
        }
    }

    fn compose_consoles(&self, backend: &impl Fn(Inherited) -> Vec<u8>, add: &mut impl FnMut(&[&[u8]])) {
        let mut index = 0;
        for console in &self.consoles {
            let Some(name) = &console.name else {
                add(&[b"-serial", b"null"]);
                continue;
            };
            if console.frontend == Frontend::Log {
                index += 1;
                continue;
            }
            let mut options = chardev(backend(Inherited::Channel(Channel::Console(index))), name);
            if let Some(log) = &console.log {
                // The host creates the file first, so that it is private. QEMU would create it with mode 0666 less the
                // umask (QEMU, `chardev/char.c`, `qemu_char_open`); with `logappend=on` it only appends.
                options.extend_from_slice(b",logappend=on,logfile=");
                options.extend(escape_commas(log));
            }
            add(&[b"-chardev", &options]);
            match &console.frontend {
                Frontend::Serial => add(&[b"-serial", &by_id(name)]),
                Frontend::Device(device) => {
                    add(&[b"-device", &[device, b",chardev=".as_slice(), name.as_bytes()].concat()])
                }
                Frontend::Chardev | Frontend::Log => {}
            }
            index += 1;
        }
    }
}

/// The port of the guest agent, under the name that the agent opens. The id is required: without one, QEMU sends no
/// `VSERPORT_CHANGE` when the port is opened (QEMU, `hw/char/virtio-console.c`, `set_guest_connected`).
const AGENT: &[u8] = b"virtserialport,chardev=qga,name=org.qemu.guest_agent.0,id=qga";

impl Added {
    fn option(&self, descriptor: &str) -> Vec<u8> {
        let mut option = format!("{descriptor},set={}", self.set).into_bytes();
        if !self.opaque.is_empty() {
            option.extend_from_slice(b",opaque=");
            option.extend(escape_commas(&self.opaque));
        }
        option
    }
}

impl UserNetwork {
    /// Returns the value of `-netdev`. Neither an id nor a forward contains a comma.
    fn option(&self) -> String {
        self.forwards
            .iter()
            .fold(format!("user,id={}", self.id), |option, forward| format!("{option},hostfwd={forward}"))
    }
}

/// Returns the backend of a chardev that serves on an inherited socket, which listens already.
fn serve(number: i32) -> Vec<u8> {
    format!("socket,fd={number},server=on,wait=off").into_bytes()
}

/// Returns the backend of a chardev that listens for other programs, for a shell.
fn served_at(monitor: &ExtraMonitor) -> Vec<u8> {
    [b"socket,path=".as_slice(), &escape_commas(&monitor.socket.path), b",server=on,wait=off"].concat()
}

/// Returns the backend of a chardev that dials this address.
fn dial(address: &Address) -> Vec<u8> {
    match address {
        Address::Unix(path) => [b"socket,path=".as_slice(), &escape_commas(path)].concat(),
        // `tight` means that the name has no padding (QEMU, `qapi/sockets.json`, `UnixSocketAddress`).
        Address::Abstract(name) => {
            [b"socket,path=".as_slice(), &escape_commas(name), b",abstract=on,tight=on"].concat()
        }
        Address::Tcp(address) => format!("socket,host={},port={}", address.ip(), address.port()).into_bytes(),
    }
}

/// Returns the option that creates a chardev. The id needs no escaping: identifiers contain no comma (QEMU,
/// `util/id.c`,
/// `id_wellformed`).
fn chardev(mut backend: Vec<u8>, id: &str) -> Vec<u8> {
    backend.extend_from_slice(b",id=");
    backend.extend_from_slice(id.as_bytes());
    backend
}

fn by_id(chardev: &str) -> Vec<u8> {
    format!("chardev:{chardev}").into_bytes()
}

impl CommandLine {
    /// Returns the command line of a program that is displayed as it is executed.
    pub(crate) fn of(arguments: Vec<Vec<u8>>) -> Self {
        Self { executed: arguments.clone(), shown: arguments }
    }

    /// Returns the command line that is executed: wrapper, program and arguments. Empty for an attached machine.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.executed
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.shown.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write_argument(f, argument, index == 0)?;
        }
        Ok(())
    }
}

/// Writes an argument as a word of a shell. Without `{:#}`, the middle of an argument of more than 4 KiB is left out:
/// QEMU's longest argument is usually that of `-append`, and a kernel accepts 2 KiB (Linux,
/// `arch/x86/include/asm/setup.h`, COMMAND_LINE_SIZE).
fn write_argument(f: &mut fmt::Formatter<'_>, argument: &[u8], first: bool) -> fmt::Result {
    const LIMIT: usize = 4 << 10;
    if f.alternate() || argument.len() <= LIMIT {
        return write_quoted(f, argument, first);
    }
    let text = core::str::from_utf8(argument).ok().and_then(|text| shortened(text, LIMIT));
    let (head, left_out, tail) = match text {
        Some((head, left_out, tail)) => (head.as_bytes(), left_out, tail.as_bytes()),
        None => {
            let tail = argument.len() - LIMIT / 2;
            (&argument[..LIMIT / 2], tail - LIMIT / 2, &argument[tail..])
        }
    };
    write_quoted(f, head, first)?;
    // A shell refuses unquoted parentheses here, so that the shortened command is not executed by mistake.
    write!(f, "({})", LeftOut(left_out))?;
    write_quoted(f, tail, false)
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The reserved words of bash that consist of letters only (`bash(1)`, RESERVED WORDS).
const RESERVED: [&str; 17] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then",
    "time", "until", "while",
];

/// Writes an argument in a form that a shell reads back: unquoted if possible, else in single quotes. A text
/// that is not UTF-8, or has characters that are not printable, is escaped in bash's `$'…'`, since it could change the
/// state of a terminal. The
/// first word is the command: there a shell would read `A=B` as an assignment, and a reserved word as syntax.
fn write_quoted(f: &mut fmt::Formatter<'_>, argument: &[u8], first: bool) -> fmt::Result {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=+.,:/@%".contains(byte);
    let special = |text: &str| first && (text.contains('=') || RESERVED.contains(&text));
    match core::str::from_utf8(argument) {
        Ok(text) if !text.is_empty() && argument.iter().all(plain) && !special(text) => f.write_str(text),
        Ok(text) if text.chars().all(is_printable) => {
            write!(f, "'{}'", text.replace('\'', "'\\''"))
        }
        _ => {
            f.write_str("$'")?;
            for byte in argument {
                match byte {
                    b'\'' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\x{byte:02x}")?,
                }
            }
            f.write_str("'")
        }
    }
}

/// Doubles the commas of a value, so that QEMU's option parser reads it as a single value (QEMU, `util/qemu-option.c`,
/// `get_opt_value`). A comma that is not doubled ends the value, and the rest is read as further options.
///
/// ```
/// use qemu_machine_core::escape_commas;
///
/// let path = escape_commas("/images/a,b.qcow2");
/// assert_eq!(path, b"/images/a,,b.qcow2");
/// ```
#[must_use]
pub fn escape_commas(value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.as_ref().len());
    for byte in value.as_ref() {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &Config) -> String {
        config.command_line().map(|line| format!("{line}")).unwrap_or_else(|error| format!("{error}"))
    }

    #[test]
    fn the_arguments_come_in_the_documented_order() {
        let config = Config::new("qemu").wrapper(["strace", "-f"]).machine("q35").serial("tty").args(["-S"]);
        let line = config.command_line().expect("a good configuration");
        let executed: Vec<_> = line.arguments().iter().map(|argument| String::from_utf8_lossy(argument)).collect();
        assert_eq!(
            executed.join(" "),
            "strace -f qemu -display none -vga none -chardev socket,fd=3,id=mon -qmp chardev:mon \
             -machine q35 -chardev socket,fd=4,id=tty -serial chardev:tty -S"
        );
        assert_eq!(
            shown(&config),
            "strace -f qemu -display none -vga none -chardev stdio,id=mon -qmp chardev:mon \
             -machine q35 -chardev null,id=tty -serial chardev:tty -S"
        );
    }

    #[test]
    fn each_default_can_be_switched_off() {
        assert_eq!(shown(&Config::new("qemu").with_display().with_vga().without_monitor()), "qemu");
    }

    #[test]
    fn a_displayed_command_line_can_be_pasted_into_a_shell() {
        let config = Config::new("qemu").with_display().with_vga().without_monitor();
        let quoted = |argument: &[u8]| shown(&config.clone().arg(argument)).split_off("qemu ".len());
        assert_eq!(quoted(b""), "''");
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted(b"it's"), "'it'\\''s'");
        assert_eq!(quoted("größe".as_bytes()), "'größe'");
        assert_eq!(quoted(b"\xff\n"), "$'\\xff\\x0a'");
        assert_eq!(quoted(b"$(reboot)"), "'$(reboot)'");
        let bare = |program: &str| shown(&Config::new(program).with_display().with_vga().without_monitor().arg("A=B"));
        assert_eq!(bare("A=B"), "'A=B' A=B", "the first word is a command, not an assignment");
        assert_eq!(bare("time"), "'time' A=B", "the first word is a program, not a reserved word");
    }

    #[test]
    fn a_bad_configuration_is_refused() {
        let bad = [
            (Config::new(""), "program is empty"),
            (Config::new("qemu").arg("a\0b"), "NUL"),
            (Config::new("qemu").arg("-daemonize"), "-daemonize is not supported"),
            (Config::new("qemu").name("../x"), "slash"),
            (Config::new("qemu").serial("a,b"), "`a,b`"),
            (Config::new("qemu").serial("mon"), "`mon`"),
            (Config::new("qemu").serial("tty").serial("tty"), "`tty`"),
        ];
        for (config, part) in bad {
            assert!(shown(&config).contains(part), "{}", shown(&config));
        }
    }
}

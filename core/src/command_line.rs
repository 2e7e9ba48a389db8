//! Decides the command line: which arguments a configuration becomes, and how they are shown to people.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::channel::Channel;
use crate::config::{Added, Config, Frontend, Service};
use crate::fault::Misuse;
use crate::input::{Inherited, Prepared};
use crate::transport::{Address, Monitor};

/// The command line of a machine.
///
/// [`arguments`](Self::arguments) is what is executed. What it displays can be pasted into a shell: the sockets to
/// us are replaced there by the terminal (the monitor) and by nothing (the consoles and ports), since a shell has
/// nobody at the other end.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    executed: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
}

impl Config {
    /// The command line that this configuration stands for. The numbers of the descriptors that the process inherits
    /// are decided at launch; here they are those that a process with nothing else open would get. A socket whose
    /// address is decided at launch stands here as the terminal.
    ///
    /// Of a machine that somebody else launched nothing is known: its command line is empty.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when it stands for none: no program, a NUL byte in an argument or a path, a console whose
    /// name QEMU does not take or that is used twice, a socket whose path is too long, or anything that a machine of
    /// others would have to be launched with. [`Misuse::UnknownConsole`] for the log of a console that is not there.
    pub fn command_line(&self) -> Result<CommandLine, Misuse> {
        const FIRST_FREE: i32 = 3;
        self.check()?;
        let descriptors = self.inherited().into_iter().zip(FIRST_FREE..).collect();
        let monitor = match &self.monitor {
            Monitor::At(address) => Some(address.clone()),
            Monitor::Inherited | Monitor::Socket | Monitor::Offered | Monitor::None => None,
        };
        Ok(self.command_line_with(&Prepared { descriptors, monitor, ..Prepared::default() }))
    }

    /// The command line with what was made for it.
    pub(crate) fn command_line_with(&self, prepared: &Prepared) -> CommandLine {
        if self.peer.is_some() {
            return CommandLine { executed: Vec::new(), shown: Vec::new() };
        }
        let number = |what: Inherited| {
            let found = prepared.descriptors.iter().find(|(other, _)| *other == what);
            found.map_or(-1, |(_, number)| *number)
        };
        let executed = |what: Inherited| match (what, &prepared.monitor) {
            (Inherited::Channel(Channel::Monitor), _) if self.monitor == Monitor::Offered => {
                format!("socket,fd={},server=on,wait=off", number(what)).into_bytes()
            }
            (Inherited::Channel(Channel::Monitor), Some(address)) => dial(address),
            (Inherited::Channel(Channel::Monitor), None) if self.monitor == Monitor::Socket => b"stdio".to_vec(),
            _ => format!("socket,fd={}", number(what)).into_bytes(),
        };
        let shown = |what: Inherited| match what {
            Inherited::Channel(Channel::Monitor) => b"stdio".to_vec(),
            Inherited::Channel(Channel::Console(_)) | Inherited::Service(_) | Inherited::Added(_) => b"null".to_vec(),
        };
        let added = |index| format!("fd={}", number(Inherited::Added(index)));
        CommandLine { executed: self.compose(executed, added), shown: self.compose(shown, added) }
    }

    /// The channels of the machine, the monitor first.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let monitor = (self.monitor != Monitor::None).then_some(Channel::Monitor);
        monitor.into_iter().chain((0..self.console_names().count()).map(Channel::Console)).collect()
    }

    pub(crate) fn console_names(&self) -> impl Iterator<Item = &String> {
        self.consoles.iter().filter_map(|console| console.name.as_ref())
    }

    /// What the process inherits, in the order of the command line.
    fn inherited(&self) -> Vec<Inherited> {
        let dials = self.monitor != Monitor::Inherited;
        let channels = self.channels().into_iter().filter(|channel| *channel != Channel::Monitor || !dials);
        let ports = self.services.iter().copied().map(Inherited::Service);
        channels.map(Inherited::Channel).chain(ports).chain((0..self.added.len()).map(Inherited::Added)).collect()
    }

    /// Display, monitors, machine type, consoles, ports, descriptors, and then what the caller added, which can
    /// override them.
    fn compose(&self, backend: impl Fn(Inherited) -> Vec<u8>, added: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
        let mut line = self.wrapper.clone();
        line.push(self.program.clone());
        let mut add = |arguments: &[&[u8]]| line.extend(arguments.iter().map(|argument| argument.to_vec()));
        if !self.display {
            add(&[b"-display", b"none"]);
        }
        if !self.vga {
            add(&[b"-vga", b"none"]);
        }
        if self.monitor != Monitor::None {
            add(&[b"-chardev", &chardev(backend(Inherited::Channel(Channel::Monitor)), Self::MONITOR)]);
            // As `-mon chardev=mon,mode=control`, of which newer ones warn.
            add(&[b"-qmp", &by_id(Self::MONITOR)]);
        }
        if self.null_monitor {
            add(&[b"-monitor", b"null"]);
        }
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
        for (index, part) in self.added.iter().enumerate() {
            add(&[b"-add-fd", &part.option(&added(index))]);
        }
        line.extend(self.args.iter().cloned());
        line
    }

    fn compose_consoles(&self, backend: &impl Fn(Inherited) -> Vec<u8>, add: &mut impl FnMut(&[&[u8]])) {
        let mut index = 0;
        for console in &self.consoles {
            let Some(name) = &console.name else {
                add(&[b"-serial", b"null"]);
                continue;
            };
            let mut options = chardev(backend(Inherited::Channel(Channel::Console(index))), name);
            if let Some(log) = &console.log {
                // The file is made before, so that it is private; QEMU adds to it.
                options.extend_from_slice(b",logappend=on,logfile=");
                options.extend(escape_commas(log));
            }
            add(&[b"-chardev", &options]);
            match &console.frontend {
                Frontend::Serial => add(&[b"-serial", &by_id(name)]),
                Frontend::Device(device) => {
                    add(&[b"-device", &[device, b",chardev=".as_slice(), name.as_bytes()].concat()])
                }
                Frontend::Chardev => {}
            }
            index += 1;
        }
    }
}

/// The port of the guest agent, under the name by which it looks for it. Without an id, QEMU does not tell when it is
/// opened.
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

/// The backend of a chardev that dials us.
fn dial(address: &Address) -> Vec<u8> {
    match address {
        Address::Unix(path) => [b"socket,path=".as_slice(), &escape_commas(path)].concat(),
        Address::Tcp(address) => format!("socket,host={},port={}", address.ip(), address.port()).into_bytes(),
    }
}

/// The option that makes a chardev. Names are identifiers, so there is nothing to escape in them.
fn chardev(mut backend: Vec<u8>, id: &str) -> Vec<u8> {
    backend.extend_from_slice(b",id=");
    backend.extend_from_slice(id.as_bytes());
    backend
}

fn by_id(chardev: &str) -> Vec<u8> {
    format!("chardev:{chardev}").into_bytes()
}

impl CommandLine {
    /// What is executed: the program and its arguments.
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
            write_quoted(f, argument, index == 0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The words of bash's language that consist of nothing but letters.
const RESERVED: [&str; 17] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then",
    "time", "until", "while",
];

/// Writes an argument so that a shell reads it back: as it is where it can be, in single quotes, or, where it has
/// bytes that a terminal would not survive, in the `$'…'` of bash. The first word is the command: there a shell takes
/// `A=B` for an assignment, and some words for its own.
fn write_quoted(f: &mut fmt::Formatter<'_>, argument: &[u8], first: bool) -> fmt::Result {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=+.,:/@%".contains(byte);
    let special = |text: &str| first && (text.contains('=') || RESERVED.contains(&text));
    match core::str::from_utf8(argument) {
        Ok(text) if !text.is_empty() && argument.iter().all(plain) && !special(text) => f.write_str(text),
        Ok(text) if !text.contains(char::is_control) => {
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

/// Doubles the commas of a value, so that QEMU's option parser takes it as one.
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
    fn what_is_shown_can_be_pasted() {
        let config = Config::new("qemu").with_display().with_vga().without_monitor();
        let quoted = |argument: &[u8]| shown(&config.clone().arg(argument)).split_off("qemu ".len());
        assert_eq!(quoted(b""), "''");
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted(b"it's"), "'it'\\''s'");
        assert_eq!(quoted("größe".as_bytes()), "'größe'");
        assert_eq!(quoted(b"\xff\n"), "$'\\xff\\x0a'");
        assert_eq!(quoted(b"$(reboot)"), "'$(reboot)'");
        let bare = |program: &str| shown(&Config::new(program).with_display().with_vga().without_monitor().arg("A=B"));
        assert_eq!(bare("A=B"), "'A=B' A=B", "a command, and no assignment");
        assert_eq!(bare("time"), "'time' A=B", "a program, and not what bash has of that name");
    }

    #[test]
    fn a_bad_configuration_is_refused() {
        let bad = [
            (Config::new(""), "no name"),
            (Config::new("qemu").arg("a\0b"), "NUL"),
            (Config::new("qemu").arg("-daemonize"), "out of our hands"),
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

//! Decides the command line: which arguments a configuration becomes, and how they are shown to people.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::config::Config;
use crate::fault::Misuse;
use crate::input::Channel;

/// The command line of a machine.
///
/// [`arguments`](Self::arguments) is what is executed. What it displays can be pasted into a shell: the sockets that
/// the process inherits are replaced there by the terminal (the monitor) and by nothing (the consoles), since a shell
/// has no such sockets to hand on.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    executed: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
}

impl Config {
    /// The command line that this configuration stands for. The numbers of the descriptors that the process inherits
    /// are decided at launch; here they are those that a process with nothing else open would get.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when it stands for none: no program, a NUL byte in an argument, or a console whose name
    /// QEMU does not take or that is used twice.
    pub fn command_line(&self) -> Result<CommandLine, Misuse> {
        const FIRST_FREE: i32 = 3;
        self.check()?;
        Ok(self.command_line_with(&self.channels().into_iter().zip(FIRST_FREE..).collect::<Vec<_>>()))
    }

    /// The command line with the descriptors that were made for it.
    pub(crate) fn command_line_with(&self, descriptors: &[(Channel, i32)]) -> CommandLine {
        let inherited = |channel: Channel| {
            let descriptor = descriptors.iter().find(|(other, _)| *other == channel);
            format!("socket,fd={}", descriptor.map_or(-1, |(_, number)| *number))
        };
        let stand_in = |channel: Channel| match channel {
            Channel::Monitor => String::from("stdio"),
            Channel::Console(_) => String::from("null"),
        };
        CommandLine { executed: self.compose(inherited), shown: self.compose(stand_in) }
    }

    /// The channels of the machine, the monitor first.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let monitor = self.monitor.then_some(Channel::Monitor);
        monitor.into_iter().chain((0..self.serials.len()).map(Channel::Console)).collect()
    }

    /// Display, monitor, machine type, consoles, and then what the caller added, which can override them.
    fn compose(&self, backend: impl Fn(Channel) -> String) -> Vec<Vec<u8>> {
        let mut line = self.wrapper.clone();
        line.push(self.program.clone());
        if self.headless {
            line.extend(["-display", "none", "-vga", "none"].map(Vec::from));
        }
        if self.monitor {
            line.extend(chardev(&backend(Channel::Monitor), Self::MONITOR));
            line.extend(["-mon".into(), format!("chardev={},mode=control", Self::MONITOR).into()]);
        }
        if let Some(machine) = &self.machine {
            line.extend([b"-machine".to_vec(), machine.clone()]);
        }
        for (index, name) in self.serials.iter().enumerate() {
            line.extend(chardev(&backend(Channel::Console(index)), name));
            line.extend(["-serial".into(), format!("chardev:{name}").into()]);
        }
        line.extend(self.args.iter().cloned());
        line
    }
}

/// The arguments that make a chardev. Names are identifiers, so there is nothing to escape.
fn chardev(backend: &str, id: &str) -> [Vec<u8>; 2] {
    ["-chardev".into(), format!("{backend},id={id}").into()]
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
            write_quoted(f, argument)?;
        }
        Ok(())
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes an argument so that a shell reads it back: as it is where it can be, in single quotes, or, where it has
/// bytes that a terminal would not survive, in the `$'…'` of bash.
fn write_quoted(f: &mut fmt::Formatter<'_>, argument: &[u8]) -> fmt::Result {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=+.,:/@%".contains(byte);
    match core::str::from_utf8(argument) {
        Ok(text) if !text.is_empty() && argument.iter().all(plain) => f.write_str(text),
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
            "strace -f qemu -display none -vga none -chardev socket,fd=3,id=mon -mon chardev=mon,mode=control \
             -machine q35 -chardev socket,fd=4,id=tty -serial chardev:tty -S"
        );
        assert_eq!(
            shown(&config),
            "strace -f qemu -display none -vga none -chardev stdio,id=mon -mon chardev=mon,mode=control \
             -machine q35 -chardev null,id=tty -serial chardev:tty -S"
        );
    }

    #[test]
    fn each_default_can_be_switched_off() {
        assert_eq!(shown(&Config::new("qemu").with_display().without_monitor()), "qemu");
    }

    #[test]
    fn what_is_shown_can_be_pasted() {
        let config = Config::new("qemu").with_display().without_monitor();
        let quoted = |argument: &[u8]| shown(&config.clone().arg(argument)).split_off("qemu ".len());
        assert_eq!(quoted(b""), "''");
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted(b"it's"), "'it'\\''s'");
        assert_eq!(quoted("größe".as_bytes()), "'größe'");
        assert_eq!(quoted(b"\xff\n"), "$'\\xff\\x0a'");
        assert_eq!(quoted(b"$(reboot)"), "'$(reboot)'");
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

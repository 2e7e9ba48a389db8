//! Definition of a companion: a program that lives and dies with a machine, and how QEMU reaches it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::companions::Policy;
use crate::config::ProcessAttributes;
use crate::os_bytes::OsBytes;

/// A program that lives and dies with a machine: virtiofsd, swtpm, passt, a vhost-user backend, a message bus.
///
/// [`Config::companion`](crate::Config::companion) adds it, and defines when it starts and how it ends. QEMU reaches it by a
/// socket, which comes about in one of three ways:
///
/// | method | the socket | ready | for |
/// |---|---|---|---|
/// | [`listener`](Self::listener) | The library creates one that listens, in the private directory. The companion inherits it, and QEMU dials its path. | when the program is executed: the kernel queues the connection | virtiofsd, swtpm, most vhost-user backends |
/// | [`connected`](Self::connected) | The library creates a pair of connected ones. The companion inherits one, and QEMU the other. There is no path. | when the program is executed | passt |
/// | [`path`](Self::path) | The companion creates it, at a path in the private directory, which QEMU dials. | when it listens | programs that inherit no socket |
///
/// A companion without any of them is ready when its program is executed. [`chardev`](Self::chardev),
/// [`netdev_stream`](Self::netdev_stream) and [`option`](Self::option) write the socket into the command line of QEMU.
///
/// ```
/// use qemu_machine_core::{Companion, Config};
///
/// let fs = Companion::new("fs", "/usr/lib/qemu/virtiofsd")
///     .args(["-o", "source=/srv/share"])
///     .listener("--fd=")
///     .chardev("fs");
/// let config = Config::new("qemu-system-x86_64")
///     .companion(fs)
///     .args(["-object", "memory-backend-memfd,id=mem,size=1G,share=on", "-numa", "node,memdev=mem", "-m", "1G"])
///     .args(["-device", "vhost-user-fs-pci,chardev=fs,tag=share"]);
/// assert!(config.command_line()?.to_string().contains("companion-fs.sock,id=fs"));
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    pub(crate) name: String,
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) socket: Option<SocketArgument>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) attributes: ProcessAttributes,
    /// `None` means the default.
    pub(crate) grace: Option<Duration>,
    pub(crate) is_required: bool,
}

/// Socket between a companion and QEMU: how it comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a host creates each")]
pub enum CompanionSocket {
    /// The host creates a socket that listens at a path. The companion inherits it.
    Listener,
    /// The host creates two connected sockets. The companion inherits one, and QEMU the other.
    Connected,
    /// The companion creates a socket that listens at a path.
    Path,
}

/// The argument by which a companion gets its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketArgument {
    pub(crate) kind: CompanionSocket,
    /// The number of the caller's arguments before it.
    pub(crate) place: usize,
    /// What comes before the number of the descriptor, or before the path.
    pub(crate) prefix: Vec<u8>,
}

/// What QEMU's command line has for a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// `-chardev socket` with this id.
    Chardev(String),
    /// `-netdev stream` with this id.
    NetdevStream(String),
    /// An option of the caller's choice, and what comes before the path or the number of the descriptor in its value.
    Other { option: Vec<u8>, prefix: Vec<u8> },
}

impl Companion {
    /// The number under which a companion inherits its socket: the first behind its standard streams.
    const DESCRIPTOR: i32 = 3;

    /// How long a companion with a socket has by default to end by itself.
    const GRACE: Duration = Duration::from_secs(1);

    /// Returns a companion of this name that runs this program. A program without a slash is searched on the `PATH`. The
    /// name is in errors, in the [outcome](crate::Outcome::companions), and in the names of its files. It is a letter,
    /// then letters, digits and `-._`; anything else, or a name that another companion has, is refused with
    /// [`Misuse::Config`](crate::Misuse::Config).
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl OsBytes) -> Self {
        Self {
            name: name.into(),
            program: program.as_os_bytes().to_vec(),
            args: Vec::new(),
            socket: None,
            backends: Vec::new(),
            attributes: ProcessAttributes::default(),
            grace: None,
            is_required: false,
        }
    }

    /// Adds an argument. The program must stay in the foreground: one that becomes a daemon ends as the process that was
    /// started, and so fails the launch.
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

    /// Gives it a Unix socket that listens, and adds an argument: this prefix and the number of the descriptor. The
    /// argument of virtiofsd is `--fd=`; that of swtpm, behind `--ctrl`, is `type=unixio,fd=`. It replaces an earlier
    /// socket.
    #[must_use]
    pub fn listener(self, prefix: impl OsBytes) -> Self {
        self.socket(CompanionSocket::Listener, prefix.as_os_bytes())
    }

    /// Gives it one of two connected Unix stream sockets, and adds an argument: this prefix and the number of the
    /// descriptor. QEMU inherits the other one. For passt the number is an argument of its own: add `--fd` first, and
    /// give an empty prefix. It replaces an earlier socket.
    #[must_use]
    pub fn connected(self, prefix: impl OsBytes) -> Self {
        self.socket(CompanionSocket::Connected, prefix.as_os_bytes())
    }

    /// Has it create its socket, and adds an argument: this prefix and the path of the socket. It is ready when the socket
    /// listens. The kernel does not report that, so the library probes the socket: after a millisecond, and then at twice
    /// the interval, up to 100 milliseconds. The companion must bind the path as it is given: a relative path, or one
    /// through a link, is another one in `/proc/net/unix`, and the launch fails at its deadline. It replaces an earlier
    /// socket.
    ///
    /// It has the user id and the network namespace of this program: [`Misuse::Config`](crate::Misuse::Config) with others.
    /// The private directory belongs to this program, and `/proc/net/unix` shows no other network namespace.
    #[must_use]
    pub fn path(self, prefix: impl OsBytes) -> Self {
        self.socket(CompanionSocket::Path, prefix.as_os_bytes())
    }

    fn socket(mut self, kind: CompanionSocket, prefix: &[u8]) -> Self {
        self.socket = Some(SocketArgument { kind, place: self.args.len(), prefix: prefix.to_vec() });
        self
    }

    /// Adds a chardev with this id to QEMU, which connects to the socket: `-chardev socket,id=…`.
    #[must_use]
    pub fn chardev(mut self, id: impl Into<String>) -> Self {
        self.backends.push(Backend::Chardev(id.into()));
        self
    }

    /// Adds a network backend with this id to QEMU, which connects to the socket: `-netdev stream,id=…,server=off`. It
    /// needs QEMU 7.2 or later.
    #[must_use]
    pub fn netdev_stream(mut self, id: impl Into<String>) -> Self {
        self.backends.push(Backend::NetdevStream(id.into()));
        self
    }

    /// Adds an option and its value to QEMU: this prefix, and then the path of the socket with its commas doubled, or the
    /// number of the descriptor that QEMU inherits. `option("-display", "dbus,addr=unix:path=")`, for example.
    #[must_use]
    pub fn option(mut self, option: impl OsBytes, prefix: impl OsBytes) -> Self {
        let (option, prefix) = (option.as_os_bytes().to_vec(), prefix.as_os_bytes().to_vec());
        self.backends.push(Backend::Other { option, prefix });
        self
    }

    /// Sets the attributes of its process: user, groups, resource limits, environment, cgroup and others. Default: those of
    /// this program, also where the machine has others.
    #[must_use]
    pub fn attributes(mut self, attributes: ProcessAttributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets how long it may take to end by itself after QEMU has ended, before it gets SIGTERM. Default: one second with a
    /// socket, whose connection QEMU closes; none without one. A program that serves the next client instead, such as passt
    /// without `--one-off`, needs none.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Ends the machine when this companion ends before it: a second later, as [`Shutdown::default`](crate::Shutdown) does.
    /// The cause is [`Cause::CompanionEnded`](crate::Cause::CompanionEnded). Default: the machine runs on, and
    /// [`Wait::companion`](crate::Wait::companion) finds the end of the companion.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Returns the name of its socket in the private directory.
    pub(crate) fn socket_name(&self) -> String {
        format!("companion-{}.sock", self.name)
    }

    /// Returns whether QEMU dials the path of its socket.
    pub(crate) fn is_dialled(&self) -> bool {
        let kind = self.socket.as_ref().map(|socket| socket.kind);
        matches!(kind, Some(CompanionSocket::Listener | CompanionSocket::Path)) && !self.backends.is_empty()
    }

    pub(crate) fn policy(&self) -> Policy {
        let kind = self.socket.as_ref().map(|socket| socket.kind);
        let default = if kind.is_some() { Self::GRACE } else { Duration::ZERO };
        Policy { awaits_socket: kind == Some(CompanionSocket::Path), grace: self.grace.unwrap_or(default) }
    }

    /// Returns the program and its arguments, with the path of its socket.
    pub(crate) fn command(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut command = self.args.clone();
        if let Some(SocketArgument { kind, place, prefix }) = &self.socket {
            let number = format!("{}", Self::DESCRIPTOR);
            let value = match kind {
                CompanionSocket::Listener | CompanionSocket::Connected => number.as_bytes(),
                CompanionSocket::Path => path,
            };
            command.insert((*place).min(command.len()), [prefix, value].concat());
        }
        command.insert(0, self.program.clone());
        command
    }
}

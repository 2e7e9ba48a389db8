//! Companions of a configuration: the setting, and what QEMU's command line has for each of them.

use alloc::format;
use alloc::vec::Vec;

use super::Config;
use crate::command_line::{CommandLine, escape_commas};
use crate::companion::{Backend, Companion, CompanionSocket};
use crate::effect::{CompanionPreparation, CompanionSpawn};
use crate::input::{Inherited, Prepared};

impl Config {
    /// Adds a program that lives and dies with the machine: virtiofsd, swtpm, passt, a vhost-user backend.
    ///
    /// - *Start.* Companions start before QEMU, in the order in which they were added, each when the one before is ready.
    ///   QEMU starts when all are. The deadline of the launch covers them. If one cannot be started, ends, or is not ready
    ///   in time, the launch fails with [`LaunchFailure::Companion`](crate::LaunchFailure::Companion), at once, and the
    ///   error has its exit status, its last words and its command line.
    /// - *End.* They end after QEMU, in the reverse order. Most end by themselves when QEMU closes its connection, and have
    ///   a [time for that](Companion::grace). Then each gets SIGTERM, and two seconds later SIGKILL; ten seconds after
    ///   QEMU, all that are left get SIGKILL. After [`kill`](crate::Machine::kill), a launch that failed, or when the
    ///   handle is dropped, none is waited for to end by itself. Signals go to the process group that each leads. The
    ///   outcome comes when all of them are gone.
    /// - *Early end.* When a companion ends before QEMU, the machine runs on, unless it is
    ///   [required](Companion::required). [`Wait::companion`](crate::Wait::companion) finds its end, and
    ///   [`Outcome::companions`](crate::Outcome::companions) lists it. Nothing starts it again: QEMU would not connect.
    ///   During the launch it fails the launch.
    /// - *This program dies.* They die with it, also by SIGKILL: each has a guard of its own (see
    ///   [`wrapper`](Self::wrapper)), since a companion that enters a namespace loses its parent-death signal (`prctl(2)`,
    ///   `PR_SET_PDEATHSIG`).
    /// - *Output.* What it prints goes to a log of its own, and not through this program: it is never blocked by a program
    ///   that does not read, and a companion that prints without end delays nothing. The log is a file without a path, or
    ///   `NAME-SUFFIX-COMPANION.log` in the [`log_directory`](Self::log_directory), where it stays: `SUFFIX` are 16
    ///   hexadecimal digits. The [`log_limit`](Self::log_limit) bounds it.
    ///   [`Outcome::companions`](crate::Outcome::companions) has its end.
    ///
    /// A machine that [outlives its parent](Self::outlive_parent) or is [attached](Self::attach) to has no companions:
    /// [`Misuse::Config`](crate::Misuse::Config). So is one whose path QEMU dials, with a [`uid`](Self::uid) other than
    /// that of the superuser: QEMU cannot open the private directory. Use [`connected`](Companion::connected) then.
    ///
    /// The [guide](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/companions/) has the command
    /// lines of virtiofsd, swtpm and passt.
    #[must_use]
    pub fn companion(mut self, companion: Companion) -> Self {
        self.companions.push(companion);
        self
    }

    /// Returns what the host prepares for each companion.
    pub(super) fn companion_preparations(&self) -> Vec<CompanionPreparation> {
        let prepare = |companion: &Companion| CompanionPreparation {
            name: companion.name.clone(),
            socket: companion.socket.as_ref().map(|socket| socket.kind),
        };
        self.companions.iter().map(prepare).collect()
    }

    /// Returns the indices of the companions of which QEMU inherits a socket.
    pub(crate) fn connected_companions(&self) -> impl Iterator<Item = usize> {
        let is_connected = |companion: &Companion| {
            companion.socket.as_ref().is_some_and(|socket| socket.kind == CompanionSocket::Connected)
        };
        self.companions.iter().enumerate().filter(move |(_, companion)| is_connected(companion)).map(|(index, _)| index)
    }

    /// Returns what the host must start for a companion. `None` means that there is none with this index.
    pub(crate) fn companion_spawn(&self, index: usize, prepared: &Prepared) -> Option<CompanionSpawn> {
        let companion = self.companions.get(index)?;
        Some(CompanionSpawn {
            arguments: companion.command(prepared.companion_socket(index)),
            attributes: companion.attributes.clone(),
            log_limit: self.limits.log,
        })
    }

    /// Returns the command line of a companion.
    pub(crate) fn companion_command_line(&self, index: usize, prepared: &Prepared) -> CommandLine {
        let spawn = self.companion_spawn(index, prepared);
        CommandLine::of(spawn.map(|spawn| spawn.arguments).unwrap_or_default())
    }

    /// Returns QEMU's options for the companions, each with its value.
    pub(crate) fn companion_options(&self, prepared: &Prepared) -> Vec<[Vec<u8>; 2]> {
        let mut options = Vec::new();
        for (index, companion) in self.companions.iter().enumerate() {
            let is_connected = self.connected_companions().any(|connected| connected == index);
            let connection = match is_connected {
                true => Connection::Descriptor(prepared.descriptor(Inherited::Companion(index))),
                false => Connection::Path(escape_commas(prepared.companion_socket(index))),
            };
            options.extend(companion.backends.iter().map(|backend| connection.option(backend)));
        }
        options
    }
}

/// How QEMU reaches a companion.
enum Connection {
    /// By the number of a descriptor that it inherits.
    Descriptor(i32),
    /// By a path, in which the commas are doubled.
    Path(Vec<u8>),
}

impl Connection {
    fn option(&self, backend: &Backend) -> [Vec<u8>; 2] {
        let (option, value) = match (backend, self) {
            (Backend::Chardev(id), Self::Descriptor(number)) => {
                (b"-chardev".as_slice(), format!("socket,fd={number},id={id}").into_bytes())
            }
            (Backend::Chardev(id), Self::Path(path)) => {
                (b"-chardev".as_slice(), [b"socket,path=".as_slice(), path, b",id=", id.as_bytes()].concat())
            }
            // The netdev is a client (QEMU, `qapi/net.json`, `NetdevStreamOptions`). The descriptor is named by a number
            // without a monitor (QEMU, `qapi/sockets.json`, `SocketAddress`, `fd`).
            (Backend::NetdevStream(id), Self::Descriptor(number)) => (
                b"-netdev".as_slice(),
                format!("stream,id={id},server=off,addr.type=fd,addr.str={number}").into_bytes(),
            ),
            (Backend::NetdevStream(id), Self::Path(path)) => {
                let head = format!("stream,id={id},server=off,addr.type=unix,addr.path=").into_bytes();
                (b"-netdev".as_slice(), [&*head, path].concat())
            }
            (Backend::Other { option, prefix }, Self::Descriptor(number)) => {
                (&**option, [&**prefix, format!("{number}").as_bytes()].concat())
            }
            (Backend::Other { option, prefix }, Self::Path(path)) => (&**option, [&**prefix, path].concat()),
        };
        [option.to_vec(), value]
    }
}

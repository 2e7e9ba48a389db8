//! Decides which configurations cannot become a machine.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Config, Dialect, Frontend};
use crate::fault::Misuse;
use crate::transport::{Address, Monitor, Peer};

/// How long the path of a Unix socket can be on Linux, in bytes (`unix(7)`).
const SOCKET_PATH: usize = 107;

fn wrong(what: impl ToString) -> Result<(), Misuse> {
    Err(Misuse::Config(what.to_string()))
}

impl Config {
    /// What cannot become a machine.
    pub(crate) fn check(&self) -> Result<(), Misuse> {
        if self.name.is_empty() || self.name.contains(['/', '\0']) {
            return wrong("the name is empty, or contains a slash or a NUL byte");
        }
        match (&self.peer, &self.monitor) {
            (Some(Peer::Dial(address) | Peer::Listen(address)), _) | (None, Monitor::At(address)) => {
                check_address(address)?;
            }
            _ => {}
        }
        let directories = [&self.temporary_directory, &self.socket_directory, &self.log_directory];
        if directories.into_iter().flatten().any(|path| path.contains(&0)) {
            return wrong("the path of a directory contains a NUL byte");
        }
        if self.peer.is_some() {
            return self.check_attached();
        }
        if self.dialect != Dialect::Qmp {
            return wrong("the monitor of what we launch speaks QMP");
        }
        self.check_arguments()?;
        self.check_consoles()
    }

    /// A machine of others takes nothing of us but the connection.
    fn check_attached(&self) -> Result<(), Misuse> {
        let has_line = !self.args.is_empty() || !self.wrapper.is_empty() || self.machine.is_some();
        let has_consoles = !self.consoles.is_empty() || self.unknown_log.is_some();
        let has_descriptors = !self.services.is_empty() || !self.added.is_empty();
        let has_monitors = self.monitor != Monitor::default() || self.null_monitor;
        if has_line || has_consoles || has_descriptors || has_monitors {
            return wrong("what somebody else launched takes no arguments, consoles, descriptors or monitors any more");
        }
        Ok(())
    }

    fn check_arguments(&self) -> Result<(), Misuse> {
        if self.program.is_empty() {
            return wrong("the program has no name");
        }
        let devices = self.consoles.iter().filter_map(|console| match &console.frontend {
            Frontend::Device(device) => Some(device),
            Frontend::Serial | Frontend::Chardev => None,
        });
        let logs = self.consoles.iter().filter_map(|console| console.log.as_ref());
        let opaques = self.added.iter().map(|added| &added.opaque);
        let own = self.wrapper.iter().chain(&self.args).chain([&self.program]).chain(&self.machine);
        if own.chain(devices).chain(logs).chain(opaques).any(|argument| argument.contains(&0)) {
            return wrong("an argument contains a NUL byte");
        }
        if self.args.iter().any(|argument| matches!(&**argument, b"-daemonize" | b"--daemonize")) {
            return wrong("-daemonize takes QEMU out of our hands, and nobody would end it");
        }
        Ok(())
    }

    fn check_consoles(&self) -> Result<(), Misuse> {
        let mut taken: Vec<&str> =
            [Self::MONITOR].into_iter().chain(self.services.iter().map(|service| service.id())).collect();
        for name in self.consoles.iter().filter_map(|console| console.name.as_deref()) {
            if !is_identifier(name) || taken.contains(&name) {
                return wrong(format!("`{name}` cannot name a console: it must be an identifier that is not used yet"));
            }
            taken.push(name);
        }
        match self.unknown_log.as_ref() {
            Some(name) => Err(Misuse::UnknownConsole(name.clone())),
            None => Ok(()),
        }
    }
}

fn check_address(address: &Address) -> Result<(), Misuse> {
    match address {
        Address::Unix(path) if path.is_empty() || path.contains(&0) => {
            wrong("the path of a socket is empty or contains a NUL byte")
        }
        Address::Unix(path) if path.len() > SOCKET_PATH => {
            wrong(format!("the path of a socket has {SOCKET_PATH} bytes at most, and {address} has {}", path.len()))
        }
        Address::Unix(_) | Address::Tcp(_) => Ok(()),
    }
}

/// QEMU's rule for ids: a letter, then letters, digits and `-._`.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|next| next.is_ascii_alphanumeric() || "-._".contains(next))
}

//! Check of a configuration: the errors that are reported before anything is started.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Config, Dialect, Frontend, MonitorSocket, ProcessAttributes, Variable};
use crate::companion::{Backend, Companion, CompanionSocket};
use crate::fault::Misuse;
use crate::identity::Identity;
use crate::transport::{Address, Monitor, Peer};

/// Maximum length of the path or abstract name of a Unix socket, in bytes: `sun_path` has 108, and one is for the NUL
/// behind a path or before a name (`unix(7)`). QEMU exits when it gets a longer one (measured with QEMU 7.2.22). FreeBSD
/// and macOS have four less, which the host checks.
const SOCKET_PATH: usize = 107;

/// Minimum limit of a log, in bytes. The host removes whole blocks, of 4 KiB mostly; so half of this limit has several.
const LOG_LIMIT: u64 = 64 * 1024;

fn wrong(what: impl ToString) -> Result<(), Misuse> {
    Err(Misuse::Config(what.to_string().into()))
}

impl Config {
    /// Checks whether the configuration can become a machine.
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
        let ProcessAttributes { working_directory, cgroup, .. } = &self.attributes();
        let directories = [&self.temporary_directory, &self.socket_directory, &self.log_directory];
        let directories = directories.into_iter().chain([working_directory, cgroup]);
        if directories.flatten().any(|path| path.contains(&0)) {
            return wrong("the path of a directory contains a NUL byte");
        }
        for filter in &self.subscriptions {
            if filter.is_empty() {
                return Err(Misuse::EmptyFilter);
            }
            filter.iter().cloned().try_for_each(|wait| wait.into_filter().map(drop))?;
        }
        if self.log_limit.is_some_and(|limit| limit < LOG_LIMIT) {
            return wrong(format!(
                "the limit of a log has {LOG_LIMIT} bytes at least: use a larger `Config::log_limit`"
            ));
        }
        if self.peer.is_some() {
            return self.check_attached();
        }
        if self.waits_for_listener {
            return wrong(
                "a machine that is launched has no listener to wait for: use `Config::wait_for_listener` only with `Peer::Dial`",
            );
        }
        if self.dialect != Dialect::Qmp {
            return wrong("a machine that is launched speaks QMP: use `Config::speaking` only with `Config::attach`");
        }
        if self.log_console().is_some() && (self.outlives_parent || self.log_directory.is_some()) {
            return wrong(
                "a log that is followed is no file: use `Config::follow_log` without `Config::outlive_parent` and `Config::log_directory`",
            );
        }
        self.check_arguments()?;
        self.check_environment()?;
        self.check_networks()?;
        self.check_extra_monitors()?;
        self.check_consoles()?;
        self.check_companions()
    }

    /// Checks the configuration of an attached machine. QEMU is running already, so settings of its launch would be
    /// ignored silently.
    fn check_attached(&self) -> Result<(), Misuse> {
        if self.waits_for_listener && !matches!(self.peer, Some(Peer::Dial(_))) {
            return wrong("only `Peer::Dial` has a listener to wait for: remove `Config::wait_for_listener`");
        }
        if let Some(Peer::Detached(identity)) = &self.peer {
            if identity.version > Identity::VERSION {
                let (found, known) = (identity.version, Identity::VERSION);
                return wrong(format!(
                    "the identity has version {found}, and this version of the library resumes those up to {known}"
                ));
            }
        }
        let has_line = !self.args.is_empty() || !self.wrapper.is_empty() || self.machine.is_some();
        let has_consoles = !self.consoles.is_empty() || self.unknown_log.is_some();
        let has_log = self.log_limit.is_some() && !self.is_resumed();
        let has_descriptors = !self.services.is_empty() || !self.added.is_empty() || !self.passed.is_empty();
        let has_extra_monitors = self.null_monitor || !self.extra_monitors.is_empty();
        let has_monitors = self.monitor != Monitor::default() || has_extra_monitors || self.trusts_peer;
        let has_attributes = self.attributes() != ProcessAttributes::default();
        let has_networks = !self.networks.is_empty() || !self.companions.is_empty();
        if has_line || has_networks || has_consoles || has_descriptors || has_monitors || has_attributes || has_log {
            return wrong(
                "an attached machine is running already: remove arguments, consoles, services, host forwards, companions, descriptors, monitors, a limit of the log and attributes of the process",
            );
        }
        Ok(())
    }

    fn check_arguments(&self) -> Result<(), Misuse> {
        if self.program.is_empty() {
            return wrong("the name of the program is empty");
        }
        let devices = self.consoles.iter().filter_map(|console| match &console.frontend {
            Frontend::Device(device) => Some(device),
            Frontend::Serial | Frontend::Chardev | Frontend::Log => None,
        });
        let logs = self.consoles.iter().filter_map(|console| console.log.as_ref());
        let opaques = self.added.iter().map(|added| &added.opaque);
        let own = self.wrapper.iter().chain(&self.args).chain([&self.program]).chain(&self.machine);
        if own.chain(devices).chain(logs).chain(opaques).any(|argument| argument.contains(&0)) {
            return wrong("an argument contains a NUL byte");
        }
        if self.args.iter().any(|argument| matches!(&**argument, b"-daemonize" | b"--daemonize")) {
            // QEMU forks, and its parent exits (measured with QEMU 7.2.22): the parent is the process that was started.
            return wrong("-daemonize is not supported, since QEMU leaves its process: use `Config::outlive_parent`");
        }
        Ok(())
    }

    fn check_companions(&self) -> Result<(), Misuse> {
        if self.outlives_parent && !self.companions.is_empty() {
            return wrong("companions end with this program: use `Config::companion` without `Config::outlive_parent`");
        }
        let services = self.services.iter().map(|service| service.id());
        let consoles = self.consoles.iter().filter_map(|console| console.name.as_deref());
        let mut chardevs: Vec<&str> = [Self::MONITOR].into_iter().chain(services).chain(consoles).collect();
        let mut netdevs: Vec<&str> = self.networks.iter().map(|network| &*network.id).collect();
        let mut names: Vec<&str> = Vec::new();
        for companion in &self.companions {
            if !is_identifier(&companion.name) || names.contains(&&*companion.name) {
                return wrong(format!(
                    "`{}` cannot name a companion: use a letter, then letters, digits and `-._`, and a name that is not used yet",
                    companion.name
                ));
            }
            names.push(&companion.name);
            check_companion(companion)?;
            if companion.is_dialled() && is_unprivileged(self.attributes().uid) {
                return wrong(format!(
                    "QEMU cannot open the private directory with another user id, and so not dial companion `{}`: use `Companion::connected`, or no `Config::uid`",
                    companion.name
                ));
            }
            for backend in &companion.backends {
                let (id, taken) = match backend {
                    Backend::Chardev(id) => (id, &mut chardevs),
                    Backend::NetdevStream(id) => (id, &mut netdevs),
                    Backend::Other { .. } => continue,
                };
                if !is_identifier(id) || taken.contains(&&**id) {
                    return wrong(format!(
                        "`{id}` cannot be the id of a companion's backend: use a letter, then letters, digits and `-._`, and an id that is not used yet"
                    ));
                }
                taken.push(id);
            }
        }
        Ok(())
    }

    fn check_environment(&self) -> Result<(), Misuse> {
        check_variables(&self.attributes().environment)
    }

    fn check_networks(&self) -> Result<(), Misuse> {
        for network in &self.networks {
            if !is_identifier(&network.id) {
                return wrong(format!(
                    "`{}` cannot name a network: use a letter, then letters, digits and `-._`",
                    network.id
                ));
            }
            if network.forwards.iter().any(|forward| forward.guest_port == 0) {
                return wrong("a host forward needs a port of the guest: 0 is none");
            }
        }
        Ok(())
    }

    fn check_extra_monitors(&self) -> Result<(), Misuse> {
        for (index, monitor) in self.extra_monitors.iter().enumerate() {
            let MonitorSocket { path, mode } = &monitor.socket;
            check_address(&Address::Unix(path.clone()))?;
            if !path.starts_with(b"/") {
                // QEMU may run in another directory, and removes the path when it ends.
                return wrong(format!(
                    "the path {} of an extra monitor is relative: use an absolute one",
                    Address::Unix(path.clone())
                ));
            }
            if mode & !0o777 != 0 {
                return wrong(format!(
                    "the mode {mode:#o} of an extra monitor has more bits than those of permissions"
                ));
            }
            if self.extra_monitors[..index].iter().any(|other| other.socket.path == *path) {
                return wrong(format!("two extra monitors have the path {}", Address::Unix(path.clone())));
            }
        }
        Ok(())
    }

    fn check_consoles(&self) -> Result<(), Misuse> {
        let extra: Vec<_> = (0..self.extra_monitors.len()).map(Self::extra_monitor_id).collect();
        let own = [Self::MONITOR].into_iter().chain(self.services.iter().map(|service| service.id()));
        let mut taken: Vec<&str> = own.chain(extra.iter().map(String::as_str)).collect();
        for name in self.consoles.iter().filter_map(|console| console.name.as_deref()) {
            if !is_identifier(name) || taken.contains(&name) {
                return wrong(format!(
                    "`{name}` cannot name a console: use a letter, then letters, digits and `-._`, and a name that is not used yet"
                ));
            }
            taken.push(name);
        }
        match self.unknown_log.as_ref() {
            Some(name) => Err(Misuse::UnknownConsole(name.as_str().into())),
            None => Ok(()),
        }
    }
}

fn check_companion(companion: &Companion) -> Result<(), Misuse> {
    let Companion { name, program, args, socket, backends, attributes, grace: _, is_required: _ } = companion;
    if program.is_empty() {
        return wrong(format!("the name of the program of companion `{name}` is empty"));
    }
    if socket.is_none() && !backends.is_empty() {
        return wrong(format!(
            "QEMU cannot reach companion `{name}`: give it a socket by `Companion::listener`, `Companion::connected` or `Companion::path`"
        ));
    }
    if socket.as_ref().is_some_and(|socket| socket.place > args.len()) {
        // Only a record that was edited has one.
        return wrong(format!("the socket of companion `{name}` is the argument after one that it does not have"));
    }
    if socket.as_ref().is_some_and(|socket| socket.kind == CompanionSocket::Path) {
        if is_unprivileged(attributes.uid) {
            return wrong(format!(
                "companion `{name}` cannot create a socket in the private directory with another user id: use `Companion::listener`, or no user id"
            ));
        }
        if attributes.network_namespace.is_some() {
            return wrong(format!(
                "a socket of companion `{name}` in another network namespace is not seen when it listens: use `Companion::listener`, or no network namespace"
            ));
        }
    }
    let prefixes = socket.iter().map(|socket| &socket.prefix);
    let options = backends.iter().filter_map(|backend| match backend {
        Backend::Other { option, prefix } => Some([option, prefix]),
        Backend::Chardev(_) | Backend::NetdevStream(_) => None,
    });
    let paths = attributes.working_directory.iter().chain(&attributes.cgroup);
    let mut texts = args.iter().chain([program]).chain(prefixes).chain(options.flatten()).chain(paths);
    if texts.any(|text| text.contains(&0)) {
        return wrong(format!("an argument or a path of companion `{name}` contains a NUL byte"));
    }
    check_variables(&attributes.environment)
}

/// Returns whether a process with this user id cannot open the private directory (mode 0700), which belongs to this
/// program. That of the superuser opens any (`capabilities(7)`, `CAP_DAC_OVERRIDE`).
fn is_unprivileged(uid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid != 0)
}

fn check_variables(variables: &[Variable]) -> Result<(), Misuse> {
    let is_wrong = |Variable { name, value }: &Variable| {
        let has_nul = |text: &Vec<u8>| text.contains(&0);
        name.is_empty() || name.contains(&b'=') || has_nul(name) || value.as_ref().is_some_and(has_nul)
    };
    if variables.iter().any(is_wrong) {
        return wrong("the name of a variable is empty or contains `=`, or a variable contains a NUL byte");
    }
    Ok(())
}

fn check_address(address: &Address) -> Result<(), Misuse> {
    match address {
        Address::Unix(path) | Address::Abstract(path) if path.is_empty() || path.contains(&0) => {
            wrong("the path or name of a socket is empty or contains a NUL byte")
        }
        Address::Unix(path) if path.len() > SOCKET_PATH => wrong(format!(
            "the path of a socket has {SOCKET_PATH} bytes at most, and {address} has {}: use a shorter directory",
            path.len()
        )),
        Address::Abstract(name) if name.len() > SOCKET_PATH => wrong(format!(
            "the name of an abstract socket has {SOCKET_PATH} bytes at most, and {address} has {}",
            name.len()
        )),
        Address::Unix(_) | Address::Abstract(_) | Address::Tcp(_) => Ok(()),
    }
}

/// Returns whether QEMU accepts the name as an id: a letter, then letters, digits and `-._` (QEMU, `util/id.c`,
/// `id_wellformed`).
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|next| next.is_ascii_alphanumeric() || "-._".contains(next))
}

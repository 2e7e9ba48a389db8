//! Process of a companion: its socket, its log, its guard, and what has happened to it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use qemu_machine_core::{
    CompanionInput, CompanionPreparation, CompanionSocket, CompanionSpawn, FaultKind, HostFault, Signal,
};

use crate::background::{Background, Progress};
use crate::child::{Child, program};
use crate::dial::bind_privately;
use crate::fault::fault;
use crate::log_reader::LogReader;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::SharedFd;
use crate::sys::{GuardProcess, GuardSpec, Os, ProcessSpec, System};
use crate::watch::Watch;

/// A companion, from its preparation on. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct CompanionProcess {
    name: String,
    /// The socket that it inherits, until it is started.
    inherited: Option<OwnedFd>,
    /// The path of its socket. `None` means that it has no socket with a path.
    path: Option<PathBuf>,
    log: Arc<File>,
    reader: LogReader,
    /// The program, for errors.
    program: String,
    log_limit: usize,
    child: Option<Child>,
    /// Kills it when this program ends before it does. Dropped after the process.
    guard: Option<<Os as System>::Guard>,
    /// The end of its log, from its end until it is reported.
    log_end: Option<LogEnd>,
}

/// The end of a log.
#[derive(Debug)]
enum LogEnd {
    Reading(Background<Result<Vec<u8>, HostFault>>),
    Read(Vec<u8>),
}

impl CompanionProcess {
    /// Creates the log and the socket of a companion. Returns the socket that QEMU inherits as well, if it inherits one.
    pub(crate) fn prepare(
        wanted: &CompanionPreparation,
        log_directory: Option<&[u8]>,
        scratch: &mut ScratchDir,
    ) -> Result<(Self, Option<OwnedFd>), HostFault> {
        let CompanionPreparation { name, socket } = wanted;
        let failed = |error: &io::Error| fault(format!("create the socket of the companion {name}"), error);
        let (log, reader) = scratch.companion_log(name, log_directory)?;
        let path = match socket {
            Some(CompanionSocket::Listener | CompanionSocket::Path) => Some(scratch.companion_socket(name)?),
            Some(CompanionSocket::Connected) | None => None,
        };
        let (inherited, of_qemu) = match (socket, &path) {
            (Some(CompanionSocket::Listener), Some(path)) => {
                (Some(bind_privately(path).map_err(|error| failed(&error))?), None)
            }
            (Some(CompanionSocket::Connected), _) => {
                let (inherited, of_qemu) = Os::socket_pair().map_err(|error| failed(&error))?;
                (Some(inherited), Some(of_qemu))
            }
            (Some(CompanionSocket::Listener | CompanionSocket::Path) | None, _) => (None, None),
        };
        let companion = Self {
            name: name.clone(),
            inherited,
            path,
            log,
            reader,
            program: String::new(),
            log_limit: 0,
            child: None,
            guard: None,
            log_end: None,
        };
        Ok((companion, of_qemu))
    }

    /// Returns the path of its socket.
    pub(crate) fn socket_path(&self) -> Option<Vec<u8>> {
        self.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec())
    }

    /// Returns the descriptors that it waits for: its process, or the reading of its log.
    pub(crate) fn completions(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        let reading = self.log_end.as_ref().and_then(|log| match log {
            LogEnd::Reading(reading) => Some(reading.descriptor()),
            LogEnd::Read(_) => None,
        });
        self.child.as_ref().map(Child::descriptor).into_iter().chain(reading)
    }

    pub(crate) fn start(
        &mut self,
        spawn: CompanionSpawn,
        guarded: &GuardSpec,
        watch: &mut dyn Watch,
    ) -> Result<(), HostFault> {
        let CompanionSpawn { arguments, attributes, log_limit } = spawn;
        self.program = program(&arguments);
        self.log_limit = log_limit;
        let program = &self.program;
        let failed = |error| fault(format!("start `{program}`"), &error);
        let namespace = SharedFd::copy_of(attributes.network_namespace.as_ref()).map_err(failed)?;
        let log = Some(self.log.try_clone().map_err(failed)?);
        // Dropped here when it is started: QEMU must not wait for a companion that is gone.
        let inherited = self.inherited.take().into_iter().collect();
        let spec =
            ProcessSpec { arguments, inherited, namespace, log, share_terminal: false, outlives: false, attributes };
        let child = Child::start(spec).map_err(failed)?;
        // On failure the child is dropped, which kills and reaps it.
        let guard = child.guard(guarded).map_err(failed)?;
        watch.watch_completion(child.descriptor()).map_err(failed)?;
        (self.child, self.guard) = (Some(child), Some(guard));
        Ok(())
    }

    /// Returns whether its socket listens.
    pub(crate) fn probe(&self) -> CompanionInput {
        let is_open = match self.path.as_ref().filter(|_| self.child.is_some()) {
            Some(path) => Os::has_listener(path.as_os_str().as_bytes()),
            None => Some(false),
        };
        match is_open {
            Some(is_open) => CompanionInput::Probed { is_open },
            None => CompanionInput::ProbeFailed(HostFault {
                operation: format!("find out whether the socket of companion {} listens", self.name).into(),
                kind: FaultKind::Unsupported,
                errno: None,
                reason: "the operating system does not list the sockets that listen (/proc/net/unix)".into(),
            }),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        if signal == Signal::Kill {
            // It still has files to remove if this program ends.
            self.guard.iter().for_each(GuardProcess::outlive_group);
        }
        let failed =
            |error| fault(format!("send {signal:?} to companion {}, process {}", self.name, child.pid()), &error);
        child.signal(signal).map_err(failed)
    }

    /// Returns what has happened since the last call.
    pub(crate) fn next_event(&mut self, watch: &mut dyn Watch) -> Option<CompanionInput> {
        let executed = Child::executed(&mut self.child, self.guard.as_ref(), &self.program, watch);
        let started = executed.map(|started| match started {
            Ok(pid) => CompanionInput::Started { pid },
            Err(fault) => CompanionInput::StartFailed(fault),
        });
        started.or_else(|| self.finish(watch)).or_else(|| self.finish_reading(watch))
    }

    /// Reaps the process if it has ended, and begins to read the end of its log.
    fn finish(&mut self, watch: &mut dyn Watch) -> Option<CompanionInput> {
        let status = match Child::finish(&mut self.child, self.guard.as_ref(), watch)? {
            Ok(status) => status,
            Err(fault) => return Some(CompanionInput::StartFailed(fault)),
        };
        let (reader, limit) = (self.reader.clone(), self.log_limit);
        self.log_end = Some(match Background::begin(watch, move |_| reader.read(limit)) {
            Ok(reading) => LogEnd::Reading(reading),
            // At the limit of descriptors or threads, the log is read here: it explains what has happened.
            Err(_) => LogEnd::Read(self.reader.read(self.log_limit).unwrap_or_default()),
        });
        Some(CompanionInput::Exited(status))
    }

    fn finish_reading(&mut self, watch: &mut dyn Watch) -> Option<CompanionInput> {
        let log = match self.log_end.take()? {
            LogEnd::Read(log) => log,
            LogEnd::Reading(reading) => {
                let log = match reading.progress() {
                    Progress::Pending => {
                        self.log_end = Some(LogEnd::Reading(reading));
                        return None;
                    }
                    Progress::Done(log) => log.unwrap_or_default(),
                    Progress::Lost => Vec::new(),
                };
                watch.unwatch_completion(reading.descriptor());
                log
            }
        };
        Some(CompanionInput::LogRead(log))
    }

    /// Stops reading its log, and returns whether that was in progress.
    pub(crate) fn abandon_reading(&mut self, watch: &mut dyn Watch) -> bool {
        let log = self.log_end.take();
        if let Some(LogEnd::Reading(reading)) = &log {
            watch.unwatch_completion(reading.descriptor());
        }
        log.is_some()
    }

    /// Returns the guard of a process that has ended.
    pub(crate) fn take_unused_guard(&mut self) -> Option<<Os as System>::Guard> {
        self.guard.take_if(|_| self.child.is_none())
    }

    /// Returns a reader of what it prints.
    pub(crate) fn log(&self) -> LogReader {
        self.reader.clone()
    }
}

//! Process of a companion, from its preparation until its end is reported.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use qemu_machine_core::{
    CompanionEvent, CompanionPreparation, CompanionSocket, CompanionSpawn, ExitStatus, HostFault, Signal,
};

use crate::background::{Background, Progress};
use crate::child::Child;
use crate::dial::bind_privately;
use crate::fault::fault;
use crate::log_reader::LogReader;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::SharedFd;
use crate::supervisor::Supervisor;
use crate::sys::{GuardSpec, Os, ProcessSpec, System};
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
    last_words: usize,
    child: Option<Child>,
    /// Kills it when this program ends before it does. Dropped after the process.
    guard: Option<<Os as System>::Guard>,
    /// How it ended, while the end of its log is being read.
    ended: Option<Ended>,
}

/// A companion that has ended, and the reading of its last words.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    reading: Background<Result<Vec<u8>, HostFault>>,
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
            last_words: 0,
            child: None,
            guard: None,
            ended: None,
        };
        Ok((companion, of_qemu))
    }

    /// Returns a reader of what it prints.
    pub(crate) fn log_reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Returns the path of its socket.
    pub(crate) fn socket_path(&self) -> Option<Vec<u8>> {
        self.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec())
    }

    /// Returns the descriptors that it waits for: its process, or the reading of its log.
    pub(crate) fn completions(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        let reading = self.ended.as_ref().map(|ended| ended.reading.descriptor());
        self.child.as_ref().map(Child::descriptor).into_iter().chain(reading)
    }

    pub(crate) fn start(
        &mut self,
        spawn: CompanionSpawn,
        guarded: &GuardSpec,
        watch: &mut impl Watch,
    ) -> Result<(), HostFault> {
        let CompanionSpawn { arguments, attributes, last_words } = spawn;
        self.program =
            arguments.first().map(|program| String::from_utf8_lossy(program).into_owned()).unwrap_or_default();
        self.last_words = last_words;
        let program = &self.program;
        let failed = |error| fault(format!("start `{program}`"), &error);
        let namespace = attributes.network_namespace.as_ref().map(|namespace| SharedFd::of(namespace)?.copy());
        let namespace = namespace.transpose().map_err(failed)?;
        let log = Some(self.log.try_clone().map_err(failed)?);
        // Dropped here when it is started: QEMU must not wait for a companion that is gone.
        let inherited = self.inherited.take().into_iter().collect();
        let spec =
            ProcessSpec { arguments, inherited, namespace, log, share_terminal: false, outlives: false, attributes };
        let child = Supervisor::get().and_then(|supervisor| supervisor.run(|| Child::start(spec))?).map_err(failed)?;
        // On failure the child is dropped, which kills and reaps it.
        let guard = child.guard(guarded).map_err(failed)?;
        watch.watch_completion(child.descriptor()).map_err(failed)?;
        (self.child, self.guard) = (Some(child), Some(guard));
        Ok(())
    }

    /// Returns whether its socket listens.
    pub(crate) fn is_open(&self) -> bool {
        let Some(path) = self.path.as_ref().filter(|_| self.child.is_some()) else { return false };
        Os::has_listener(path.as_os_str().as_bytes()) == Some(true)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        let failed =
            |error| fault(format!("send {signal:?} to companion {}, process {}", self.name, child.pid()), &error);
        child.signal(signal).map_err(failed)
    }

    /// Returns what has happened since the last call.
    pub(crate) fn next_event(&mut self, watch: &mut impl Watch) -> Option<CompanionEvent> {
        self.finish_reading(watch).or_else(|| self.finish_start(watch)).or_else(|| self.reap(watch))
    }

    fn finish_start(&mut self, watch: &mut impl Watch) -> Option<CompanionEvent> {
        let child = self.child.as_mut()?;
        let before = Arc::clone(child.descriptor());
        if !child.finish_start(&self.program) {
            return None;
        }
        watch.unwatch_completion(&before);
        match watch.watch_completion(child.descriptor()) {
            // It is reported when the process has ended.
            Ok(()) if child.failure().is_some() => None,
            Ok(()) => Some(CompanionEvent::Started { pid: child.pid() }),
            Err(error) => {
                // Dropping the child kills it.
                (self.child, self.guard) = (None, None);
                Some(CompanionEvent::StartFailed(fault(format!("watch `{}`", self.program), &error)))
            }
        }
    }

    /// Reaps the process if it has ended, and begins to read the end of its log.
    fn reap(&mut self, watch: &mut impl Watch) -> Option<CompanionEvent> {
        let child = self.child.as_mut().filter(|child| !child.is_starting())?;
        let status = child.reap()?;
        let failure = child.failure().cloned();
        if let Some(child) = self.child.take() {
            watch.unwatch_completion(child.descriptor());
        }
        self.guard = None;
        if let Some(fault) = failure {
            return Some(CompanionEvent::StartFailed(fault));
        }
        let (reader, limit) = (self.reader.clone(), self.last_words);
        match Background::begin(watch, move |_| reader.read(limit)) {
            Ok(reading) => {
                self.ended = Some(Ended { status, reading });
                None
            }
            // At the limit of descriptors or threads, the log is read here: it explains what has happened.
            Err(_) => {
                Some(CompanionEvent::Exited { status, words: self.reader.read(self.last_words).unwrap_or_default() })
            }
        }
    }

    fn finish_reading(&mut self, watch: &mut impl Watch) -> Option<CompanionEvent> {
        let Ended { status, reading } = self.ended.as_ref()?;
        let words = match reading.progress() {
            Progress::Pending => return None,
            Progress::Done(words) => words.unwrap_or_default(),
            Progress::Lost => Vec::new(),
        };
        let event = CompanionEvent::Exited { status: *status, words };
        watch.unwatch_completion(reading.descriptor());
        self.ended = None;
        Some(event)
    }
}

//! Process of a machine, which is killed when its owner drops it, and reaped in any case.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{ExitStatus, HostFault, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fault::fault;
use crate::log_bound::LogBound;
use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{ChildProcess, Earlier, GuardProcess, GuardSpec, Os, Process, ProcessSpec, Progress, Source, System};
use crate::watch::Watch;

/// A process that this program started, from its start until it is reaped. Dropping it earlier kills the process, and
/// the supervisor reaps it: a child that is not waited for stays a zombie (`waitpid(2)`, NOTES).
///
/// Or a process that an earlier program started. Dropping that kills it only once it is [owned](Self::own).
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Process>,
    stage: Stage,
    /// Whether the process was reaped or detached, or is not owned yet, so that dropping this does nothing.
    is_done: bool,
}

/// Stage of a process.
#[derive(Debug)]
enum Stage {
    /// It does not execute its program yet. The descriptor is readable when that changes.
    Starting(Arc<OwnedFd>),
    /// It executes its program.
    Started,
    /// It could not execute its program, and ends.
    Failed(HostFault),
}

impl Child {
    /// Starts a process, and returns before its program is executed. The supervisor's thread creates it: see
    /// [`System::start`].
    pub(crate) fn start(spec: ProcessSpec) -> io::Result<Self> {
        Supervisor::get()?.run(|| Self::create(spec))?
    }

    fn create(spec: ProcessSpec) -> io::Result<Self> {
        let process = Arc::new(Os::start(spec)?);
        let stage = process.start_descriptor().map_or(Stage::Started, Stage::Starting);
        Ok(Self { process, stage, is_done: false })
    }

    /// Finds the process that an earlier program started, by its id and start time.
    pub(crate) fn find(pid: u32, since: u64) -> io::Result<Earlier<Self>> {
        Ok(match Os::find(pid, since)? {
            Earlier::Running(process) => {
                Earlier::Running(Self { process: Arc::new(process), stage: Stage::Started, is_done: true })
            }
            Earlier::Ended(status) => Earlier::Ended(status),
        })
    }

    /// Makes this the owner of a process that runs: dropping this kills it.
    pub(crate) fn own(&mut self) {
        self.is_done = false;
    }

    /// Completes the start of a process when its program is executed, and has `watch` watch it from then on. Returns its
    /// id. `None` means that the program is not executed yet, or could not be: then [`finish`](Self::finish) returns why.
    /// A process that cannot be watched is dropped, which kills it and its group; the guard leaves that before.
    pub(crate) fn executed(
        child: &mut Option<Self>,
        guard: Option<&<Os as System>::Guard>,
        program: &str,
        watch: &mut dyn Watch,
    ) -> Option<Result<u32, HostFault>> {
        let starting = child.as_mut()?;
        let before = Arc::clone(starting.descriptor());
        if !starting.finish_start(program) {
            return None;
        }
        watch.unwatch_completion(&before);
        match watch.watch_completion(starting.descriptor()) {
            Ok(()) if starting.failure().is_some() => None,
            Ok(()) => Some(Ok(starting.pid())),
            Err(error) => {
                guard.into_iter().for_each(GuardProcess::outlive_group);
                *child = None;
                Some(Err(fault(format!("watch `{program}`"), &error)))
            }
        }
    }

    /// Reaps a process if it has ended, and returns how it ended, or why its program could not be executed. `None` means
    /// that it runs, or is being started. Reaping kills what is left of its group, which the guard leaves before: it still
    /// has files to remove if this program ends. Until then it stays a member, and kills the group.
    pub(crate) fn finish(
        child: &mut Option<Self>,
        guard: Option<&<Os as System>::Guard>,
        watch: &mut dyn Watch,
    ) -> Option<Result<ExitStatus, HostFault>> {
        let ended = child.as_mut().filter(|child| child.has_ended())?;
        guard.into_iter().for_each(GuardProcess::outlive_group);
        let status = ended.reap()?;
        let ended = child.take()?;
        watch.unwatch_completion(ended.descriptor());
        Some(ended.failure().cloned().map_or(Ok(status), Err))
    }

    /// Returns whether it has ended, and may be reaped.
    fn has_ended(&self) -> bool {
        let mut process = [PollFd::new(self.process.descriptor(), PollFlags::IN)];
        !matches!(self.stage, Stage::Starting(_)) && poll(&mut process, Some(&Timespec::default())) != Ok(0)
    }

    /// Returns whether the start is complete since the last call. Then the [`descriptor`](Self::descriptor) is another
    /// one.
    fn finish_start(&mut self, program: &str) -> bool {
        if !matches!(self.stage, Stage::Starting(_)) {
            return false;
        }
        self.stage = match self.process.progress() {
            Progress::Pending => return false,
            Progress::Executed => Stage::Started,
            Progress::Failed(step, error) => Stage::Failed(fault(format!("{step} `{program}`"), &error)),
        };
        true
    }

    /// Returns why the process could not execute its program. `None` means that it did, or does not yet.
    fn failure(&self) -> Option<&HostFault> {
        match &self.stage {
            Stage::Failed(fault) => Some(fault),
            Stage::Starting(_) | Stage::Started => None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the descriptor to watch: it is readable once the start is complete, and later another one once the process
    /// has ended.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        match &self.stage {
            Stage::Starting(descriptor) => descriptor,
            Stage::Started | Stage::Failed(_) => self.process.descriptor(),
        }
    }

    /// Starts a guard of the process.
    pub(crate) fn guard(&self, spec: &GuardSpec) -> io::Result<<Os as System>::Guard> {
        self.process.guard(spec)
    }

    /// Sends a signal to the whole process group, and to the process itself if it has left the group. The process may
    /// be a wrapper of QEMU: alone, it would end and leave the rest of the group running.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Leaves the process and its group as they are. The supervisor reaps the process if it ends before this program,
    /// and ends the bounds of its logs then.
    pub(crate) fn detach(mut self, bounds: Vec<LogBound>) {
        self.is_done = true;
        reap_later(Unowned { process: Arc::new(self.process.without_group()), _bounds: bounds });
    }

    /// Reaps the process if it has ended, kills what is left of its group, and returns how it ended. `None` means that
    /// it runs.
    fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.process.reap()?;
        self.is_done = true;
        Some(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let _ = self.process.signal(Signal::Kill);
        reap_later(Unowned { process: Arc::clone(&self.process), _bounds: Vec::new() });
    }
}

/// Returns the program of a command line, for errors.
pub(crate) fn program(arguments: &[Vec<u8>]) -> String {
    arguments.first().map(|program| String::from_utf8_lossy(program).into_owned()).unwrap_or_default()
}

/// Passes a process to the supervisor, which reaps it. Without a supervisor it stays a zombie until this program ends.
fn reap_later(process: Unowned) {
    let Ok(supervisor) = Supervisor::get() else { return };
    let process = Arc::new(process);
    if let Ok(token) = supervisor.supervise(Arc::clone(&process) as Arc<dyn Supervised>) {
        supervisor.arm(token, process.source());
    }
}

/// A process whose owner was dropped.
struct Unowned {
    process: Arc<Process>,
    /// They end with the process.
    _bounds: Vec<LogBound>,
}

impl Supervised for Unowned {
    fn source(&self) -> Source<'_> {
        Source::Descriptor(self.process.descriptor().as_fd())
    }

    fn turn(&self, _: Wake) -> Next {
        self.process.reap().map_or(Next::Watch(None), |_| Next::Drop)
    }
}

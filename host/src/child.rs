//! Process of a machine, which is killed when its owner drops it, and reaped in any case.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{ExitStatus, Signal};

use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{ChildProcess, Os, Process, ProcessSpec, Source, System};

/// A process that this program started, from its start until it is reaped. Dropping it earlier kills the process, and
/// the supervisor reaps it: a child that is not waited for stays a zombie (`waitpid(2)`, NOTES).
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Process>,
    /// Whether the process was reaped or detached, so that dropping this does nothing.
    is_done: bool,
}

impl Child {
    /// Starts a process. Call it on the supervisor's thread: see [`System::start`].
    pub(crate) fn start(spec: ProcessSpec) -> io::Result<Self> {
        Ok(Self { process: Arc::new(Os::start(spec)?), is_done: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the descriptor that is readable once the process has ended.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        self.process.descriptor()
    }

    /// Sends a signal to the whole process group. The process may be a wrapper of QEMU: alone, it would end and leave
    /// QEMU running.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Leaves the process and its group as they are. The supervisor reaps the process if it ends before this program.
    pub(crate) fn detach(mut self) {
        self.is_done = true;
        reap_later(Arc::new(self.process.without_group()));
    }

    /// Reaps the process if it has ended, kills what is left of its group, and returns how it ended. `None` means that
    /// it runs.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
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
        reap_later(Arc::clone(&self.process));
    }
}

/// Passes a process to the supervisor, which reaps it. Without a supervisor it stays a zombie until this program ends.
fn reap_later(process: Arc<Process>) {
    let Ok(supervisor) = Supervisor::get() else { return };
    if let Ok(token) = supervisor.supervise(Arc::clone(&process) as Arc<dyn Supervised>) {
        supervisor.arm(token, process.source());
    }
}

/// A process whose owner was dropped.
impl Supervised for Process {
    fn source(&self) -> Source<'_> {
        Source::Descriptor(self.descriptor().as_fd())
    }

    fn turn(&self, _: Wake) -> Next {
        self.reap().map_or(Next::Watch(None), |_| Next::Drop)
    }
}

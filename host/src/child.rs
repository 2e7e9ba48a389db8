//! Process of a machine: dropping it kills it, and it is reaped in any case.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{ExitStatus, Signal};

use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{ChildProcess, Os, Process, ProcessSpec, Source, System};

/// A process that we started, from its start until it is reaped. Dropping it earlier kills it, and the supervisor reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Process>,
    /// Whether it was reaped or detached, so that dropping it does nothing.
    is_done: bool,
}

impl Child {
    /// Starts a process. It is called on the supervisor's thread, as [`System::start`].
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

    /// Sends a signal to the whole process group: the process may be a wrapper, which would die alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Leaves the process and its group as they are. The supervisor reaps the process if it ends before us.
    pub(crate) fn detach(mut self) {
        self.is_done = true;
        reap_later(Arc::new(self.process.without_group()));
    }

    /// Returns how the process ended. `None` means that it runs. What is left of its group is killed.
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

/// Gives a process to the supervisor to reap. Without the supervisor it stays a zombie until we end.
fn reap_later(process: Arc<Process>) {
    let Ok(supervisor) = Supervisor::get() else { return };
    if let Ok(token) = supervisor.supervise(Arc::clone(&process) as Arc<dyn Supervised>) {
        supervisor.arm(token, process.source());
    }
}

/// A process whose owner is gone.
impl Supervised for Process {
    fn source(&self) -> Source<'_> {
        Source::Descriptor(self.descriptor().as_fd())
    }

    fn turn(&self, _: Wake) -> Next {
        self.reap().map_or(Next::Watch(None), |_| Next::Drop)
    }
}

//! End of a machine whose last owner or driver was dropped: within seconds, whatever the kernel or a file system does.

use std::mem;
use std::time::Duration;

use qemu_machine_core::{Machine, Moment};
use rustix::event::{PollFd, PollFlags, poll};

use crate::child::Child;
use crate::clock::{Clock, timespec};
use crate::companion_process::CompanionProcess;
use crate::file_operation::FileOperation;
use crate::host::Host;
use crate::watch::{Unwatched, Watch};

/// How long the kernel has to release the process. A killed process is released within milliseconds, unless it sleeps
/// uninterruptibly, mostly for a disk (`proc(5)`, state D).
const END_WITHIN: Duration = Duration::from_secs(2);

/// How long each step of the clean-up has after that: the log is read, and the files are removed.
const FILES_WITHIN: Duration = Duration::from_millis(250);

/// Steps that are waited for at most: the process, its channels, its log, its companions and its files.
const STEPS: u8 = 5;

/// How far the end of a machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// When the step in progress is abandoned.
    until: Moment,
    abandoned: u8,
}

impl Host {
    /// Ends a machine whose last owner drops it, before it returns: kills the process, reads what it still sent, and
    /// removes everything. That takes a few milliseconds, and three seconds at most. When the kernel does not release
    /// the process within two seconds, the machine ends without it, and the supervisor reaps the process when it ends.
    /// When a file system does not answer, a thread removes the files later.
    pub fn end(&mut self, machine: &mut Machine, clock: Clock) {
        self.end_watched(machine, clock, &mut Unwatched);
    }

    /// As [`end`](Self::end), for a runtime that must unregister the descriptors.
    pub fn end_watched(&mut self, machine: &mut Machine, clock: Clock, watch: &mut dyn Watch) {
        let mut ending = self.begin_to_end(machine, clock.now(), watch);
        while let Some(until) = self.go_on_ending(&mut ending, machine, clock.now(), watch) {
            self.poll(until.since(clock.now()));
            self.reap(machine, clock.now(), watch);
            for channel in machine.channels().to_vec() {
                while clock.now() < ending.until && self.receive(channel, machine, clock.now(), watch) {}
            }
            self.check_deadline(machine, clock.now());
            self.serve(machine, clock.now(), watch);
        }
        // Others than this host have references to the descriptors of what is not complete.
        let child = self.child.as_ref().map(Child::descriptor);
        let files = self.files.as_deref().map(FileOperation::descriptor);
        let companions = self.companions.iter().flat_map(CompanionProcess::completions);
        child.into_iter().chain(files).chain(companions).for_each(|descriptor| watch.unwatch_completion(descriptor));
    }

    /// Kills the process, or disconnects.
    pub(crate) fn begin_to_end(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) -> Ending {
        if machine.outcome().is_none() {
            machine.kill_or_disconnect(now);
            self.serve(machine, now, watch);
        }
        Ending { until: now.after(END_WITHIN), abandoned: 0 }
    }

    /// Abandons the steps whose time is over, and returns until when to drive the machine before the next call. `None`
    /// means that the machine has ended: callers that still wait have a result.
    pub(crate) fn go_on_ending(
        &mut self,
        ending: &mut Ending,
        machine: &mut Machine,
        now: Moment,
        watch: &mut dyn Watch,
    ) -> Option<Moment> {
        while machine.outcome().is_none() {
            if let Some((due, _)) = machine.deadline().filter(|_| now < ending.until) {
                return Some(due.min(ending.until));
            }
            if ending.abandoned == STEPS {
                break;
            }
            ending.abandoned += 1;
            machine.abandon(now);
            self.serve(machine, now, watch);
            ending.until = if self.files.is_some() { now.after(FILES_WITHIN) } else { now };
        }
        None
    }

    /// Returns everything that is left of a machine which has ended and is not launched again: its log, and a process that
    /// the kernel has not released. Drop the result without a lock, since closing a file may block: then the supervisor
    /// reaps the process.
    #[must_use]
    pub fn take_unused(&mut self) -> Self {
        // What was logged is not logged again.
        let (trace, wire) = (mem::take(&mut self.trace), mem::take(&mut self.wire));
        let unused = mem::take(self);
        (self.trace, self.wire) = (trace, wire);
        unused
    }

    /// Waits until the process has ended or a socket is readable. A signal may end the wait early (`poll(2)`, EINTR).
    fn poll(&self, timeout: Duration) {
        let process = self.child.as_ref().map(Child::descriptor);
        let files = self.files.as_deref().map(FileOperation::descriptor);
        let companions = self.companions.iter().flat_map(CompanionProcess::completions);
        let process =
            process.into_iter().chain(files).chain(companions).map(|descriptor| PollFd::new(descriptor, PollFlags::IN));
        let sockets = self.sockets.iter().map(|socket| PollFd::new(&socket.descriptor, PollFlags::IN));
        let mut watched: Vec<_> = process.chain(sockets).collect();
        let _ = poll(&mut watched, Some(&timespec(timeout)));
    }
}

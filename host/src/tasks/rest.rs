//! Rest of a run whose driver or last handle was dropped: the supervisor's thread drives it, so that no executor waits.

use std::io;
use std::sync::{Arc, Condvar, LazyLock, PoisonError};
use std::time::Duration;

use super::driver::{SharedMachine, Turn};
use super::handed_over::HandedOver;
use super::reactor::Reactor;
use crate::ending::Ending;
use crate::home::Local;
use crate::lock::lock;
use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{Poll as _, Poller, Source};

/// Reads from one channel in one turn of the supervisor.
const READS: usize = 16;

/// How many runs of this process were handed over to the supervisor and have not ended.
static COUNT: LazyLock<Local<usize>> = LazyLock::new(|| Local::new(0, || 0));

/// Notified when such a run has ended.
static OVER: Condvar = Condvar::new();

/// Blocks the thread until all machines have ended whose last handle or driver was dropped, for this time at most. Returns
/// whether they have.
///
/// Call it at the end of a program that looks at what is left. When a program ends earlier, its processes end with it, and
/// a guard removes their files. There is no guard for a machine that [outlives its
/// parent](qemu_machine_core::Config::outlive_parent), for a launch that was dropped before its process was started, and
/// for an attachment that listens on a path: the files of those stay, unless the program waits here, or ends them with
/// [`Vm::kill`](super::Vm::kill) or [`Vm::disconnect`](super::Vm::disconnect).
pub fn wait_for_dropped(within: Duration) -> bool {
    let count = lock(COUNT.mutex());
    let waited = OVER.wait_timeout_while(count, within, |count| *count > 0);
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}

/// One of the runs that [`wait_for_dropped`] waits for.
struct Counted;

impl Counted {
    fn new() -> Self {
        *COUNT.lock() += 1;
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *COUNT.lock() -= 1;
        OVER.notify_all();
    }
}

/// A run that was handed over, as the supervisor drives it.
struct SupervisedRun<R: Reactor> {
    shared: Arc<SharedMachine<R>>,
    poller: Arc<Poller>,
    run: u64,
    /// The last member, so that the others are dropped before.
    _counted: Counted,
}

impl<R: Reactor> Turn<R> {
    /// Ends the machine, if it has not ended: kills the process, or disconnects, and hands the rest over to the supervisor.
    /// Without one, at the limit of descriptors or threads, it does the rest itself.
    pub(super) fn end_rest(&mut self, shared: &Arc<SharedMachine<R>>) {
        if self.rest.is_some() {
            return;
        }
        let now = self.clock.now();
        let Self { machine, host, sources, .. } = self;
        let mut ending = host.begin_to_end(machine, now, sources);
        if host.go_on_ending(&mut ending, machine, now, sources).is_some() && self.hand_over(shared, ending).is_err() {
            let Self { machine, host, clock, sources, .. } = self;
            host.end_watched(machine, *clock, sources);
        }
        self.serve(now);
        if self.rest.is_none() {
            self.finish_rest();
        }
    }

    /// Watches with a poller of the supervisor from now on, and no longer with the reactor.
    fn hand_over(&mut self, shared: &Arc<SharedMachine<R>>, ending: Ending) -> io::Result<()> {
        let supervisor = Supervisor::get()?;
        let poller = Arc::new(Poller::new()?);
        self.moved = self.sources.move_to(&poller)?;
        let (shared, counted) = (Arc::clone(shared), Counted::new());
        let run = SupervisedRun { shared, poller, run: self.run, _counted: counted };
        let token = supervisor.supervise(Arc::new(run))?;
        let rest = HandedOver::new(ending, supervisor, token);
        rest.look();
        self.rest = Some(rest);
        Ok(())
    }

    fn finish_rest(&mut self) {
        self.replaced.push(std::mem::take(&mut self.sources));
        self.rest = None;
        if self.is_last {
            // A weak handle may keep this machine.
            self.unused = Some(Box::new(self.host.take_unused()));
        }
        self.wake_all();
    }

    /// Drives the rest of the run, and returns when to do so next.
    fn drive_rest(&mut self) -> Next {
        let now = self.clock.now();
        let Self { machine, host, sources, .. } = self;
        host.reap(machine, now, sources);
        for channel in machine.channels().to_vec() {
            (0..READS).take_while(|_| host.receive(channel, machine, now, sources)).count();
        }
        host.check_deadline(machine, now);
        self.serve(now);
        let Self { machine, host, sources, rest: Some(rest), .. } = self else { return Next::Drop };
        let until = host.go_on_ending(&mut rest.ending, machine, now, sources);
        self.serve(now);
        match until.filter(|_| self.machine.outcome().is_none()) {
            Some(until) => Next::Watch(self.clock.instant(until)),
            None => {
                self.finish_rest();
                Next::Drop
            }
        }
    }
}

impl<R: Reactor> Supervised for SupervisedRun<R> {
    fn source(&self) -> Source<'_> {
        Source::Poller(&self.poller)
    }

    fn turn(&self, _: Wake) -> Next {
        // A caller holds the lock. The supervisor does not wait for it: all other machines would wait as well.
        let Some(mut turn) = self.shared.try_lock() else { return Next::Lease };
        self.poller.wait(Some(Duration::ZERO));
        let next = if turn.run == self.run { turn.drive_rest() } else { Next::Drop };
        // A panic of a waker concerns no call.
        drop(turn.unlock_caught());
        next
    }
}

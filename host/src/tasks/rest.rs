//! Rest of a run whose driver or last handle was dropped: the supervisor's thread drives it, so that no executor waits.

use std::io;
use std::sync::{Arc, Condvar, LazyLock, PoisonError};
use std::time::Duration;

use super::driver::{SharedMachine, Turn};
use super::reactor::Reactor;
use super::sources::Sources;
use crate::home::Local;
use crate::lock::lock;
use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{Poll as _, Poller, Source};

/// Reads from one channel in one turn of the supervisor.
const READS: usize = 16;

/// How many rests this process has.
static COUNT: LazyLock<Local<usize>> = LazyLock::new(|| Local::new(0, || 0));

/// Notified when a rest is over.
static OVER: Condvar = Condvar::new();

/// Waits until the supervisor has ended all machines whose last handle or driver was dropped, for this time at most, and
/// returns whether it has. It blocks the thread. Call it at the end of a program that looks at what is left; nothing is left
/// of those machines without it either, since their processes and files end with this program at the latest.
pub fn wait_for_dropped(within: Duration) -> bool {
    let count = lock(COUNT.mutex());
    let waited = OVER.wait_timeout_while(count, within, |count| *count > 0);
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}

/// The rest of one run, as the supervisor drives it.
struct SupervisedRest<R: Reactor> {
    shared: Arc<SharedMachine<R>>,
    poller: Arc<Poller>,
    run: u64,
}

impl<R: Reactor> Turn<R> {
    /// Ends the machine, if it has not ended: kills the process, or disconnects, and leaves the rest to the supervisor.
    /// Without one, at the limit of descriptors or threads, it does the rest itself.
    pub(super) fn end_rest(&mut self, shared: &Arc<SharedMachine<R>>) {
        if self.rest.is_some() {
            return;
        }
        let now = self.clock.now();
        let Self { machine, host, clock, sources, .. } = self;
        let mut ending = host.begin_to_end(machine, now, sources);
        let is_over = host.go_on_ending(&mut ending, machine, now, sources).is_none();
        if !is_over && sources.move_to_supervisor(shared, self.run).is_err() {
            host.end_watched(machine, *clock, sources);
        }
        self.serve(now);
        if self.machine.outcome().is_some() {
            self.finish_rest();
        } else {
            self.rest = Some(ending);
        }
    }

    fn finish_rest(&mut self) {
        // They still hold sources of the run.
        self.sources = Sources::default();
        self.rest = None;
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
        let Self { machine, host, sources, rest: Some(ending), .. } = self else { return Next::Drop };
        let until = host.go_on_ending(ending, machine, now, sources);
        self.serve(now);
        match until {
            Some(until) => Next::Watch(self.clock.instant(until)),
            None => {
                self.finish_rest();
                Next::Drop
            }
        }
    }
}

impl<R: Reactor> Sources<R> {
    /// Watches with a poller of the supervisor from now on, and no longer with the reactor.
    fn move_to_supervisor(&mut self, shared: &Arc<SharedMachine<R>>, run: u64) -> io::Result<()> {
        let supervisor = Supervisor::get()?;
        let poller = Arc::new(Poller::new()?);
        self.move_to(&poller)?;
        *COUNT.lock() += 1;
        let token = supervisor.supervise(Arc::new(SupervisedRest { shared: Arc::clone(shared), poller, run }))?;
        supervisor.look(token);
        Ok(())
    }
}

impl<R: Reactor> Drop for SupervisedRest<R> {
    fn drop(&mut self) {
        *COUNT.lock() -= 1;
        OVER.notify_all();
    }
}

impl<R: Reactor> Supervised for SupervisedRest<R> {
    fn source(&self) -> Source<'_> {
        Source::Poller(&self.poller)
    }

    fn turn(&self, _: Wake) -> Next {
        // A caller holds the lock. The supervisor does not wait for it: all other machines would wait as well.
        let Some(mut turn) = self.shared.try_lock() else { return Next::Lease };
        if turn.run != self.run {
            return Next::Drop;
        }
        self.poller.wait(Some(Duration::ZERO));
        let next = turn.drive_rest();
        turn.unlock();
        next
    }
}

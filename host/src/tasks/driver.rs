//! Machine that tasks share, and the future that drives it.

use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use qemu_machine_core::{Machine, Misuse, Moment, Notice};

use super::handed_over::HandedOver;
use super::reactor::{AsyncTimer as _, Reactor};
use super::sources::Sources;
use super::streams::Streams;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::handle::Shared;
use crate::home::Local;
use crate::host::Host;
use crate::panic::{CaughtPanic, resume, store_panic};

/// A machine with its host side, shared by its handles and its driver.
pub struct SharedMachine<R: Reactor>(Local<Turn<R>>);

/// State of the machine that the owner of the lock may drive.
pub(crate) struct Turn<R: Reactor> {
    pub(crate) machine: Machine,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    pub(super) sources: Sources<R>,
    pub(super) streams: Streams,
    driver: Waker,
    /// Number of the run. A driver drives one run, and has no effect on a later one.
    pub(super) run: u64,
    /// `Some` means that the supervisor drives the rest of the run, since the driver or the last handle was dropped.
    pub(super) rest: Option<HandedOver>,
    /// How many turns the driver has yielded since it last read as much as it may, while a task that was woken was not
    /// polled, and since when. `None` means that it has read all there was.
    yielded: Option<(u32, Moment)>,
    /// When the timer of the driver fires, not later than the deadline. `None` means that it is not set.
    until: Option<Moment>,
    /// Whether the timer wakes the driver as it was last polled.
    is_armed: bool,
    waiters: Waiters,
    /// Whether the last handle was dropped, so that there is no later run.
    pub(super) is_last: bool,
    /// Remains of the previous run, dropped after the lock is released.
    pub(super) unused: Option<Box<Host>>,
    /// The sources that are dropped after the lock is released: a source may own wakers.
    pub(super) replaced: Vec<Sources<R>>,
    pub(super) moved: Vec<R::Source>,
    /// The wakers that a later poll of the same future has replaced.
    pub(super) stale: Vec<Waker>,
    /// The wakers to call after the lock is released: a waker may run code that takes the lock, which would deadlock.
    pub(super) awake: Vec<Waker>,
}

/// Guard of the lock.
pub(crate) struct Guard<'a, R: Reactor>(MutexGuard<'a, Turn<R>>);

impl<R: Reactor> Guard<'_, R> {
    /// Releases the lock, wakes the tasks that are due, and resumes a panic: of the host, or of a waker.
    pub(crate) fn unlock(self) {
        resume(self.unlock_caught());
    }

    /// Releases the lock, and then wakes the tasks that are due, and drops the wakers that are of no use any more: a waker
    /// may own the last reference to a task, and dropping a task runs code that may take the lock. Returns the first panic:
    /// one of them keeps no other task from being woken.
    #[must_use = "the caller should learn of a panic"]
    pub(super) fn unlock_caught(mut self) -> Option<CaughtPanic> {
        // Mostly there is at most one waker, and then the vector keeps its capacity for the next.
        let last = self.awake.pop();
        let awake = if self.awake.is_empty() { Vec::new() } else { mem::take(&mut self.awake) };
        let stale = mem::take(&mut self.stale);
        let dropped = (mem::take(&mut self.replaced), mem::take(&mut self.moved), self.unused.take());
        let mut panic = self.host.take_panic();
        drop(self);
        store_panic(&mut panic, || drop(dropped));
        awake.into_iter().chain(last).for_each(|waker| store_panic(&mut panic, || waker.wake()));
        stale.into_iter().for_each(|waker| store_panic(&mut panic, || drop(waker)));
        panic
    }

    /// As [`unlock`](Self::unlock), and then drops a waker that is of no use any more. Passed here, it needs no memory of the
    /// machine.
    fn unlock_and_drop(self, stale: Option<Waker>) {
        let mut panic = self.unlock_caught();
        store_panic(&mut panic, || drop(stale));
        resume(panic);
    }
}

impl<R: Reactor> Deref for Guard<'_, R> {
    type Target = Turn<R>;

    fn deref(&self) -> &Turn<R> {
        &self.0
    }
}

impl<R: Reactor> DerefMut for Guard<'_, R> {
    fn deref_mut(&mut self) -> &mut Turn<R> {
        &mut self.0
    }
}

/// Rounds of reading before the driver yields to other tasks. The bytes of two rounds fit the queue of a subscription
/// whatever events they contain, since each event of QEMU has at least 70 bytes. With more rounds, a queue could drop
/// events before its task had a turn to pop them.
const ROUNDS: usize = 2;

/// Turns that the driver yields, after the last round, to a task that was woken and was not polled since. An
/// executor on one thread may run the other tasks many times before it polls the future that it was started with: tokio
/// 61 times (`event_interval`), a `LocalExecutor` of smol 200 times. Beyond that the task is busy with something else.
const TURNS: u32 = 256;

/// How much too early a timer may fire: the reactors count in milliseconds. A timer that may have fired is polled.
const EARLY: Duration = Duration::from_millis(2);

/// How long the driver yields at most, also when the turns of the other tasks take long.
const YIELDED_WITHIN: Duration = Duration::from_millis(100);

/// Future that drives a machine. It completes when the machine has ended and everything that was created for it is
/// removed.
///
/// While it is not polled, no byte is received, no deadline passes, and every task that waits keeps waiting.
///
/// Dropping it earlier kills a machine that this program launched, or disconnects from any other. The supervisor's thread
/// then reaps the process and removes everything that was created, and every task that waits receives a result. So does
/// the end of the reactor that the machine was launched in.
///
/// A panic of a waker or of an [observer of the wire](crate::Handle::observe_wire) that it calls is reported by the panic
/// hook alone: the machine has other callers, and needs its driver.
#[must_use = "a machine makes no progress unless its driver is polled"]
pub struct Driver<R: Reactor> {
    shared: Arc<SharedMachine<R>>,
    timer: R::Timer,
    run: u64,
}

impl<R: Reactor> SharedMachine<R> {
    pub(crate) fn new(machine: Machine) -> Arc<Self> {
        Arc::new(Self(Local::new(Turn::new(machine), || Turn::new(Machine::forked()))))
    }

    pub(crate) fn lock(&self) -> Guard<'_, R> {
        Guard(self.0.lock())
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, R>> {
        self.0.try_lock().map(Guard)
    }

    /// Waits until `claim` returns a result, which one of these notices announces.
    pub(crate) async fn wait_for<T>(&self, notices: &[Notice], mut claim: impl FnMut(&mut Machine) -> Option<T>) -> T {
        std::future::poll_fn(|context| self.poll(context, notices, &mut claim)).await
    }

    /// Polls for a result that one of these notices announces. While there is none, the notice wakes the task.
    pub(crate) fn poll<T>(
        &self,
        context: &Context<'_>,
        notices: &[Notice],
        claim: impl FnOnce(&mut Machine) -> Option<T>,
    ) -> Poll<T> {
        let mut turn = self.lock();
        let answer = claim(&mut turn.machine).map_or(Poll::Pending, Poll::Ready);
        let Turn { waiters, stale, .. } = &mut *turn;
        // The notice of a result that is claimed may still come.
        let wait = |notice: &Notice| match answer {
            Poll::Ready(_) => waiters.remove(*notice),
            Poll::Pending => waiters.add(*notice, context.waker()),
        };
        let mut last = None;
        notices.iter().filter_map(wait).for_each(|waker| stale.extend(last.replace(waker)));
        turn.unlock_and_drop(last);
        answer
    }

    /// Removes the waker of the task that waited for this notice.
    pub(crate) fn stop_waiting(&self, notice: Notice) {
        let mut turn = self.lock();
        let waker = turn.waiters.remove(notice);
        turn.unlock_and_drop(waker);
    }

    /// Asks the streams of the machine, and wakes the driver if it may read a console again.
    pub(super) fn poll_stream<T>(&self, ask: impl FnOnce(&mut Turn<R>) -> T) -> T {
        let mut turn = self.lock();
        let answer = ask(&mut turn);
        let Turn { sources, streams, machine, run, .. } = &mut *turn;
        if sources.resume(|channel| streams.hold(*run, channel, machine)) {
            turn.wake_driver();
        }
        turn.unlock();
        answer
    }

    /// Ends the machine if it has not ended. `None` means that the last handle was dropped, `Some` that the driver of
    /// this run was dropped: an executor drops it, so a panic of code of the caller ends here.
    pub(crate) fn end_run(self: &Arc<Self>, run: Option<u64>) {
        let mut turn = self.lock();
        // In a child of `fork(2)`, the parent uses the machine, and shares the reactor.
        if !self.0.is_here() || run.is_some_and(|run| run != turn.run) {
            return;
        }
        turn.is_last |= run.is_none();
        turn.end_rest(self);
        resume(turn.unlock_caught().filter(|_| run.is_none()));
    }
}

impl<R: Reactor> Driver<R> {
    /// Begins a run, and returns its driver.
    pub(crate) fn launch(shared: &Arc<SharedMachine<R>>) -> Result<Self, Misuse> {
        let reactor = R::current()?;
        // Of no run yet. A reactor that panics below drops it after the lock, which ends the run.
        let mut driver = Self { shared: Arc::clone(shared), timer: reactor.timer(), run: u64::MAX };
        let mut turn = shared.lock();
        let now = turn.clock.now();
        let Turn { machine, host, sources, .. } = &mut *turn;
        if machine.outcome().is_some() {
            // No driver polls what was still to be completed when the run before ended.
            host.reap(machine, now, sources);
        }
        if let Err(misuse) = turn.machine.launch(now) {
            turn.unlock();
            return Err(misuse);
        }
        let before = mem::replace(&mut turn.sources, Sources::on(reactor));
        turn.replaced.push(before);
        turn.rest = None;
        turn.run += 1;
        // The driver of the run has a new timer.
        (turn.until, turn.is_armed, turn.yielded) = (None, false, None);
        turn.waiters.clear_woken();
        driver.run = turn.run;
        // The driver was not polled yet, so there is no task to wake.
        turn.serve(now);
        turn.unlock();
        Ok(driver)
    }
}

impl<R: Reactor> Turn<R> {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            host: Host::default(),
            clock: Clock::new(),
            sources: Sources::default(),
            streams: Streams::default(),
            driver: Waker::noop().clone(),
            run: 0,
            rest: None,
            yielded: None,
            until: None,
            is_armed: false,
            waiters: Waiters::default(),
            is_last: false,
            unused: None,
            replaced: Vec::new(),
            moved: Vec::new(),
            stale: Vec::new(),
            awake: Vec::new(),
        }
    }

    /// Carries out the effects of the machine, sends what is outgoing, and collects the wakers whom the notices
    /// concern.
    pub(crate) fn serve(&mut self, now: Moment) {
        self.host.serve(&mut self.machine, now, &mut self.sources);
        while let Some(notice) = self.machine.poll_notice() {
            self.waiters.take(notice, &mut self.awake);
        }
        self.streams.take_due(self.run, &self.machine, &mut self.awake);
    }

    /// Wakes the driver when its timer would fire too late, when the reactor has a new source that it does not watch
    /// yet, and when the machine has ended. Without that, a shorter deadline passes unobserved, or bytes stay unread.
    pub(crate) fn nudge_driver(&mut self) {
        let deadline = self.machine.deadline().map(|(until, _)| until);
        let is_late = deadline.is_some_and(|at| self.until.is_none_or(|until| at < until));
        if let Some(rest) = &self.rest {
            rest.look();
        } else if self.sources.take_changed() || is_late || self.machine.outcome().is_some() {
            self.wake_driver();
        }
    }

    fn wake_driver(&mut self) {
        let driver = self.driver.clone();
        self.awake.push(driver);
    }

    /// Wakes all tasks: the machine has ended, and no source of it wakes one any longer.
    pub(super) fn wake_all(&mut self) {
        self.waiters.take_all(&mut self.awake);
        self.wake_driver();
    }

    /// Drives the machine until nothing is left to do for now, or until other tasks should run.
    fn drive(&mut self, timer: &mut R::Timer, context: &mut Context<'_>) -> Poll<()> {
        if self.yields_again() {
            self.awake.push(context.waker().clone());
            return Poll::Pending;
        }
        for _ in 0..ROUNDS {
            let now = self.clock.now();
            self.serve(now);
            if self.machine.outcome().is_some() {
                return Poll::Ready(());
            }
            let Self { sources, streams, host, machine, run, .. } = self;
            sources.take_changed();
            let (run, hold) = (*run, &*streams);
            let any = sources.absorb(context, host, machine, |channel, machine| hold.hold(run, channel, machine), now);
            if sources.has_failed() || (!any && !self.has_timed_out(timer, context, now)) {
                self.yielded = None;
                return Poll::Pending;
            }
        }
        self.yielded = self.yielded.or(Some((0, self.clock.now())));
        self.awake.push(context.waker().clone());
        Poll::Pending
    }

    /// Returns whether a task should first claim the result that it was woken for, which it does when it is polled. The
    /// task of a batch is woken for the last result alone, so the others delay nothing. Otherwise what the driver reads next
    /// could drop events from a queue, or output from a console, that the task was about to read.
    fn yields_again(&mut self) -> bool {
        let Some((yielded, since)) = &mut self.yielded else { return false };
        let now = self.clock.now();
        let is_due = self.machine.deadline().is_some_and(|(due, _)| due <= now);
        if !self.waiters.has_woken() || self.machine.outcome().is_some() {
            (*yielded, *since) = (0, now);
        } else if *yielded < TURNS && now.since(*since) < YIELDED_WITHIN && !is_due {
            *yielded += 1;
            return true;
        }
        false
    }

    /// Returns whether the timer has fired; then it also reports the deadline, if that has passed. Otherwise the timer
    /// wakes the task.
    ///
    /// The timer is set only when it would fire too late, and polled only when it may have fired, and not for each
    /// command, since both are calls of the reactor. When it fires early, no deadline has passed, and it is set again.
    fn has_timed_out(&mut self, timer: &mut R::Timer, context: &mut Context<'_>, now: Moment) -> bool {
        let Some((due, _)) = self.machine.deadline() else {
            // A timer that has passed while nothing was due does not fire again: the next deadline sets it.
            if self.until.is_some_and(|until| until <= now.after(EARLY)) {
                (self.until, self.is_armed) = (None, false);
            }
            return false;
        };
        if self.until.is_none_or(|until| due < until) {
            (self.until, self.is_armed) = (Some(due), false);
            timer.set(self.clock.instant(due));
        }
        if self.is_armed && self.until.is_some_and(|until| now.after(EARLY) < until) {
            return false;
        }
        let has_fired = timer.poll(context).is_ready();
        self.is_armed = !has_fired;
        if has_fired {
            self.until = None;
            self.host.check_deadline(&mut self.machine, self.clock.now());
        }
        has_fired
    }
}

impl<R: Reactor> Future for Driver<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, timer, run } = &mut *self;
        let mut turn = shared.lock();
        if turn.run != *run {
            return Poll::Ready(());
        }
        if !turn.driver.will_wake(context.waker()) {
            let before = mem::replace(&mut turn.driver, context.waker().clone());
            turn.stale.push(before);
            turn.is_armed = false;
        }
        let mut state = if turn.rest.is_none() { turn.drive(timer, context) } else { Poll::Pending };
        if turn.sources.has_failed() {
            turn.end_rest(shared);
        }
        if turn.machine.outcome().is_some() {
            state = Poll::Ready(());
        }
        // Unwinding would end the driver, and with it the machine of all callers.
        drop(turn.unlock_caught());
        state
    }
}

/// Prints the [`Machine`] that it drives, or `Driver(in use)` while another thread holds the lock: printing does not
/// wait.
impl<R: Reactor> fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.shared).finish()
    }
}

impl<R: Reactor> fmt::Debug for SharedMachine<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter is code of the caller, which may call the machine: it is called after the lock was released.
        f.write_str(self.peek(|machine| format!("{machine:?}")).as_deref().unwrap_or("in use"))
    }
}

impl<R: Reactor> Drop for Driver<R> {
    fn drop(&mut self) {
        self.shared.end_run(Some(self.run));
    }
}

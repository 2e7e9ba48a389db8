//! Decides how a machine is shared between the tasks that use it and the one that drives it.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use qemu_machine_core::{Config, HostFault, Input, Machine, Misuse, Moment, Notice, Service};
use qemu_machine_host::{Clock, Host, try_lock};
use smol::Timer;

use crate::wires::Wires;

/// A machine with its host side, shared by its handles and its driver.
pub(crate) struct Shared(Mutex<Turn>);

/// What whoever holds the lock may turn.
struct Turn {
    machine: Machine,
    host: Host,
    wires: Wires,
    clock: Clock,
    driver: Waker,
    /// Which run it is: a driver drives one.
    run: u64,
    /// When the driver wakes up by itself: not later than the deadline.
    until: Option<Moment>,
    /// Who waits for what.
    waiting: Vec<(Notice, Waker)>,
    /// Whom to wake as soon as the lock is free: a waker may run code that wants it.
    awake: Vec<Waker>,
}

/// The lock.
struct Guard<'a>(MutexGuard<'a, Turn>);

impl Guard<'_> {
    /// Gives the lock back, and then wakes whom it concerns.
    fn unlock(self) {
        self.release(Waker::wake);
    }

    /// Gives the lock back, and then drops the wakers of those who do not wait any more: a waker may be the last to
    /// hold a task, and dropping that runs code as well.
    fn discard(self) {
        self.release(drop);
    }

    fn release(mut self, act: impl Fn(Waker)) {
        // It is one at most, mostly, and then the place is kept for the next.
        let last = self.awake.pop();
        let others = if self.awake.is_empty() { Vec::new() } else { std::mem::take(&mut self.awake) };
        drop(self);
        others.into_iter().chain(last).for_each(act);
    }
}

impl Deref for Guard<'_> {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        &self.0
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Turn {
        &mut self.0
    }
}

/// How often the driver goes round before other tasks get their turn: what so many rounds bring fits the queue of a
/// subscription, whatever events are in it, for each of QEMU's is of 70 bytes at least.
const ROUNDS: usize = 2;

/// The future that drives a machine. It is done when the machine has ended and is cleaned up.
///
/// As long as nobody polls it, nothing happens: no reply comes and no deadline passes.
///
/// Dropped before that, it kills the machine and cleans up: whoever waits for something gets an answer.
#[must_use = "a machine is driven by polling its driver"]
pub struct Driver {
    shared: Arc<Shared>,
    timer: Timer,
    run: u64,
}

impl Shared {
    pub(crate) fn new(machine: Machine) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Turn {
            machine,
            host: Host::default(),
            wires: Wires::default(),
            clock: Clock::new(),
            driver: Waker::noop().clone(),
            run: 0,
            until: None,
            waiting: Vec::new(),
            awake: Vec::new(),
        })))
    }

    fn lock(&self) -> Guard<'_> {
        // A task that panicked while it held the lock left a machine that is as good as before its call.
        Guard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks something of the machine, and carries out at once what follows from it. What is asked here and below runs
    /// under the lock, so it calls nothing that is the caller's.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let answer = ask(&mut turn.machine, now);
        turn.settle(now);
        turn.nudge_driver();
        turn.unlock();
        answer
    }

    /// Takes something that is there already. Nothing follows from that for the machine, or for whoever turns it.
    pub(crate) fn take<T>(&self, take: impl FnOnce(&mut Machine) -> T) -> T {
        take(&mut self.lock().machine)
    }

    /// Looks at the machine, unless somebody is at it.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        try_lock(&self.0).map(|turn| look(&turn.machine))
    }

    /// Waits for an answer that one of these facts announces. Nobody else waits for the same fact.
    pub(crate) async fn until<T>(&self, news: &[Notice], mut answer: impl FnMut(&mut Machine) -> Option<T>) -> T {
        std::future::poll_fn(|context| self.poll(context, news, &mut answer)).await
    }

    /// Looks for an answer that one of these facts announces; if there is none yet, the task is woken when it is.
    pub(crate) fn poll<T>(
        &self,
        context: &Context<'_>,
        news: &[Notice],
        answer: impl FnOnce(&mut Machine) -> Option<T>,
    ) -> Poll<T> {
        let mut turn = self.lock();
        if let Some(answer) = answer(&mut turn.machine) {
            return Poll::Ready(answer);
        }
        for notice in news {
            turn.wake_on(*notice, context.waker());
        }
        turn.unlock();
        Poll::Pending
    }

    /// Nobody waits for this fact any more.
    pub(crate) fn stop_waiting(&self, news: Notice) {
        let mut turn = self.lock();
        turn.dismiss(|other| *other == news);
        turn.discard();
    }

    /// Ends the machine, if it has not ended: its last handle goes away, or the driver of this run.
    pub(crate) fn end(&self, run: Option<u64>) {
        let mut turn = self.lock();
        if run.is_some_and(|run| run != turn.run) {
            return;
        }
        let Turn { machine, host, clock, .. } = &mut *turn;
        if machine.outcome().is_none() {
            host.end(machine, *clock);
        }
        let now = clock.now();
        turn.settle(now);
        // What the reactor still holds of it.
        turn.wires = Wires::default();
        turn.dismiss(|_| true);
        let driver = turn.driver.clone();
        turn.awake.push(driver);
        turn.unlock();
    }

    /// How to attach to a port of the machine.
    pub(crate) fn port(&self, port: Service) -> Result<Config, Misuse> {
        self.lock().host.port(port)
    }

    pub(crate) fn read_log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.lock().host.read_log(limit)
    }
}

impl Driver {
    /// Begins a run, and gives the driver of it.
    pub(crate) fn launch(shared: &Arc<Shared>) -> Result<Self, Misuse> {
        let mut turn = shared.lock();
        let now = turn.clock.now();
        turn.machine.launch(now)?;
        turn.run += 1;
        // The timer is a new one.
        turn.until = None;
        let run = turn.run;
        // Nobody drives it yet, and so nobody has to be told what follows.
        turn.settle(now);
        turn.unlock();
        Ok(Self { shared: Arc::clone(shared), timer: Timer::never(), run })
    }
}

impl Turn {
    /// Does what the machine orders, sends what it says, and wakes whom it concerns.
    fn settle(&mut self, now: Moment) {
        self.host.serve(&mut self.machine, now, &mut self.wires);
        while let Some(notice) = self.machine.poll_notice() {
            self.dismiss(|other| *other == notice);
        }
    }

    /// Lets those who wait for such facts go.
    fn dismiss(&mut self, which: impl Fn(&Notice) -> bool) {
        let Self { waiting, awake, .. } = self;
        waiting.retain(|(notice, waker)| {
            let gone = which(notice);
            awake.extend(gone.then(|| waker.clone()));
            !gone
        });
    }

    fn wake_on(&mut self, notice: Notice, waker: &Waker) {
        match self.waiting.iter_mut().find(|(other, _)| *other == notice) {
            Some((_, known)) => {
                let before = std::mem::replace(known, waker.clone());
                self.awake.extend((!before.will_wake(waker)).then_some(before));
            }
            None => self.waiting.push((notice, waker.clone())),
        }
    }

    /// The driver has to look again when it would wake up too late, or does not know yet what to wait for.
    fn nudge_driver(&mut self) {
        let deadline = self.machine.deadline().map(|(until, _)| until);
        let late = deadline.is_some_and(|at| self.until.is_none_or(|until| at < until));
        if self.wires.take_changed() || late || self.machine.outcome().is_some() {
            let driver = self.driver.clone();
            self.awake.push(driver);
        }
    }

    /// Turns the crank until there is nothing more to do for now, or others should get their turn.
    fn go_round(&mut self, timer: &mut Timer, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let now = self.clock.now();
            self.settle(now);
            if self.machine.outcome().is_some() {
                return Poll::Ready(());
            }
            if !self.absorb(context, now) && !self.time_passed(timer, context) {
                return Poll::Pending;
            }
        }
        self.awake.push(context.waker().clone());
        Poll::Pending
    }

    fn absorb(&mut self, context: &mut Context<'_>, now: Moment) -> bool {
        let Self { wires, host, machine, .. } = self;
        wires.take_changed();
        wires.absorb(context, host, machine, now)
    }

    /// Whether the deadline has passed; if not, the task is woken when it does. The timer is set when it would be late,
    /// and not for each command: when it is early, nothing has passed, and it is set again.
    fn time_passed(&mut self, timer: &mut Timer, context: &mut Context<'_>) -> bool {
        let Some((due, _)) = self.machine.deadline() else { return false };
        if self.until.is_none_or(|until| due < until) {
            self.until = Some(due);
            match self.clock.instant(due) {
                Some(at) => timer.set_at(at),
                None => timer.clear(),
            }
        }
        let passed = Pin::new(timer).poll(context).is_ready();
        if passed {
            self.until = None;
            self.machine.handle(self.clock.now(), Input::TimePassed);
        }
        passed
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, timer, run } = &mut *self;
        let mut turn = shared.lock();
        if turn.run != *run {
            return Poll::Ready(());
        }
        turn.driver.clone_from(context.waker());
        let state = turn.go_round(timer, context);
        turn.unlock();
        state
    }
}

/// The [`Machine`] that it drives, or `Driver(in use)` while another thread is at it: nobody is waited for.
impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.shared).finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written to is the caller's, and may ask the machine itself: not under the lock.
        f.write_str(self.peek(|machine| format!("{machine:?}")).as_deref().unwrap_or("in use"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.end(Some(self.run));
    }
}

//! Machine that callers on several threads share, and the thread that drives it.
//!
//! The pattern is Leader/Followers: of the callers that wait, one leads. It waits for the descriptors and reports what
//! they deliver; the others follow, and each waits until the leader has what it waits for. So a caller gets its reply
//! without a switch of threads. While no caller waits, the supervisor drives the machine.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use qemu_machine_core::{HostFault, Machine, Moment};
use qemu_machine_host::{Clock, Host, Local, Next, Poll, Poller, Ready, Source, Supervised, Supervisor, Wake, fault};

use crate::cancel::{Early, Waiting, WakeCallers};
use crate::followers::{AT_ONCE, Concern, Followers};
use crate::wires::{Wire, Wires};

/// A machine with its host side, shared by its callers and the supervisor.
#[derive(Debug)]
pub struct SharedMachine {
    turn: Local<Turn>,
    poller: Arc<Poller>,
    supervisor: Arc<Supervisor>,
}

/// State of the machine that the owner of the lock may drive.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) machine: Machine,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    wires: Wires,
    token: u64,
    lead: Lead,
    /// The callers that wait for the leader.
    followers: Followers,
    watch: SupervisorWatch,
    /// How often a caller has led. From it the supervisor sees whether callers were active during a lease.
    leads: u64,
    /// Whether the last handle was dropped.
    is_ending: bool,
}

/// The caller that waits for the descriptors, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    None,
    /// A caller leads, at most until this moment. `None` means that it waits without a timeout.
    Caller {
        until: Option<Moment>,
        /// Condition that the caller waits for.
        concern: Concern,
    },
}

/// When the supervisor next calls the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SupervisorWatch {
    /// When a descriptor is ready.
    Armed,
    /// When the lease ends. `leads` is how often callers had led when it began.
    Leased { leads: u64 },
    /// Not at all: the last caller that leaves arms the watch.
    Off,
}

impl SharedMachine {
    pub(crate) fn new(machine: Machine) -> Result<Arc<Self>, HostFault> {
        let fault = |error| fault("watch a machine".into(), &error);
        let supervisor = Supervisor::get().map_err(fault)?;
        let poller = Arc::new(Poller::new().map_err(fault)?);
        let turn = Turn::new(machine, Wires(Some(Arc::clone(&poller))), SupervisorWatch::Off);
        let turn = Local::new(turn, Turn::forked);
        let shared = Arc::new(Self { turn, poller, supervisor });
        // The lock is taken after the call on the right.
        shared.lock().token = shared.supervisor.supervise(Arc::clone(&shared) as Arc<dyn Supervised>).map_err(fault)?;
        Ok(shared)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Turn>> {
        self.turn.try_lock()
    }

    /// Releases the lock, and then wakes the callers that are due, a few at once. A caller that is woken before finds the
    /// lock taken, and sleeps once more. Returns whether it has taken the lock again, for those beyond the first few.
    ///
    /// The callers that become due meanwhile are left to those that make them due, which call this as well: a caller that
    /// leaves would go on waking others without bound.
    ///
    /// Between the release and the wake-up, the callers that were taken are due and asleep. Another caller that leaves then
    /// [counts on them](Followers::notify_one), so no caller leads until this thread has woken them.
    fn unlock<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) -> bool {
        let passes = turn.followers.due.len().div_ceil(AT_ONCE);
        for pass in 1..=passes {
            let due = turn.followers.take_due();
            drop(turn);
            due.iter().flatten().for_each(|notified| notified.notify_one());
            if pass == passes {
                return passes > 1;
            }
            turn = self.lock();
        }
        false
    }

    /// Calls the machine, and waits until `claim` returns the result. The deadlines of the machine bound the wait.
    ///
    /// When the call is [cancelled](crate::Cancel), `on_early` disowns what was asked for and returns the result; `None`
    /// means that the call goes on to its result. When it is going to panic, `on_early` only disowns.
    ///
    /// The closures run under the lock, so they must call no code of the user, which may call the machine: commands are
    /// encoded before, and replies parsed after.
    pub(crate) fn call<T, E, A>(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Machine, Moment) -> Result<T, E>,
        mut claim: impl FnMut(&mut Machine, &mut T) -> Option<A>,
        on_early: impl FnOnce(&mut Machine, &mut T, Early) -> Option<A>,
    ) -> Result<A, E>
    where
        Concern: for<'a> From<&'a T>,
    {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let mut asked = ask(&mut turn.machine, now)?;
        let mut on_early = Some(on_early);
        Ok(self.wait(turn, now, |_, machine, early| {
            let answer = match early {
                None => claim(machine, &mut asked),
                Some(early) => on_early.take().and_then(|on_early| on_early(machine, &mut asked, early)),
            };
            answer.ok_or_else(|| Concern::from(&asked))
        }))
    }

    /// Waits until `claim` returns the result of an earlier call, as [`call`](Self::call). Its last argument is why the call
    /// ends before, if it does.
    pub(crate) fn wait_for<A>(
        self: &Arc<Self>,
        concern: Concern,
        mut claim: impl FnMut(&mut Host, &mut Machine, Option<Early>) -> Option<A>,
    ) -> A {
        let turn = self.lock();
        let now = turn.clock.now();
        self.wait(turn, now, |host, machine, early| claim(host, machine, early).ok_or(concern))
    }

    /// Waits until `claim` returns the result. Its error is what the caller waits for.
    fn wait<'a, A>(
        self: &'a Arc<Self>,
        mut turn: MutexGuard<'a, Turn>,
        mut now: Moment,
        mut claim: impl FnMut(&mut Host, &mut Machine, Option<Early>) -> Result<A, Concern>,
    ) -> A {
        let waiting = Waiting::begin(|| Arc::downgrade(self) as Weak<dyn WakeCallers>);
        let mut was_cancelled = false;
        loop {
            self.serve(&mut turn, now);
            let Turn { host, machine, .. } = &mut *turn;
            // A call that is going to panic claims nothing, which would be lost with it.
            let mut early = host.has_panicked().then_some(Early::Panicked(now));
            let mut answer = claim(host, machine, early);
            let is_cancelled = || waiting.as_ref().is_some_and(Waiting::is_cancelled);
            if answer.is_err() && early.is_none() && !was_cancelled && is_cancelled() {
                was_cancelled = true;
                early = Some(Early::Cancelled(now));
                answer = claim(host, machine, early);
            }
            if early.is_some() {
                self.serve(&mut turn, now);
            }
            if turn.host.can_resume_console(&turn.machine) {
                // The claim has read the console. The caller that leads may wait for what the guest prints next.
                self.serve(&mut turn, now);
            }
            if let Some(panic) = turn.host.take_panic() {
                self.hand_over(turn);
                panic.resume();
            }
            let concern = match answer {
                Err(concern) => concern,
                Ok(answer) => {
                    self.hand_over(turn);
                    return answer;
                }
            };
            // The clock is read once for each wake-up, so that all inputs of one wake-up have the same time.
            (turn, now) = match turn.lead {
                Lead::None => self.lead(turn, now, concern),
                Lead::Caller { .. } => Self::follow(turn, concern),
            };
        }
    }

    /// Waits for the descriptors without the lock, and reports what they deliver.
    fn lead<'a>(
        &'a self,
        mut turn: MutexGuard<'a, Turn>,
        now: Moment,
        concern: Concern,
    ) -> (MutexGuard<'a, Turn>, Moment) {
        turn.leads += 1;
        if turn.watch == SupervisorWatch::Armed {
            // While callers are active, the descriptors must not wake the supervisor as well: it would run for every
            // reply, for nothing.
            turn.watch = SupervisorWatch::Leased { leads: turn.leads };
            self.supervisor.lease(turn.token, self.source());
        }
        let (until, clock) = (turn.machine.deadline().map(|(until, _)| until), turn.clock);
        turn.lead = Lead::Caller { until, concern };
        // With many callers to wake, time has passed.
        let now = if self.unlock(turn) { clock.now() } else { now };
        let ready = self.poller.wait(until.map(|until| until.since(now)));
        let mut turn = self.lock();
        turn.lead = Lead::None;
        let now = turn.absorb(ready);
        (turn, now)
    }

    /// Waits until the leader has what this caller waits for, or returns.
    fn follow(mut turn: MutexGuard<'_, Turn>, concern: Concern) -> (MutexGuard<'_, Turn>, Moment) {
        let (place, notified) = turn.followers.add(concern);
        // This caller may have made others due, as by a disconnect.
        turn.followers.wake_due();
        let mut turn = notified.wait(turn).unwrap_or_else(PoisonError::into_inner);
        turn.followers.remove(place);
        let now = turn.clock.now();
        (turn, now)
    }

    /// Carries out the effects of the machine, sends what is outgoing, and wakes the callers whom the notices concern.
    pub(crate) fn serve(&self, turn: &mut Turn, now: Moment) {
        turn.host.serve(&mut turn.machine, now, &mut turn.wires);
        let mut concerns_leader = false;
        while let Some(notice) = turn.machine.poll_notice() {
            turn.followers.notify(notice);
            concerns_leader |= matches!(turn.lead, Lead::Caller { concern, .. } if concern.is(notice));
        }
        if let Lead::Caller { until, .. } = turn.lead {
            // The leader may be the one whom a notice concerns: after a disconnect by another thread, for example.
            let is_earlier = |at: Moment| until.is_none_or(|until| at < until);
            if concerns_leader || turn.machine.deadline().is_some_and(|(at, _)| is_earlier(at)) {
                self.poller.wake();
            }
        }
    }

    /// Releases the lock, and leaves the machine to a leader, a follower or the supervisor. Without one of them, no
    /// byte would be read and no deadline observed.
    pub(crate) fn hand_over(&self, mut turn: MutexGuard<'_, Turn>) {
        if turn.lead != Lead::None || turn.followers.notify_one() {
            self.unlock(turn);
            return;
        }
        let (token, has_deadline) = (turn.token, turn.machine.deadline().is_some());
        if turn.watch == SupervisorWatch::Off {
            turn.watch = SupervisorWatch::Armed;
            self.supervisor.arm(token, self.source());
        }
        drop(turn);
        if has_deadline {
            // No caller is left to observe the deadline, so the supervisor must.
            self.supervisor.look(token);
        }
    }

    /// Ends the machine after the last handle was dropped, and wakes the callers that wait through weak handles. The
    /// supervisor drops its own reference, and reaps a process that the kernel does not release yet.
    pub(crate) fn end_now(&self) {
        if !self.turn.is_here() {
            // The parent uses the machine, and its supervisor is no thread of this process.
            return;
        }
        let mut turn = self.lock();
        let Turn { machine, host, clock, wires, .. } = &mut *turn;
        host.end_watched(machine, *clock, wires);
        // A weak handle may keep this machine.
        let unused = host.take_unused();
        turn.is_ending = true;
        let (token, now) = (turn.token, turn.clock.now());
        self.serve(&mut turn, now);
        let panic = turn.host.take_panic();
        self.unlock(turn);
        drop(unused);
        self.supervisor.look(token);
        if let Some(panic) = panic {
            panic.resume();
        }
    }
}

impl WakeCallers for SharedMachine {
    fn wake_callers(&self) {
        let mut turn = self.lock();
        turn.followers.notify_all();
        if turn.lead != Lead::None {
            self.poller.wake();
        }
        self.unlock(turn);
    }
}

impl Turn {
    fn new(machine: Machine, wires: Wires, watch: SupervisorWatch) -> Self {
        Self {
            machine,
            host: Host::default(),
            clock: Clock::new(),
            wires,
            token: 0,
            lead: Lead::None,
            followers: Followers::default(),
            watch,
            leads: 0,
            is_ending: false,
        }
    }

    /// Returns the state that a child of `fork(2)` has instead. The watch counts as armed: arming it would change the
    /// poller of the parent's supervisor.
    fn forked() -> Self {
        Self::new(Machine::forked(), Wires(None), SupervisorWatch::Armed)
    }

    /// Reports what a wait delivered, and returns the moment of the report.
    fn absorb(&mut self, ready: Ready) -> Moment {
        let Self { machine, host, wires, clock, .. } = self;
        let now = clock.now();
        for token in ready.tokens() {
            match Wire::from_token(*token) {
                Wire::Process => host.reap(machine, now, wires),
                // The poller is level-triggered (`epoll(7)`): unread bytes are reported by the next wait.
                Wire::Channel(channel) => drop(host.receive(channel, machine, now, wires)),
            }
        }
        host.check_deadline(machine, now);
        now
    }
}

impl Supervised for SharedMachine {
    fn source(&self) -> Source<'_> {
        Source::Poller(&self.poller)
    }

    fn turn(&self, wake: Wake) -> Next {
        // A caller holds the lock. The supervisor does not wait for it: all other machines would wait as well.
        let Some(mut turn) = self.try_lock() else { return Next::Lease };
        let has_callers = turn.lead != Lead::None || !turn.followers.is_empty();
        match (wake, has_callers, turn.watch) {
            // The callers that wait for the end were woken, and none of them drives the machine any more.
            (_, true, _) if turn.is_ending && turn.machine.outcome().is_some() => return Next::Drop,
            (Wake::Ready, true, _) => {
                turn.watch = SupervisorWatch::Leased { leads: turn.leads };
                return Next::Lease;
            }
            (Wake::Lease, _, SupervisorWatch::Leased { leads }) if leads != turn.leads => {
                turn.watch = SupervisorWatch::Leased { leads: turn.leads };
                return Next::Lease;
            }
            // One caller has waited for the whole lease. The last caller that leaves arms the watch.
            (Wake::Lease, true, _) => {
                turn.watch = SupervisorWatch::Off;
                return Next::Unwatch;
            }
            _ => {}
        }
        let ready = self.poller.wait(Some(Duration::ZERO));
        let now = turn.absorb(ready);
        self.serve(&mut turn, now);
        let panic = turn.host.take_panic();
        let is_over = turn.is_ending && turn.machine.outcome().is_some();
        if !is_over {
            turn.watch = SupervisorWatch::Armed;
        }
        let until = turn.machine.deadline().and_then(|(until, _)| turn.clock.instant(until));
        self.unlock(turn);
        // It concerns no call. It is code of the caller, which may use the machine when it is dropped.
        drop(panic);
        if is_over { Next::Drop } else { Next::Watch(until) }
    }
}

#[cfg(test)]
mod tests {
    use qemu_machine_core::Config;

    use super::*;

    /// However many callers are due, all are woken, and the lock is taken again only for those beyond eight.
    #[test]
    fn unlock_wakes_all_callers_that_are_due() {
        for (callers, takes_lock_again) in [(0, false), (1, false), (8, false), (9, true), (17, true)] {
            let shared = SharedMachine::new(Machine::new(Config::new("qemu")).unwrap()).unwrap();
            let mut turn = shared.lock();
            (0..callers).for_each(|_| drop(turn.followers.add(Concern::Any)));
            turn.followers.notify_all();
            assert_eq!(shared.unlock(turn), takes_lock_again, "{callers}");
            assert_eq!(shared.lock().followers.due.len(), 0, "{callers}");
        }
    }
}
